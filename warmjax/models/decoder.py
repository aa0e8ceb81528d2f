"""The decoder of all supported families: token ids in, hidden states out, layers stacked and scanned.

Randomness, adapters and the cache are arguments; the module holds parameters and its spec. `__call__` computes whole
rows (training, scoring, prefill), `step` one token a row over a cache (generation), `logits` the output head.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from warmjax.models import cache as kv
from warmjax.models import layers as ly
from warmjax.models.attention import SAVED, self_attention
from warmjax.models.cache import Cache
from warmjax.models.products import hidden_dtype
from warmjax.models.quantization import Quantization
from warmjax.models.spec import Spec
from warmjax.sharding import constrain

StackedAdapters = Mapping[str, Mapping[str, Array]]
"""Name of a linear map → {`a` [L, in, R], `b` [L, R, out]}, `b` already multiplied by alpha / R."""

_KEPT = ('queries', 'keys', 'values', SAVED, 'residual')

REMAT = {
    'none': jax.checkpoint_policies.everything_saveable,
    'names': jax.checkpoint_policies.save_only_these_names(*_KEPT, 'gate', 'up'),
    'attention': jax.checkpoint_policies.save_only_these_names(*_KEPT),
    'full': jax.checkpoint_policies.nothing_saveable,
}
"""What of a layer is kept for the backward pass. A frozen weight needs no gradient, so a linear map's input is not
needed: `names` keeps just enough that no matrix product is computed twice (norms, rotations, SwiGLU's product are),
`attention` computes gate and up again, `full` all of the layer; `none` keeps whatever JAX would."""

Remat = Literal['none', 'names', 'attention', 'full']


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions; its queries and keys may be normed per head (Qwen-3)."""

    def __init__(self, spec: Spec, dtype, rngs: nnx.Rngs):
        self.spec = spec
        L, D, H = spec.num_layers, spec.width, spec.head_dim
        queries, keys = spec.num_heads * H, spec.num_kv_heads * H
        self.q_proj = ly.Linear('q_proj', L, (D, queries), ('embed', 'heads'), spec.qkv_bias, dtype, rngs)
        self.k_proj = ly.Linear('k_proj', L, (D, keys), ('embed', 'kv_heads'), spec.qkv_bias, dtype, rngs)
        self.v_proj = ly.Linear('v_proj', L, (D, keys), ('embed', 'kv_heads'), spec.qkv_bias, dtype, rngs)
        self.o_proj = ly.Linear('o_proj', L, (queries, D), ('heads', 'embed'), False, dtype, rngs)
        if spec.qk_norm:
            self.q_norm = ly.RMSNorm((L, H), ('layers', None), spec.norm_eps, dtype)
            self.k_norm = ly.RMSNorm((L, H), ('layers', None), spec.norm_eps, dtype)

    def project(self, x: Float[Array, '... D'], angles, adapters, dropout) -> tuple[Array, Array, Array]:
        """Returns queries [..., N, H], keys and values [..., K, H], queries and keys rotated."""
        heads = (*x.shape[:-1], -1, self.spec.head_dim)
        maps = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (y.reshape(heads) for y in ly.project(x, maps, adapters, dropout))
        if self.spec.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = ly.rotate(q, *angles), ly.rotate(k, *angles)
        return checkpoint_name(q, 'queries'), checkpoint_name(k, 'keys'), checkpoint_name(v, 'values')

    def output(self, heads: Float[Array, '... N H'], adapters, dropout) -> Float[Array, '... D']:
        return ly.project(heads.reshape(*heads.shape[:-2], -1), (self.o_proj,), adapters, dropout)[0]


class MLP(nnx.Module):
    """SwiGLU: down(silu(gate x) * up x)."""

    def __init__(self, spec: Spec, dtype, rngs: nnx.Rngs):
        L, D, F = spec.num_layers, spec.width, spec.mlp_dim
        self.gate_proj = ly.Linear('gate_proj', L, (D, F), ('embed', 'mlp'), False, dtype, rngs)
        self.up_proj = ly.Linear('up_proj', L, (D, F), ('embed', 'mlp'), False, dtype, rngs)
        self.down_proj = ly.Linear('down_proj', L, (F, D), ('mlp', 'embed'), False, dtype, rngs)

    def __call__(self, x: Float[Array, '... D'], adapters, dropout) -> Float[Array, '... D']:
        gate, up = ly.project(x, (self.gate_proj, self.up_proj), adapters, dropout)
        wide = jax.nn.silu(checkpoint_name(gate, 'gate')) * checkpoint_name(up, 'up')
        return ly.project(wide, (self.down_proj,), adapters, dropout)[0]


class Layers(nnx.Module):
    """All layers, their parameters stacked on axis 0; its methods compute one layer, on one slice of that axis."""

    def __init__(self, spec: Spec, dtype, rngs: nnx.Rngs):
        norm = functools.partial(ly.RMSNorm, (spec.num_layers, spec.width), ('layers', None), spec.norm_eps, dtype)
        self.input_layernorm = norm()
        self.attn = Attention(spec, dtype, rngs)
        self.post_attention_layernorm = norm()
        self.mlp = MLP(spec, dtype, rngs)

    def __call__(self, x: Float[Array, 'B T D'], angles, segment_ids, layer, adapters, dropout) -> tuple[Array, tuple]:
        """Computes a layer over whole rows; also returns its keys and values [B, T, K, H]."""
        q, k, v = self.attn.project(self.input_layernorm(x), angles, adapters, dropout)
        heads = self_attention(q, k, v, segment_ids, self.attn.spec.window, layer)
        x = constrain(x + self.attn.output(heads, adapters, dropout), 'batch', None, None)
        x = checkpoint_name(x, 'residual')
        x = x + self.mlp(self.post_attention_layernorm(x), adapters, dropout)
        return constrain(x, 'batch', None, None), (k, v)

    def step(self, x: Float[Array, 'B D'], keys, values, layer, window, angles, seen, slots, adapters):
        """Computes a layer for one token a row, over the cache's buffers, which it returns updated."""
        q, k, v = self.attn.project(self.input_layernorm(x), angles, adapters, None)
        keys, values = kv.write(keys, values, k, v, slots, layer)
        mine = kv.layer(keys, layer), kv.layer(values, layer)
        x = x + self.attn.output(kv.attend(q, *mine, seen, slots, window), adapters, None)
        return x + self.mlp(self.post_attention_layernorm(x), adapters, None), keys, values


class Decoder(nnx.Module):
    """A causal language model."""

    def __init__(self, spec: Spec, dtype, rngs: nnx.Rngs):
        self.spec = spec
        self.embed_tokens = ly.param(rngs, (spec.vocab_size, spec.width), ('vocab', 'embed'), dtype, 0.02)
        self.layers = Layers(spec, dtype, rngs)
        self.norm = ly.RMSNorm((spec.width,), (None,), spec.norm_eps, dtype)
        self.head_axes = 'VD'
        if not spec.tied:
            stddev = spec.width**-0.5
            self.lm_head = ly.param(rngs, (spec.vocab_size, spec.width), ('vocab', 'embed'), dtype, stddev)

    def __call__(
        self,
        tokens: Int[Array, 'B T'],
        positions: Int[Array, 'B T'],
        segment_ids: Int[Array, 'B T'],
        adapters: StackedAdapters,
        dropout: ly.Dropout | None,
        remat: Remat,
    ) -> tuple[Float[Array, 'B T D'], tuple[Float[Array, 'L B T K H'], Float[Array, 'L B T K H']]]:
        """Computes whole rows.

        Args:
            tokens: token ids; what stands where `segment_ids` is 0 does not matter.
            positions: rotary position of each token.
            segment_ids: which of the sequences packed into a row a token belongs to; 0 is padding.
            adapters: empty for the base model.
            dropout: on the adapters' inputs, or None.
            remat: what of a layer is kept for the backward pass, see `REMAT`.

        Returns:
            Hidden states after the last norm, and every layer's keys and values.
        """
        angles = ly.rotary_angles(self.spec, positions)
        graphdef, states = nnx.split(self.layers)
        keys = None if dropout is None else jax.random.split(dropout.key, self.spec.num_layers)

        def body(x, layer):
            state, index, adapters, key = layer
            mine = None if key is None else ly.Dropout(key, dropout.rate)
            return nnx.merge(graphdef, state)(x, angles, segment_ids, index, adapters, mine)

        x = constrain(self.embed(tokens), 'batch', None, None)
        layers = (states, jnp.arange(self.spec.num_layers), dict(adapters), keys)
        x, key_values = jax.lax.scan(jax.checkpoint(body, policy=REMAT[remat], prevent_cse=False), x, layers)
        return self.norm(x), key_values

    def step(
        self, tokens: Int[Array, 'B'], cache: Cache, adapters: StackedAdapters | tuple
    ) -> tuple[Float[Array, 'B D'], Cache]:
        """Computes one token a row and adds it to the cache; of a model and adapters that `for_steps` returned."""
        x = self.embed(tokens)
        # From a table, which XLA computes once, before the first step: angles of a row's own length it would compute
        # again in every layer, for every head. A full row, which has ended, gets some that do not matter.
        table = ly.rotary_angles(self.spec, jnp.arange(cache.num_slots))
        angles = tuple(x.at[cache.lengths].get(mode='clip') for x in table)
        rest = {'angles': angles, 'seen': cache.seen(), 'slots': cache.lengths}
        x, cache = step_layers(self.layers, x, cache, self.spec.window_sizes(), adapters, rest)
        return self.norm(x), cache

    def for_steps(self, adapters: StackedAdapters, unroll: bool) -> tuple['Decoder', StackedAdapters | tuple]:
        """Prepares model and adapters for `step`, once and outside jit; see `unroll_layers`."""
        return unroll_layers(self, adapters) if unroll else (self, dict(adapters))

    def embed(self, tokens: Int[Array, '...']) -> Float[Array, '... D']:
        """Looks up the hidden states that enter the first layer."""
        return self.embed_tokens[...][tokens].astype(hidden_dtype(self.embed_tokens.dtype))

    def head(self) -> Float[Array, 'V D']:
        """Returns the output head, turned to [D, V] in a model for steps (`head_axes`)."""
        return (self.embed_tokens if self.spec.tied else self.lm_head)[...]

    def logits(self, x: Float[Array, '... D']) -> Float[Array, '... V']:
        """Applies the output head; logits are float32."""
        head = self.head()
        x = x.astype(head.dtype)
        return jnp.einsum(f'...D,{self.head_axes}->...V', x, head, preferred_element_type=jnp.float32)


def abstract(spec: Spec, dtype) -> Decoder:
    """Returns the decoder with shapes in place of arrays."""
    return nnx.eval_shape(lambda: Decoder(spec, dtype, nnx.Rngs(0)))


def quantized(model: Decoder, quantization: Quantization) -> Decoder:
    """Returns a model whose layers' kernels are stored as asked; embedding, head, norms and biases stay as they are.

    For use inside `jax.jit` or `nnx.eval_shape`.
    """
    model = jax.tree.map(lambda x: x, model)
    for linear in ly.linears(model) if quantization != 'none' else ():
        linear.quantize(quantization)
    return model


def is_quantized(model: nnx.Module) -> bool:
    """Tells whether kernels are stored in fewer bits: such a model can be trained around and asked, but not changed."""
    return any(linear.quantization != 'none' for linear in ly.linears(model))


def make(spec: Spec, dtype, seed: int, shardings: Callable[[nnx.State], nnx.State] | None = None) -> Decoder:
    """Makes a decoder with random parameters, each laid out where `shardings(abstract state)` says."""
    graphdef, shapes = nnx.split(abstract(spec, dtype))
    init = jax.jit(
        lambda: nnx.state(Decoder(spec, dtype, nnx.Rngs(seed))),
        out_shardings=None if shardings is None else shardings(shapes),
    )
    return nnx.merge(graphdef, init())


def unrolls_steps(mesh: Mesh) -> bool:
    """Tells whether layers are better unrolled than scanned in `step`.

    They are on CPU, whose backend copies each layer's slice of a scanned stack at every step.
    """
    return mesh.devices.flat[0].platform == 'cpu'


@jax.jit
def unroll_layers(model: nnx.Module, adapters: StackedAdapters) -> tuple[nnx.Module, tuple]:
    """Returns a model whose layers are modules of their own, and adapters layer by layer.

    Kernels and head are turned to [in, out] where that is faster on CPU (`layers.FASTER_TURNED`).
    """
    model = jax.tree.map(lambda x: x, model)
    stack = model.layers
    indices = range(jax.tree.leaves(stack)[0].shape[0])
    model.layers = nnx.List([_turned(_layer(stack, i)) for i in indices])
    if hasattr(model, 'lm_head') and model.lm_head.dtype in ly.FASTER_TURNED:
        model.lm_head, model.head_axes = model.lm_head.replace(model.lm_head[...].T), 'DV'
    return model, tuple(_layer(dict(adapters), i) for i in indices)


def step_layers(
    layers: nnx.Module | nnx.List, x: Float[Array, 'B D'], cache: Cache, windows, adapters, rest: Mapping
) -> tuple[Float[Array, 'B D'], Cache]:
    """Sends one token a row through all layers, in a loop or a scan as the cache is made.

    Args:
        layers: the stack, or a module for each; they have `step(x, keys, values, layer, window, adapters=..., **rest)`.
        windows: how many tokens each layer's tokens see [L], or None.
        adapters: stacked or layer by layer, as the layers are.
    """
    run = _unrolled if cache.is_unrolled else _scanned
    x, keys, values = run(layers, x, cache, windows, adapters, rest)
    return x, cache.advance(keys, values)


def _layer(tree, index: int):
    return jax.tree.map(lambda x: x[index], tree)


def _turned(layer: nnx.Module) -> nnx.Module:
    for linear in ly.linears(layer):
        linear.turn()
    return layer


def _unrolled(layers, x, cache, windows, adapters, rest):
    keys, values = [], []
    for i, (layer, adapter) in enumerate(zip(layers, adapters, strict=True)):
        window = None if windows is None else windows[i]
        x, k, v = layer.step(x, cache.keys[i], cache.values[i], None, window, adapters=adapter, **rest)
        keys.append(k)
        values.append(v)
    return x, tuple(keys), tuple(values)


def _scanned(layers, x, cache, windows, adapters, rest):
    graphdef, states = nnx.split(layers)

    def body(carry, layer):
        state, window, adapter, index = layer
        return nnx.merge(graphdef, state).step(*carry, index, window, adapters=adapter, **rest), None

    indices = jnp.arange(kv.num_layers(cache.keys))
    carry, _ = jax.lax.scan(body, (x, cache.keys, cache.values), (states, windows, adapters, indices))
    return carry

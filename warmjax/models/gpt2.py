"""GPT-2: the same interface as `decoder.Decoder`, another anatomy.

Positions are learnt, norms subtract the mean, every linear map has a bias, queries, keys and values come from one map,
and the head is the embedding. Source: transformers `modeling_gpt2.py`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from warmjax.models import cache as kv
from warmjax.models import layers as ly
from warmjax.models.attention import MASKED, self_attention
from warmjax.models.cache import Cache
from warmjax.models.decoder import REMAT, Remat, StackedAdapters, step_layers, unroll_layers
from warmjax.sharding import constrain


@dataclasses.dataclass(frozen=True)
class GPT2Spec:
    """Dimensions, named as in `spec.Spec`; `max_length` is the number of positions that have been learnt."""

    model_type: str
    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    max_length: int
    norm_eps: float
    tied: bool

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads

    @property
    def num_positions(self) -> int:
        """How many positions a text can have."""
        return self.max_length

    @property
    def num_matmul_params(self) -> int:
        """Weights that enter a matrix product for each token."""
        layer = 4 * self.width**2 + 2 * self.width * self.mlp_dim
        return self.num_layers * layer + self.width * self.vocab_size


_REQUIRED = {
    'vocab_size': 'vocab_size',
    'width': 'n_embd',
    'num_layers': 'n_layer',
    'num_heads': 'n_head',
    'max_length': 'n_positions',
    'norm_eps': 'layer_norm_epsilon',
}
"""Field of GPT2Spec → key of config.json."""

_MUST_BE = {
    'activation_function': ('gelu_new',),
    'scale_attn_weights': (True, None),
    'scale_attn_by_inverse_layer_idx': (False, None),
    'reorder_and_upcast_attn': (False, None),
    'add_cross_attention': (False, None),
    'tie_word_embeddings': (True, None),
}
"""What is computed here; any other value of these keys is refused."""


def spec_from_config(config: Mapping[str, Any], where: str) -> GPT2Spec:
    """Reads the spec out of a config.json.

    Raises:
        ValueError: keys that are missing, or values that are not computed here, all in one message.
    """
    problems = [f"key '{key}' is missing" for key in _REQUIRED.values() if key not in config]
    given = {key: config[key] for key in (*_REQUIRED.values(), 'n_inner') if config.get(key) is not None}
    wrong = [key for key, value in given.items() if not isinstance(value, int | float) or not value > 0]
    problems += [f"key '{key}' expected a positive number, got {given[key]!r}" for key in wrong]
    problems += [
        f"key '{key}' expected one of {list(allowed)}, got {config.get(key)!r}"
        for key, allowed in _MUST_BE.items()
        if config.get(key) not in allowed
    ]
    if not problems and config['n_embd'] % config['n_head']:
        problems.append(f"key 'n_embd' expected a multiple of {config['n_head']} heads, got {config['n_embd']}")
    if problems:
        raise ValueError(
            f'{where}: expected the config of a GPT-2, got\n  '
            + '\n  '.join(problems)
            + '\nuse a checkpoint of a supported family, or mend its config.json'
        )
    fields = {field: config[key] for field, key in _REQUIRED.items()}
    return GPT2Spec(
        model_type='gpt2',
        head_dim=config['n_embd'] // config['n_head'],
        mlp_dim=config.get('n_inner') or 4 * config['n_embd'],
        tied=True,
        **fields,
    )


def config_from_spec(spec: GPT2Spec, dtype: str) -> dict[str, Any]:
    """Writes the spec as a config.json that transformers reads."""
    return {key: getattr(spec, field) for field, key in _REQUIRED.items()} | {
        'architectures': ['GPT2LMHeadModel'],
        'model_type': spec.model_type,
        'n_inner': spec.mlp_dim,
        'activation_function': 'gelu_new',
        'tie_word_embeddings': True,
        'torch_dtype': dtype,
    }


class LayerNorm(nnx.Module):
    """Norm over the mean and variance of the last axis, computed in float32."""

    def __init__(self, shape: tuple[int, ...], axes: tuple[str | None, ...], eps: float, dtype):
        self.eps = eps
        self.weight = nnx.Param(jnp.ones(shape, dtype), logical_axes=axes)
        self.bias = nnx.Param(jnp.zeros(shape, dtype), logical_axes=axes)

    def __call__(self, x: Float[Array, '... D']) -> Float[Array, '... D']:
        y = x.astype(jnp.float32)
        y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return y.astype(x.dtype) * self.weight[...] + self.bias[...]


class Layers(nnx.Module):
    """All layers, their parameters stacked on axis 0; its methods compute one layer, on one slice of that axis."""

    def __init__(self, spec: GPT2Spec, dtype, rngs: nnx.Rngs):
        self.spec = spec
        L, D, F = spec.num_layers, spec.width, spec.mlp_dim
        self.ln_1 = LayerNorm((L, D), ('layers', None), spec.norm_eps, dtype)
        self.c_attn = ly.Linear('c_attn', L, (D, 3 * D), ('embed', 'heads'), True, dtype, rngs)
        self.attn_c_proj = ly.Linear('attn_c_proj', L, (D, D), ('heads', 'embed'), True, dtype, rngs)
        self.ln_2 = LayerNorm((L, D), ('layers', None), spec.norm_eps, dtype)
        self.c_fc = ly.Linear('c_fc', L, (D, F), ('embed', 'mlp'), True, dtype, rngs)
        self.mlp_c_proj = ly.Linear('mlp_c_proj', L, (F, D), ('mlp', 'embed'), True, dtype, rngs)

    def __call__(self, x: Float[Array, 'B T D'], segment_ids) -> tuple[Array, tuple]:
        """Computes a layer over whole rows; also returns its keys and values [B, T, N, H]."""
        q, k, v = self._project(x)
        x = constrain(self._output(x, self_attention(q, k, v, segment_ids, None, None)), 'batch', None, None)
        return x, (k, v)

    def train_mode(self, x: Float[Array, 'B T D'], segment_ids, drop: '_Drop') -> Float[Array, 'B T D']:
        """Computes a layer over whole rows as transformers does in training mode: with dropout in three places."""
        q, k, v = self._project(x)
        T, H = x.shape[1], self.spec.head_dim
        seen = (segment_ids[:, :, None] == segment_ids[:, None, :]) & jnp.tri(T, dtype=bool)
        scores = jnp.einsum('BTNH,BSNH->BNTS', q, k, preferred_element_type=jnp.float32) * H**-0.5
        weights = drop(jax.nn.softmax(jnp.where(seen[:, None], scores, MASKED), axis=-1), 'attention')
        heads = jnp.einsum('BNTS,BSNH->BTNH', weights.astype(v.dtype), v)
        return self._output(x, heads, drop)

    def step(self, x: Float[Array, 'B D'], keys, values, layer, window, seen, slots, adapters):
        """Computes a layer for one token a row, over the cache's buffers, which it returns updated."""
        q, k, v = self._project(x)
        keys, values = kv.write(keys, values, k, v, slots, layer)
        mine = kv.layer(keys, layer), kv.layer(values, layer)
        return self._output(x, kv.attend(q, *mine, seen, slots, window)), keys, values

    def _project(self, x: Float[Array, '... D']) -> list[Array]:
        heads = (*x.shape[:-1], self.spec.num_heads, self.spec.head_dim)
        return [part.reshape(heads) for part in jnp.split(self.c_attn(self.ln_1(x)), 3, axis=-1)]

    def _output(self, x: Float[Array, '... D'], heads: Float[Array, '... N H'], drop=None) -> Float[Array, '... D']:
        drop = drop or (lambda branch, place: branch)
        x = x + drop(self.attn_c_proj(heads.reshape(x.shape)), 'attention output')
        wide = jax.nn.gelu(self.c_fc(self.ln_2(x)), approximate=True)
        return x + drop(self.mlp_c_proj(wide), 'mlp output')


@dataclasses.dataclass(frozen=True)
class _Drop:
    """Dropout whose draws are a row's own: they depend on its key, the layer and the place, on no other row."""

    keys: Array
    layer: Int[Array, '']
    rate: float

    def __call__(self, x: Float[Array, 'B ...'], place: str) -> Float[Array, 'B ...']:
        # Rows are numbered by their place with room to spare, so that padding changes no draw.
        numbers = jnp.zeros((1,), jnp.uint32)
        for size in x.shape[1:-1]:
            numbers = numbers[..., None, :] * 4096 + jnp.arange(size, dtype=jnp.uint32)[:, None]

        def one(mine: Array, key: Array) -> Array:
            here = jax.random.fold_in(jax.random.fold_in(key, self.layer), PLACES.index(place))
            return ly.drop_out(mine, numbers, jax.random.bits(here, (2,), jnp.uint32), self.rate)

        return jax.vmap(one)(x, self.keys)


PLACES = ('embedding', 'attention', 'attention output', 'mlp output')
"""Where GPT-2 drops out in training mode; transformers names the rates embd_pdrop, attn_pdrop and resid_pdrop."""


class GPT2(nnx.Module):
    """A causal language model; see `decoder.Decoder` for the meaning of its methods' arguments."""

    def __init__(self, spec: GPT2Spec, dtype, rngs: nnx.Rngs):
        self.spec = spec
        self.wte = ly.param(rngs, (spec.vocab_size, spec.width), ('vocab', 'embed'), dtype, 0.02)
        self.wpe = ly.param(rngs, (spec.max_length, spec.width), (None, 'embed'), dtype, 0.02)
        self.layers = Layers(spec, dtype, rngs)
        self.ln_f = LayerNorm((spec.width,), (None,), spec.norm_eps, dtype)

    def __call__(
        self,
        tokens: Int[Array, 'B T'],
        positions: Int[Array, 'B T'],
        segment_ids: Int[Array, 'B T'],
        adapters: StackedAdapters,
        dropout: None,
        remat: Remat,
    ) -> tuple[Float[Array, 'B T D'], tuple[Float[Array, 'L B T N H'], Float[Array, 'L B T N H']]]:
        """Computes whole rows.

        Raises:
            ValueError: adapters are given, or rows are longer than the positions that have been learnt.
        """
        _refuse(adapters, dropout)
        if tokens.shape[1] > self.spec.max_length:
            raise ValueError(
                f'GPT-2: expected rows of at most {self.spec.max_length} tokens, got {tokens.shape[1]}; cut the texts'
            )
        graphdef, states = nnx.split(self.layers)

        def body(x, state):
            return nnx.merge(graphdef, state)(x, segment_ids)

        x = constrain(self.wte[...][tokens] + self.wpe[...][positions], 'batch', None, None)
        x, key_values = jax.lax.scan(jax.checkpoint(body, policy=REMAT[remat], prevent_cse=False), x, states)
        return self.ln_f(x), key_values

    def train_mode(
        self,
        tokens: Int[Array, 'B T'],
        positions: Int[Array, 'B T'],
        segment_ids: Int[Array, 'B T'],
        keys: Array,
        rate: float,
    ) -> Float[Array, 'B T D']:
        """Computes whole rows with dropout, as transformers does after `model.train()`; nothing is learnt.

        Args:
            keys: one PRNG key a row; equal keys and rows give equal numbers in any batch.
            rate: share of entries that is dropped in each of `PLACES`.
        """
        graphdef, states = nnx.split(self.layers)

        def body(x, scanned):
            state, layer = scanned
            return nnx.merge(graphdef, state).train_mode(x, segment_ids, _Drop(keys, layer, rate)), None

        x = self.wte[...][tokens] + self.wpe[...][positions]
        x = _Drop(keys, jnp.int32(self.spec.num_layers), rate)(x, 'embedding')
        x, _ = jax.lax.scan(body, x, (states, jnp.arange(self.spec.num_layers)))
        return self.ln_f(x)

    def step(
        self, tokens: Int[Array, 'B'], cache: Cache, adapters: StackedAdapters | tuple
    ) -> tuple[Float[Array, 'B D'], Cache]:
        """Computes one token a row and adds it to the cache."""
        x = self.wte[...][tokens] + self.wpe[...][cache.lengths]
        rest = {'seen': cache.seen(), 'slots': cache.lengths}
        x, cache = step_layers(self.layers, x, cache, None, adapters, rest)
        return self.ln_f(x), cache

    def for_steps(self, adapters: StackedAdapters, unroll: bool) -> tuple['GPT2', StackedAdapters | tuple]:
        """Prepares the model for `step`, once and outside jit."""
        _refuse(adapters, None)
        return unroll_layers(self, adapters) if unroll else (self, {})

    def logits(self, x: Float[Array, '... D']) -> Float[Array, '... V']:
        """Applies the output head; logits are float32."""
        return jnp.einsum('...D,VD->...V', x, self.wte[...], preferred_element_type=jnp.float32)


def _refuse(adapters: StackedAdapters, dropout: None) -> None:
    if adapters or dropout is not None:
        raise ValueError('GPT-2: expected no adapters, got some; it measures texts here, and is not fine-tuned')

"""Continues prompts that begin alike: what they share is computed once, and each of them attends to it.

shared       a b c          computed once, for one row
row 0              d e f    sees a b c and its own
row 1              g h .    likewise; `.` is padding
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from warmjax.models import cache as kv
from warmjax.models import layers as ly
from warmjax.models.cache import Buffer, Cache
from warmjax.models.decoder import Decoder, StackedAdapters


def extend(
    model: Decoder, tokens: Int[Array, 'B T'], shared: Cache, adapters: StackedAdapters
) -> tuple[Float[Array, 'B T D'], tuple[Float[Array, 'L B T K H'], Float[Array, 'L B T K H']]]:
    """Computes rows that go on after the tokens in row 0 of a cache; returns what the model itself returns for rows.

    What stands behind a row's last token may be anything; nothing before it depends on that.
    """
    before = shared.lengths[0]
    graphdef, states = nnx.split(model.layers)
    positions = jnp.broadcast_to(before + jnp.arange(tokens.shape[1]), tokens.shape)
    angles = ly.rotary_angles(model.spec, positions)

    def body(x, layer):
        state, window, mine, keys, values = layer
        module = nnx.merge(graphdef, state)
        q, k, v = module.attn.project(module.input_layernorm(x), angles, mine, None)
        x = x + module.attn.output(_attention(q, k, v, keys, values, before, window), mine, None)
        return x + module.mlp(module.post_attention_layernorm(x), mine, None), (k, v)

    held = [kv.decode(x, jnp.float32) for x in _first_row(shared)]
    layers = (states, model.spec.window_sizes(), dict(adapters), *held)
    x, key_values = jax.lax.scan(body, model.embed(tokens), layers)
    return model.norm(x), key_values


def join(
    shared: Cache, keys: Float[Array, 'L B T K H'], values: Float[Array, 'L B T K H'], lengths: Int[Array, 'B']
) -> Cache:
    """Makes the cache of rows that go on after row 0 of a cache; `lengths` are those of what follows it."""
    T, before = keys.shape[2], shared.lengths[0]
    rest = kv.fill(keys, values, lengths, shared.dtype, unroll=False)
    row = jax.tree.map(lambda x: x[:, None], _first_row(shared))
    wide = kv.grow(Cache(*row, lengths), shared.num_slots + T)

    def put(whole: Array, part: Array, axis: int) -> Array:
        rows = jnp.repeat(whole, part.shape[1], axis=1)
        return jax.lax.dynamic_update_slice_in_dim(rows, part, before, axis)

    keys, values = (
        jax.tree.map(lambda x, y, axis=axis: put(x, y, axis), whole, part)
        for whole, part, axis in ((wide.keys, rest.keys, -1), (wide.values, rest.values, -2))
    )
    cache = Cache(keys, values, before + lengths)
    return kv.unrolled(cache) if shared.is_unrolled else cache


def _first_row(cache: Cache) -> tuple[Buffer, Buffer]:
    """Returns keys [L, K, H, S] and values [L, K, S, H] of row 0."""
    if cache.is_unrolled:
        return tuple(
            jax.tree.map(lambda *layers: jnp.stack([x[0] for x in layers]), *x) for x in (cache.keys, cache.values)
        )
    return jax.tree.map(lambda x: x[:, 0], (cache.keys, cache.values))


def _attention(
    q: Float[Array, 'B T N H'],
    k: Float[Array, 'B T K H'],
    v: Float[Array, 'B T K H'],
    keys: Float[Array, 'K H S'],
    values: Float[Array, 'K S H'],
    before: Int[Array, ''],
    window: Int[Array, ''] | None,
) -> Float[Array, 'B T N H']:
    """Attention of rows to `before` shared tokens and, causally, to their own."""
    B, T, N, H = q.shape
    K, S = k.shape[2], keys.shape[-1]
    q = q.reshape(B, T, K, N // K, H)
    scores = [
        jnp.einsum('BTKGH,KHS->BKGTS', q, keys, preferred_element_type=jnp.float32),
        jnp.einsum('BTKGH,BSKH->BKGTS', q, k, preferred_element_type=jnp.float32),
    ]
    at = before + jnp.arange(T)[:, None]
    places = jnp.concatenate([jnp.arange(S), before + jnp.arange(T)])
    seen = jnp.concatenate([jnp.broadcast_to(jnp.arange(S) < before, (T, S)), jnp.tril(jnp.ones((T, T), bool))], axis=1)
    if window is not None:
        seen &= at - places < window
    weights = jnp.where(seen, jnp.concatenate(scores, axis=-1) * H**-0.5, kv.MASKED)
    weights = jax.nn.softmax(weights, axis=-1).astype(v.dtype)
    heads = jnp.einsum('BKGTS,KSH->BTKGH', weights[..., :S], values.astype(v.dtype))
    heads += jnp.einsum('BKGTS,BSKH->BTKGH', weights[..., S:], v)
    return heads.reshape(B, T, N, H)

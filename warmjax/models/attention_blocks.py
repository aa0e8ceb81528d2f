"""Attention for CPUs: block by block of queries, over those keys only that some query of the block may see.

Four blocks of queries and the blocks of keys that each computes, without a window:

    queries 0   x . . .
    queries 1   x x . .
    queries 2   x x x .
    queries 3   x x x x

For the backward pass it keeps the result and each query's log-sum-exp instead of scores (arXiv 2205.14135). Every
product is written with its factors as a CPU multiplies them without turning a large one.
"""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e30
"""Score of a key that may not be seen; finite, so that a row without any key stays finite."""
SMALLEST, MOST = 64, 8
"""Fewest queries of a block, and most blocks of a row (their programs are apart)."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def attend_in_blocks(
    q: Float[Array, 'B K G T H'],
    k: Float[Array, 'B K T H'],
    v: Float[Array, 'B K T H'],
    segment_ids: Int[Array, 'B T'],
    window: int | None,
    name: Callable[[Array], Array],
) -> Float[Array, 'B K G T H']:
    """Attention of whole rows, causal within a segment and its window.

    Args:
        name: marks what the backward pass keeps (`jax.ad_checkpoint.checkpoint_name`).
    """
    return _forward(q, k, v, segment_ids, window, name)[0]


def _forward(q, k, v, segment_ids, window, name):
    outputs, sums = [], []
    for start, stop, first in _blocks(q.shape[3], window):
        part = q[:, :, :, start:stop]
        scores = _scores(part, k[:, :, first:stop])
        scores = jnp.where(_seen(segment_ids, start, stop, first, window), scores, MASKED)
        largest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = weights.sum(-1, keepdims=True)
        heads = _rows(weights.astype(v.dtype)) @ v[:, :, first:stop]
        outputs.append((heads.reshape(part.shape) / total).astype(v.dtype))
        sums.append(largest + jnp.log(total))
    out, log_sums = name(jnp.concatenate(outputs, axis=3)), name(jnp.concatenate(sums, axis=3))
    return out, (q, k, v, segment_ids, out, log_sums)


def _backward(window, name, kept, d_out):
    q, k, v, segment_ids, out, log_sums = kept
    length, scale = q.shape[3], q.shape[-1] ** -0.5
    shift = (d_out.astype(jnp.float32) * out).sum(-1, keepdims=True)
    d_q, d_k, d_v = [], [], []
    for start, stop, first in _blocks(length, window):
        of_block = (slice(None),) * 3 + (slice(start, stop),)
        part, d_part, keys = q[of_block], d_out[of_block], k[:, :, first:stop]
        seen = _seen(segment_ids, start, stop, first, window)
        weights = jnp.where(seen, jnp.exp(_scores(part, keys) - log_sums[of_block]), 0)
        d_scores = weights * (_product(d_part, v[:, :, first:stop]) - shift[of_block])
        weights, d_scores = weights.astype(q.dtype), (d_scores * scale).astype(q.dtype)
        d_q.append((_rows(d_scores) @ keys).reshape(part.shape))
        d_k.append(_placed(_summed(part, d_scores), first, length))
        d_v.append(_placed(_summed(d_part, weights), first, length))
    return jnp.concatenate(d_q, axis=3), sum(d_k).swapaxes(2, 3), sum(d_v).swapaxes(2, 3), None


attend_in_blocks.defvjp(_forward, _backward)


def _blocks(length: int, window: int | None) -> list[tuple[int, int, int]]:
    """Returns each block's first query, the one after its last, and its first key."""
    size = max(SMALLEST, -(-length // MOST))
    starts = [*range(0, length, size), length]
    return [
        (start, stop, 0 if window is None else max(0, start - window + 1)) for start, stop in itertools.pairwise(starts)
    ]


def _seen(
    segment_ids: Int[Array, 'B T'], start: int, stop: int, first: int, window: int | None
) -> Bool[Array, 'B 1 1 t s']:
    back = jnp.arange(start, stop)[:, None] - jnp.arange(first, stop)
    seen = (segment_ids[:, start:stop, None] == segment_ids[:, None, first:stop]) & (back >= 0)
    seen = seen if window is None else seen & (back < window)
    return seen[:, None, None]


def _scores(q: Float[Array, 'B K G t H'], k: Float[Array, 'B K s H']) -> Float[Array, 'B K G t s']:
    return _product(q * q.shape[-1] ** -0.5, k)


def _product(q: Float[Array, 'B K G t H'], k: Float[Array, 'B K s H']) -> Float[Array, 'B K G t s']:
    """Multiplies each query by each key, in float32."""
    products = jax.lax.dot_general(*(_rows(q), k), (((3,), (3,)), ((0, 1), (0, 1))), preferred_element_type=jnp.float32)
    return products.reshape(*q.shape[:-1], k.shape[2])


def _summed(q: Float[Array, 'B K G t H'], weights: Float[Array, 'B K G t s']) -> Float[Array, 'B K H s']:
    """Sums queries with a key's weights; the small factor stands on the left, where it is turned."""
    return jax.lax.dot_general(_rows(q), _rows(weights), (((2,), (2,)), ((0, 1), (0, 1))))


def _rows(x: Float[Array, 'B K G t n']) -> Float[Array, 'B K Gt n']:
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _placed(x: Float[Array, 'B K H s'], first: int, length: int) -> Float[Array, 'B K H T']:
    """Puts the part of some keys where it belongs among all keys, which are 0 elsewhere."""
    return jnp.pad(x, ((0, 0),) * 3 + ((first, length - first - x.shape[-1]),))

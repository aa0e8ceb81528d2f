"""Choosing the next token. A row's randomness is keyed by (seed, prompt, sample) and its position, nothing else."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from warmjax import seeds, sharding
from warmjax.decode.requests import Sampling

BLOCK = 256
"""Vocabulary entries a block; a draw, or the search of the largest, first picks a block, then an entry of it."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """How each row's tokens are chosen: `Sampling` by row, and the key of its randomness."""

    keys: UInt32[Array, 'B 2']
    temperature: Float[Array, 'B']
    top_k: Int[Array, 'B']
    top_p: Float[Array, 'B']
    min_p: Float[Array, 'B']


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a set of rows needs computed: whether any draws, and whether any of those filters."""

    draws: bool
    filters: bool


def rows(keys: Sequence[np.ndarray], how: Sequence[Sampling]) -> Rows:
    """Lays out the keys and settings of rows."""
    return Rows(
        np.array(keys, np.uint32).reshape(-1, 2),
        np.array([h.temperature for h in how], np.float32),
        np.array([h.top_k for h in how], np.int32),
        np.array([h.top_p for h in how], np.float32),
        np.array([h.min_p for h in how], np.float32),
    )


def needs(how: Sequence[Sampling]) -> Needs:
    """Says what rows with these settings need."""
    return Needs(any(h.temperature > 0 for h in how), any(h.filters for h in how))


def pick(logits: Float[Array, 'B V'], rows: Rows, counts: Int[Array, 'B'], needs: Needs) -> Int[Array, 'B']:
    """Picks a token a row; `counts` says how many tokens each row has generated before.

    What one row needs does not change what another gets.
    """
    likeliest = first_largest(logits)
    if not needs.draws:
        return likeliest
    temperature = jnp.where(rows.temperature > 0, rows.temperature, 1.0)[:, None]
    weights = jnp.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    if needs.filters:
        weights = jnp.where(possible(weights, rows), weights, 0)
    drawn = categorical(weights, jax.vmap(_uniforms)(rows.keys, counts))
    return jnp.where(rows.temperature > 0, drawn, likeliest)


def first_largest(x: Float[Array, 'B V']) -> Int[Array, 'B']:
    """Returns the first index of each row's largest entry, as argmax does; any of a row with NaN.

    On CPU argmax over a long row is slow, and a block's maximum is not: so it looks for the block first there.
    """
    if sharding.platform() != 'cpu':
        return jnp.argmax(x, axis=-1).astype(jnp.int32)
    blocks = _blocks(x, -jnp.inf)
    block = jnp.argmax(blocks.max(axis=-1), axis=-1)
    return (block * BLOCK + jnp.argmax(_block(blocks, block), axis=-1)).astype(jnp.int32)


def row_key(seed: int, prompt_id: str, sample: int) -> np.ndarray:
    """Returns the key [2] of one row's randomness."""
    value = seeds.stable_hash('generate', seed, prompt_id, sample)
    return np.array([value >> 32, value & 0xFFFFFFFF], np.uint32)


def categorical(weights: Float[Array, 'B V'], uniforms: Float[Array, 'B 2']) -> Int[Array, 'B']:
    """Draws an index a row with probability proportional to its weight, inverting the distribution in two levels.

    Two uniforms a row serve where the Gumbel trick needs one for every vocabulary entry, and sums stay short: over
    blocks first, then over the entries of the chosen block.
    """
    blocks = _blocks(weights, 0)
    block = _invert(blocks.sum(axis=-1), uniforms[:, 0])
    return block * BLOCK + _invert(_block(blocks, block), uniforms[:, 1])


def possible(weights: Float[Array, 'B V'], rows: Rows) -> Bool[Array, 'B V']:
    """Tells which tokens top_k, then top_p of what it leaves, and min_p allow; `weights` are at most 1.

    The k-th largest weight, and the weight above which lies the share p, are found by halving: no row is sorted.
    """
    V = weights.shape[-1]
    top_k = jnp.where(rows.top_k > 0, jnp.minimum(rows.top_k, V), V)[:, None]
    kth = _largest_threshold(weights, lambda kept: kept.sum(axis=-1, keepdims=True) >= top_k)
    kept = jnp.where(weights >= kth, weights, 0)
    enough = rows.top_p[:, None] * kept.sum(axis=-1, keepdims=True)
    pth = _largest_threshold(kept, lambda above: jnp.where(above, kept, 0).sum(axis=-1, keepdims=True) >= enough)
    # Rounding must not take the last tokens from a row that allows all.
    pth = jnp.where(rows.top_p[:, None] < 1, pth, 0)
    return weights >= jnp.maximum(jnp.maximum(kth, pth), rows.min_p[:, None])


def _largest_threshold(weights: Float[Array, 'B V'], holds) -> Float[Array, 'B 1']:
    """Returns the largest threshold for which `holds(weights >= threshold)` [B, 1]; it must hold for 0.

    Floats of 0 to 1 are ordered as their bits are, so 30 halvings of the bits find it exactly.
    """
    B = weights.shape[0]
    one = int(np.float32(1).view(np.int32))

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high + 1) // 2
        fits = holds(weights >= jax.lax.bitcast_convert_type(middle, jnp.float32))
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle - 1)

    start = jnp.zeros((B, 1), jnp.int32), jnp.full((B, 1), one, jnp.int32)
    low, _ = jax.lax.fori_loop(0, one.bit_length(), halve, start)
    return jax.lax.bitcast_convert_type(low, jnp.float32)


def _blocks(x: Float[Array, 'B V'], filler: float) -> Float[Array, 'B n k']:
    """Cuts rows into blocks, the last one filled up."""
    B, V = x.shape
    return jnp.pad(x, [(0, 0), (0, -V % BLOCK)], constant_values=filler).reshape(B, -1, BLOCK)


def _block(blocks: Float[Array, 'B n k'], index: Int[Array, 'B']) -> Float[Array, 'B k']:
    """Returns one block of each row."""
    return jnp.take_along_axis(blocks, index[:, None, None], axis=1)[:, 0]


def _uniforms(key: UInt32[Array, '2'], position: Int[Array, '']) -> Float[Array, '2']:
    """Returns the two uniforms of a row at a position; the generator is named, since `key` is one of its keys."""
    return jax.random.uniform(jax.random.fold_in(jax.random.wrap_key_data(key, impl='threefry2x32'), position), (2,))


def _invert(weights: Float[Array, 'B N'], uniform: Float[Array, 'B']) -> Int[Array, 'B']:
    """Returns the first index of positive weight whose cumulated weight exceeds uniform * total.

    XLA sums a long row in parts, and rounding can then make the cumulated weight rise or fall where the weight is
    zero; so entries without weight are left out by name, not by their sum.
    """
    cumulated = jnp.where(weights > 0, jnp.cumsum(weights, axis=-1), 0)
    total = cumulated.max(axis=-1, keepdims=True)
    return jnp.argmax(cumulated > uniform[:, None] * total, axis=-1).astype(jnp.int32)

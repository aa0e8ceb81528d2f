"""Choosing the next token. A row's randomness is keyed by (seed, prompt, sample) and its position, nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from warmjax import seeds

BLOCK = 256
"""Vocabulary entries a block; a draw first picks a block, then an entry of it."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """temperature: 0 takes the likeliest token, 1 samples from the model's own distribution."""

    temperature: float

    def __call__(
        self, logits: Float[Array, 'B V'], keys: UInt32[Array, 'B 2'], position: Int[Array, '']
    ) -> Int[Array, 'B']:
        """Picks a token a row; `position` counts a row's generated tokens."""
        if self.temperature == 0:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return categorical(logits / self.temperature, jax.vmap(_uniforms, (0, None))(keys, position))


def row_key(seed: int, prompt_id: str, sample: int) -> np.ndarray:
    """Returns the key [2] of one row's randomness."""
    value = seeds.stable_hash('generate', seed, prompt_id, sample)
    return np.array([value >> 32, value & 0xFFFFFFFF], np.uint32)


def categorical(logits: Float[Array, 'B V'], uniforms: Float[Array, 'B 2']) -> Int[Array, 'B']:
    """Draws from softmax(logits) by inverting its distribution function, in two levels.

    Two uniforms a row serve where the Gumbel trick needs one for every vocabulary entry, and sums stay short: over
    blocks first, then over the entries of the chosen block.
    """
    B, V = logits.shape
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    weights = jnp.pad(weights, [(0, 0), (0, -V % BLOCK)]).reshape(B, -1, BLOCK)
    block = _invert(weights.sum(axis=-1), uniforms[:, 0])
    inside = jnp.take_along_axis(weights, block[:, None, None], axis=1)[:, 0]
    return block * BLOCK + _invert(inside, uniforms[:, 1])


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

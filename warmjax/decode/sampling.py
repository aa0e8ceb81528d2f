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
        uniforms = jax.vmap(
            lambda key: jax.random.uniform(jax.random.fold_in(jax.random.wrap_key_data(key), position), (2,))
        )
        return categorical(logits / self.temperature, uniforms(keys))


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


def _invert(weights: Float[Array, 'B N'], uniform: Float[Array, 'B']) -> Int[Array, 'B']:
    """Returns the first index whose cumulated weight exceeds uniform * total, so one of positive weight."""
    cumulated = jnp.cumsum(weights, axis=-1)
    return jnp.sum(cumulated <= uniform[:, None] * cumulated[:, -1:], axis=-1, dtype=jnp.int32)

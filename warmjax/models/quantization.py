"""Frozen kernels in 8 or 4 bits: what is stored, and how a product with it is computed.

    int8    a row of the kernel [O, I], the weights of one output, has a scale of its own: w = code * scale, code in
            -127 ... 127
    nf4     64 weights that meet the same input have a scale; w = LEVELS[code] * scale, two codes in a byte
            (arXiv 2305.14314, section 3; its blocks lie along the rows)

The product itself is computed in the activations' dtype. The bits are widened where they are used, in the backward pass
again, and never kept wide. On a mesh the devices exchange the bits, not what they stand for.
"""

import functools
import itertools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

Quantization = Literal['none', 'int8', 'nf4']

LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""What the codes of nf4 stand for (arXiv 2305.14314, appendix E)."""
LONGEST_BLOCK = 64
"""Weights that share a scale in nf4; fewer where a kernel's number of outputs is no multiple of it."""


def quantize(kernel: Float[Array, '*L O I'], kind: Quantization) -> tuple[Array, Array]:
    """Returns a kernel's codes and scales: int8 [*L, O, I] and float32 [*L, O], or for nf4 uint8 [*L, O / 2, I] and
    bfloat16 [*L, blocks, I]. O must be even for nf4."""
    wide = kernel.astype(jnp.float32)
    if kind == 'int8':
        scale = _scale(wide, -1) / 127
        return jnp.round(wide / scale[..., None]).astype(jnp.int8), scale
    *layers, outputs, inputs = kernel.shape
    blocks = wide.reshape(*layers, -1, block_length(outputs), inputs)
    scale = _scale(blocks, -2).astype(jnp.bfloat16)
    relative = blocks / scale.astype(jnp.float32)[..., None, :]
    codes = sum((relative > (low + high) / 2).astype(jnp.uint8) for low, high in itertools.pairwise(LEVELS))
    first, second = jnp.unstack(codes.reshape(*layers, outputs // 2, 2, inputs), axis=-2)
    return first | second << 4, scale


def widen(codes: Array, scale: Array, kind: Quantization, dtype) -> Float[Array, '*L O I']:
    """Returns the kernel that codes and scales stand for."""
    if kind == 'int8':
        return (codes * scale[..., None]).astype(dtype)
    length = 2 * codes.shape[-2] // scale.shape[-2]
    return (_levels(codes) * jnp.repeat(scale.astype(jnp.float32), length, axis=-2)).astype(dtype)


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=(3, 4))
def multiply(x: Float[Array, '... I'], codes: Array, scale: Array, kind: Quantization, axes: str) -> Array:
    """Returns x W^T.

    Args:
        axes: of the codes, 'OI', or 'IO' for int8 codes that have been turned.
    """
    if kind == 'int8':
        y = jnp.einsum(f'...I,{axes}->...O', x, codes.astype(x.dtype))
        return (y * scale).astype(x.dtype)
    return jnp.einsum('...I,OI->...O', x, widen(codes, scale, kind, x.dtype))


def block_length(outputs: int) -> int:
    """Returns how many weights share a scale in nf4."""
    return max(size for size in range(1, LONGEST_BLOCK + 1) if outputs % size == 0)


def _scale(wide: Float[Array, '...'], axis: int) -> Float[Array, '...']:
    """Returns the largest magnitude along an axis, 1 where all is 0."""
    largest = jnp.abs(wide).max(axis)
    return jnp.where(largest > 0, largest, 1)


def _levels(packed: UInt8[Array, '*L P I']) -> Float[Array, '*L O I']:
    """Looks up what codes stand for by their bits, lowest first: a table lookup is slow on TPU."""
    codes = jnp.stack([packed & 15, packed >> 4], axis=-2).reshape(*packed.shape[:-2], -1, packed.shape[-1])
    levels = list(LEVELS)
    for bit in range(4):
        is_set = (codes >> bit & 1).astype(bool)
        levels = [jnp.where(is_set, high, low) for low, high in zip(levels[::2], levels[1::2], strict=True)]
    return levels[0]

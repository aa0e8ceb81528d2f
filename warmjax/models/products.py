"""Products of hidden states with weights.

On CPU the hidden states of a bfloat16 model are float32, and only the factors of a product are rounded to bfloat16,
sums are float32: products of bfloat16 are twice as fast there as those of float32, but all else is slower. Elsewhere
hidden states have the weights' type.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from warmjax import sharding


def hidden_dtype(weights: jnp.dtype) -> jnp.dtype:
    """Returns the type of the hidden states of a model whose weights have the given type."""
    return jnp.promote_types(weights, jnp.float32) if sharding.platform() == 'cpu' else weights


def multiply(x: Float[Array, '... I'], kernel: Array, axes: str) -> Float[Array, '... O']:
    """Returns x W^T as `x` is; `axes` of the kernel are 'OI' or 'IO'."""
    if x.dtype == kernel.dtype:
        return jnp.einsum(f'...I,{axes}->...O', x, kernel)
    return _multiply_rounded(x, kernel, axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _multiply_rounded(x, kernel, axes: str):
    """Rounds to the kernel's type what is multiplied, in the backward pass too; sums have the type of x."""
    return jnp.einsum(f'...I,{axes}->...O', x.astype(kernel.dtype), kernel, preferred_element_type=x.dtype)


def _forward(x, kernel, axes: str):
    return _multiply_rounded(x, kernel, axes), (x.astype(kernel.dtype), kernel)


def _backward(axes: str, kept, dy):
    x, kernel = kept
    rounded = dy.astype(kernel.dtype)
    dx = jnp.einsum(f'...O,{axes}->...I', rounded, kernel, preferred_element_type=dy.dtype)
    rows = (x.reshape(-1, x.shape[-1]), rounded.reshape(-1, dy.shape[-1]))
    return dx, jnp.einsum(f'NI,NO->{axes}', *rows, preferred_element_type=dy.dtype).astype(kernel.dtype)


_multiply_rounded.defvjp(_forward, _backward)

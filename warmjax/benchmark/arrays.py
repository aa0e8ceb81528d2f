"""Random arrays where a program wants them: programs are made from shapes and layouts (`plan`, `decode.abstract`)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array


def fill_model(model: nnx.Module) -> nnx.Module:
    """Returns a model of shapes and layouts with random weights in their place; see `fill_state`."""
    graphdef, shapes = nnx.split(model)
    return nnx.merge(graphdef, fill_state(shapes))


def fill_state(shapes: nnx.State) -> nnx.State:
    """Returns a state of shapes and layouts with random weights that keep activations of order 1.

    A stack of layers is drawn layer by layer: no more than one of them is ever held in float32.
    """
    flat = [
        (path, variable.replace(_weight(path[-1], variable.get_value(), seed)))
        for seed, (path, variable) in enumerate(nnx.to_flat_state(shapes))
    ]
    return nnx.from_flat_state(flat)


def fill_adapters(pairs: Any) -> Any:
    """Returns adapters with random entries in both halves, small enough to change little."""
    leaves, treedef = jax.tree.flatten(pairs)
    return treedef.unflatten(_draw(_normal, x, seed, 0.02) for seed, x in enumerate(leaves))


def put(value: Any, like: jax.ShapeDtypeStruct) -> jax.Array:
    """Spreads a number or a host array over a whole shape, and puts it where a program wants it.

    Raises:
        ValueError: it cannot be spread over the shape.
    """
    return jax.device_put(np.broadcast_to(np.asarray(value, like.dtype), like.shape), like.sharding)


def zeros(like: Any) -> Any:
    """Returns arrays of zeros, made where they lie."""
    layout = jax.tree.map(lambda x: x.sharding, like)
    return jax.jit(lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like), out_shardings=layout)()


def _weight(name: str, like: jax.ShapeDtypeStruct, seed: int) -> jax.Array:
    if jnp.issubdtype(like.dtype, jnp.integer):  # codes of a quantised kernel
        return _draw(_bits, like, seed)
    if name in ('weight', 'bias', 'scale'):
        # A norm's weights are 1; with int8 codes of about 64 and nf4's of about 1, kernels shrink as those drawn below.
        value = {'weight': 1.0, 'bias': 0.0, 'scale': 1e-4 if like.dtype == jnp.float32 else 0.01}[name]
        return _draw(_constant, like, seed, value)
    return _draw(_normal, like, seed, like.shape[-1] ** -0.5)


def _bits(key: Array, shape: tuple[int, ...], dtype: Any, _: float) -> Array:
    return jax.lax.bitcast_convert_type(jax.random.bits(key, shape, jnp.uint8), dtype)


def _normal(key: Array, shape: tuple[int, ...], dtype: Any, stddev: float) -> Array:
    return (stddev * jax.random.normal(key, shape)).astype(dtype)


def _constant(_: Array, shape: tuple[int, ...], dtype: Any, value: float) -> Array:
    return jnp.full(shape, value, dtype)


def _draw(entries: Callable[..., Array], like: jax.ShapeDtypeStruct, seed: int, size: float = 0.0) -> jax.Array:
    return _drawer(entries, like.shape, like.dtype, like.sharding)(seed, size)


@functools.lru_cache
def _drawer(entries: Callable[..., Array], shape: tuple[int, ...], dtype: Any, layout: Any) -> Callable[..., jax.Array]:
    """Compiles what draws arrays of a shape, slice by slice where it has more than two axes."""

    def whole(seed: Array, size: Array) -> Array:
        key = jax.random.key(seed)
        if len(shape) < 3:
            return entries(key, shape, dtype, size)
        return jax.lax.map(lambda key: entries(key, shape[1:], dtype, size), jax.random.split(key, shape[0]))

    return jax.jit(whole, out_shardings=layout)

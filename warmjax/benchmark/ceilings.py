"""What a device can do at the most, measured: matrix products, and moving memory."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from warmjax.benchmark.cases import Call, Case
from warmjax.benchmark.settings import BenchmarkSettings
from warmjax.benchmark.work import Work

MIB = 2**20


def products(settings: BenchmarkSettings, device: jax.Device) -> Iterator[Case]:
    """Yields matrix products [M, K] x [K, N] in the model's dtype."""
    dtype = jnp.dtype(settings.model.dtype)
    for M, K, N in settings.products:
        left, right = (_abstract(shape, dtype, device) for shape in ((M, K), (K, N)))

        def start(compiled: jax.stages.Compiled, left=left, right=right) -> Call:
            keys = jax.random.split(jax.random.key(0))
            made = [_draw(like, key) for like, key in zip((left, right), keys, strict=True)]
            return functools.partial(compiled, *made)

        yield Case(
            'matmul',
            {'M': M, 'K': K, 'N': N},
            settings.model.dtype,
            Work(0, 2.0 * M * K * N, (M * K + K * N + M * N) * dtype.itemsize),
            lambda left=left, right=right: jax.jit(jnp.matmul).lower(left, right).compile(),
            start,
        )


def copies(settings: BenchmarkSettings, device: jax.Device) -> Iterator[Case]:
    """Yields arrays of float32 that are read, changed and written to where they were."""
    for size in settings.copies_mib:
        like = _abstract((size * MIB // 4,), jnp.dtype('float32'), device)

        def start(compiled: jax.stages.Compiled, like=like) -> Call:
            x = _draw(like, jax.random.key(0))

            def call() -> jax.Array:
                nonlocal x
                x = compiled(x)
                return x

            return call

        yield Case(
            'hbm',
            {'MiB': size},
            'float32',
            Work(0, like.size, 2.0 * size * MIB),
            lambda like=like: jax.jit(lambda x: x + 1, donate_argnums=0).lower(like).compile(),
            start,
        )


def _abstract(shape: tuple[int, ...], dtype: jnp.dtype, device: jax.Device) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.sharding.SingleDeviceSharding(device))


def _draw(like: jax.ShapeDtypeStruct, key: jax.Array) -> jax.Array:
    draw = functools.partial(jax.random.normal, shape=like.shape, dtype=like.dtype)
    return jax.jit(draw, out_shardings=like.sharding)(key)

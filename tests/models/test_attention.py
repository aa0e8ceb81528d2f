import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_llama import assert_close

from warmjax import sharding
from warmjax.models import attention
from warmjax.models.spec import Window


def random_inputs(batch: int, length: int, heads: int, kv_heads: int, head_dim: int):
    """Returns queries, keys, values and segment ids of rows that hold two segments and padding."""
    rng = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(rng.normal(size=(batch, length, n, head_dim)), jnp.float32) for n in (heads, kv_heads, kv_heads)
    )
    cuts = rng.integers(1, length // 2, (batch, 1))
    places = np.arange(length)
    segments = np.where(places < cuts, 1, np.where(places < length - 3, 2, 0)).astype(np.int32)
    return q, k, v, jnp.asarray(segments)


def by_loop(q, k, v, segments, window):
    """Computes token by token what stands in the module's picture."""
    out = np.zeros(q.shape)
    B, T, N, H = q.shape
    for b, t, n in np.ndindex(B, T, N):
        first = 0 if window is None else max(0, t - window + 1)
        seen = [s for s in range(first, t + 1) if segments[b, s] == segments[b, t]]
        scores = np.array([q[b, t, n] @ k[b, s, n * k.shape[2] // N] for s in seen]) / H**0.5
        weights = np.exp(scores - scores.max())
        out[b, t, n] = weights / weights.sum() @ v[b, seen, n * k.shape[2] // N]
    return out


@pytest.mark.parametrize('window', [None, 1, 3])
def test_reference_equals_a_loop_over_what_each_token_sees(window):
    inputs = random_inputs(2, 9, 4, 2, 3)
    assert_close(attention.by_xla(*inputs, window), by_loop(*map(np.asarray, inputs), window), 1e-5)


@pytest.mark.parametrize('length, window', [(9, None), (150, None), (150, 40), (150, 70)])
def test_cpu_kernel_equals_the_reference_in_value_and_gradient(length, window):
    inputs = random_inputs(2, length, 4, 2, 6)

    def run(kernel, q, k, v):
        heads = kernel(q, k, v, inputs[3], window)
        return jnp.sum(jnp.sin(heads)), heads

    found, wanted = (
        jax.jit(jax.value_and_grad(functools.partial(run, kernel), argnums=(0, 1, 2), has_aux=True))(*inputs[:3])
        for kernel in (attention.on_cpu, attention.by_xla)
    )
    jax.tree.map(lambda ours, theirs: assert_close(ours, theirs, 1e-5), found, wanted)


@pytest.mark.parametrize('window', [None, 40])
def test_tpu_kernel_equals_the_reference_in_value_and_gradient(window):
    inputs = random_inputs(1, 256, 4, 2, 16)
    real = (inputs[3] > 0)[..., None, None]

    def run(kernel, q, k, v):
        heads = kernel(q, k, v, inputs[3], window)
        return jnp.sum(jnp.where(real, heads, 0) ** 2), heads

    found, wanted = (
        jax.jit(jax.value_and_grad(functools.partial(run, kernel), argnums=(0, 1, 2), has_aux=True))(*inputs[:3])
        for kernel in (functools.partial(attention.on_tpu, interpret=True), attention.by_xla)
    )
    jax.tree.map(lambda ours, theirs: assert_close(ours, theirs, 1e-4), found, wanted)


def test_tpu_kernel_on_a_mesh_equals_the_reference():
    # Two heads of keys on four devices: they are repeated.
    inputs = random_inputs(4, 128, 4, 2, 8)
    mesh = sharding.make_mesh(sharding.MeshSettings(1, 2, 4))
    with jax.set_mesh(mesh):
        ours = jax.jit(functools.partial(attention.on_tpu, window=None, interpret=True))(*inputs)
    assert_close(ours, attention.by_xla(*inputs, None), 1e-4)


@pytest.mark.parametrize('window', [None, 3])
def test_gpu_kernel_is_given_the_same_mask_and_scale(monkeypatch, window):
    real = jax.nn.dot_product_attention
    without_cudnn = lambda *args, implementation, **kwargs: real(*args, **kwargs)  # noqa: E731
    monkeypatch.setattr(jax.nn, 'dot_product_attention', without_cudnn)
    inputs = random_inputs(2, 9, 4, 2, 8)
    assert_close(attention.on_gpu(*inputs, window), attention.by_xla(*inputs, window), 1e-5)


def test_window_holds_from_its_first_layer_on():
    inputs = random_inputs(1, 9, 4, 2, 8)
    layered = functools.partial(attention.self_attention, *inputs, Window(size=3, first_layer=2))
    for layer, window in enumerate((None, None, 3)):
        assert_close(layered(jnp.int32(layer)), attention.by_xla(*inputs, window), 1e-6)
    everywhere = attention.self_attention(*inputs, Window(size=3, first_layer=0), jnp.int32(0))
    assert_close(everywhere, attention.by_xla(*inputs, 3), 1e-6)


@pytest.mark.parametrize(
    'platform, length, dtype, kernel',
    [
        ('cpu', 256, jnp.bfloat16, attention.on_cpu),
        ('tpu', 256, jnp.bfloat16, attention.on_tpu),
        ('tpu', 200, jnp.bfloat16, attention.by_xla),
        ('gpu', 200, jnp.bfloat16, attention.on_gpu),
        ('gpu', 256, jnp.float32, attention.by_xla),
    ],
)
def test_kernel_is_the_platforms_where_it_takes_the_rows(monkeypatch, platform, length, dtype, kernel):
    monkeypatch.setattr(jax, 'default_backend', lambda: platform)
    q = jax.ShapeDtypeStruct((2, length, 4, 64), dtype)
    assert attention.best_kernel(q, q) is kernel

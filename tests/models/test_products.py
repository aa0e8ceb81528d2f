import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
import tiny_training

from warmjax.models import decoder, products

X = np.random.default_rng(0).normal(size=(3, 5, 16)).astype(np.float32)
KERNELS = {'OI': (8, 16), 'IO': (16, 8)}


def rounded(x):
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32)


@pytest.mark.parametrize('axes', KERNELS)
def test_factors_are_rounded_and_sums_are_not(axes):
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=KERNELS[axes]), jnp.bfloat16)
    matrix = rounded(kernel) if axes == 'IO' else rounded(kernel).T
    dy = np.random.default_rng(2).normal(size=(3, 5, 8)).astype(np.float32)
    y, pull = jax.vjp(lambda x, kernel: products.multiply(x, kernel, axes), jnp.asarray(X), kernel)
    dx, d_kernel = pull(jnp.asarray(dy))
    assert (y.dtype, dx.dtype, d_kernel.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(y, rounded(X) @ matrix, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, rounded(dy) @ matrix.T, rtol=1e-5, atol=1e-5)
    wanted = np.einsum('bti,bto->io', rounded(X), rounded(dy))
    np.testing.assert_allclose(d_kernel, wanted if axes == 'IO' else wanted.T, rtol=1e-2, atol=1e-2)


def test_equal_types_give_a_plain_product():
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(8, 16)), jnp.float32)
    np.testing.assert_allclose(
        products.multiply(jnp.asarray(X), kernel, 'OI'), X @ np.asarray(kernel).T, rtol=1e-4, atol=1e-5
    )


def test_hidden_states_of_a_bfloat16_model_are_float32_on_cpu_and_bfloat16_elsewhere():
    assert products.hidden_dtype(jnp.bfloat16) == products.hidden_dtype(jnp.float32) == jnp.float32
    with jax.sharding.use_abstract_mesh(tpu_mesh()):
        assert products.hidden_dtype(jnp.bfloat16) == jnp.bfloat16


def tpu_mesh():
    device = jax.sharding.AbstractDevice(device_kind='TPU v5e', num_cores=1, platform='tpu')
    return jax.sharding.AbstractMesh((1,), ('data',), abstract_device=device)


def test_decoder_in_bfloat16_keeps_its_hidden_states_in_float32():
    model = decoder.make(tiny_training.SPEC, jnp.bfloat16, 0)
    tokens = jnp.zeros((1, 4), jnp.int32)

    def run(model):
        return model(tokens, tokens, tokens + 1, {}, None, 'none')[0]

    with jax.set_mesh(tiny_llama.make_mesh()):
        assert jax.eval_shape(run, model).dtype == jnp.float32
        assert jax.eval_shape(model.logits, run(model)).dtype == jnp.float32

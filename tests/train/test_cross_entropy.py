"""The loss whose gradients are computed beside it, against the plain one and JAX's own derivative of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_training import make_mesh

from warmjax.train.cross_entropy import cross_entropy_sum

C, B, T, D, V = 3, 4, 5, 8, 97
"""The vocabulary is a prime: no mesh cuts it evenly."""


@pytest.fixture(scope='module')
def inputs():
    """Hidden states, head, targets and weights, of which some are 0 and others neither 0 nor 1."""
    generator = np.random.default_rng(0)
    weights = generator.choice([0.0, 0.5, 1.0], (C, B, T))
    hidden, head = generator.normal(size=(C, B, T, D)), generator.normal(size=(V, D))
    arrays = hidden, head, generator.integers(0, V, (C, B, T)), weights
    return tuple(jnp.asarray(x, jnp.int32 if x.dtype == np.int64 else jnp.float32) for x in arrays)


def plain(hidden, head, targets, weights):
    return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(hidden @ head.T, targets) * weights)


def value_and_grad(function, inputs, argnums, mesh=None):
    """Differentiates a multiple of the loss, as a mean is one."""
    with jax.set_mesh(mesh or make_mesh(1, 1, 1)):
        return jax.jit(jax.value_and_grad(lambda *x: function(*x) / 7, argnums))(*inputs)


def assert_same(found, wanted, relative=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * np.abs(b).max())


@pytest.mark.parametrize('argnums', [0, (0, 1)], ids=['frozen head', 'trained head'])
@pytest.mark.parametrize('mesh', [(1, 1, 1), (2, 2, 2)])
def test_loss_and_gradients_are_those_of_the_plain_one(inputs, argnums, mesh):
    found = value_and_grad(cross_entropy_sum, inputs, argnums, make_mesh(*mesh))
    assert_same(found, value_and_grad(plain, inputs, argnums))


def test_loss_that_nobody_differentiates_is_the_same(inputs):
    np.testing.assert_allclose(cross_entropy_sum(*inputs), plain(*inputs), rtol=1e-6)


def test_huge_logits_stay_finite(inputs):
    hidden, *rest = inputs
    found = value_and_grad(cross_entropy_sum, (1e4 * hidden, *rest), (0, 1))
    assert_same(found, value_and_grad(plain, (1e4 * hidden, *rest), (0, 1)))
    assert np.isfinite(found[0]) and found[0] > 1e4


def test_bfloat16_is_rounded_only_where_it_is_stored(inputs):
    hidden, head, *rest = inputs
    wanted = value_and_grad(plain, inputs, (0, 1))[1]
    rounded = (hidden.astype(jnp.bfloat16), head.astype(jnp.bfloat16), *rest)
    exact = value_and_grad(plain, tuple(x.astype(jnp.float32) for x in rounded[:2]) + tuple(rest), (0, 1))
    loss, gradients = value_and_grad(cross_entropy_sum, rounded, (0, 1))
    np.testing.assert_allclose(loss, exact[0], rtol=1e-5)
    assert [x.dtype for x in gradients] == [jnp.bfloat16] * 2
    assert_same([x.astype(jnp.float32) for x in gradients], wanted, 2e-2)


@pytest.mark.parametrize('argnums, times', [(0, 2), ((0, 1), 3)], ids=['frozen head', 'trained head'])
def test_no_product_with_the_head_is_computed_twice(inputs, argnums, times):
    with jax.set_mesh(make_mesh(1, 1, 1)):
        program = jax.make_jaxpr(jax.grad(cross_entropy_sum, argnums))(*inputs)
    assert str(program).count('dot_general') == times

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_training

from warmjax.train.objective import loss_sum


@pytest.fixture(scope='module')
def model():
    return tiny_training.make_model(tiny_training.make_mesh(1, 1, 1))


@pytest.fixture(scope='module')
def batch():
    """Two rows of 12 tokens, uneven in length and in trained tokens."""
    return {name: jnp.asarray(x[0]) for name, x in tiny_training.make_batch(3, 1, 2, 12).items()}


def loss(model, batch, remat='none', chunks=1):
    return loss_sum(model, {}, batch, None, remat, chunks)


def test_loss_is_the_sum_of_cross_entropies_over_trained_tokens(model, batch):
    x, _ = model(batch['tokens'], batch['positions'], batch['segment_ids'], {}, None, 'none')
    every = optax.softmax_cross_entropy_with_integer_labels(model.logits(x), batch['targets'])
    trained = np.asarray(batch['weights']).astype(bool)
    assert 0 < trained.sum() < trained.size
    np.testing.assert_allclose(loss(model, batch), np.asarray(every)[trained].sum(), rtol=1e-6)


def test_what_stands_in_padding_and_in_untrained_targets_does_not_matter(model, batch):
    other = batch | {
        'tokens': jnp.where(batch['segment_ids'] > 0, batch['tokens'], 55),
        'targets': jnp.where(batch['weights'] > 0, batch['targets'], 77),
    }
    assert loss(model, other) == loss(model, batch)
    assert (other['tokens'] != batch['tokens']).any() and (other['targets'] != batch['targets']).any()


@pytest.mark.parametrize('remat, chunks', [('none', 3), ('names', 1), ('full', 12)])
def test_neither_chunks_nor_remat_change_loss_or_gradients(model, batch, remat, chunks):
    def value_and_grad(remat, chunks):
        from flax import nnx

        graphdef, state = nnx.split(model)
        return jax.jit(jax.value_and_grad(lambda s: loss(nnx.merge(graphdef, s), batch, remat, chunks)))(state)

    (wanted, gradients), (found, others) = value_and_grad('none', 1), value_and_grad(remat, chunks)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(others), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())

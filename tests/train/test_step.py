import jax
import numpy as np
import pytest
import tiny_training
from flax import nnx
from tiny_training import Trainer, make_batch, make_mesh, on_host

from warmjax.lora import adapters
from warmjax.train.objective import loss_sum

STEPS = 6
BATCHES = [make_batch(seed, 2, 4, 16) for seed in range(STEPS)]


@pytest.fixture(scope='module')
def single():
    """A run with dropout on one device: its base before, its metrics and its state after."""
    trainer = Trainer(make_mesh(1, 1, 1), dropout=0.1, num_steps=STEPS)
    before = {'base': on_host(trainer.frozen), 'adapters': on_host(trainer.state.trainable)}
    return trainer, before, [trainer.step(batch) for batch in BATCHES]


def assert_near(found, wanted, relative):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * max(np.abs(b).max(), 1e-3))


def test_metrics_describe_the_whole_batch(single):
    trainer = Trainer(make_mesh(1, 1, 1), dropout=0.0, num_steps=STEPS)
    graphdef = nnx.graphdef(tiny_training.make_model(trainer.mesh))
    whole = {name: x.reshape(8, 16) for name, x in BATCHES[0].items()}
    start = adapters.scaled(jax.tree.map(np.asarray, trainer.state.trainable), tiny_training.LORA.scale)
    wanted = loss_sum(nnx.merge(graphdef, trainer.frozen), start, whole, None, False, 1)
    metrics = trainer.step(BATCHES[0])
    assert metrics['trained_tokens'] == whole['weights'].sum()
    assert metrics['tokens'] == whole['segment_ids'].sum() > metrics['trained_tokens']
    np.testing.assert_allclose(metrics['loss'], wanted / whole['weights'].sum(), rtol=1e-5)
    assert metrics['grad_norm'] > 0


def test_micro_batches_of_unequal_token_counts_equal_one_batch():
    batch = make_batch(11, 4, 2, 16)
    batch['weights'][1] = 0.0
    counts = batch['weights'].sum(axis=(1, 2))
    assert counts[1] == 0 and len(set(counts)) > 2
    runs = []
    for shape in ((4, 2, 16), (1, 8, 16)):
        trainer = Trainer(make_mesh(1, 1, 1), dropout=0.0, num_steps=STEPS)
        metrics = [trainer.step({name: x.reshape(shape) for name, x in batch.items()}) for _ in range(3)]
        runs.append((metrics, on_host(trainer.state.trainable)))
    (many, adapters_many), (one, adapters_one) = runs
    for a, b in zip(many, one, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    assert_near(adapters_many, adapters_one, 1e-4)


def test_only_adapters_change(single):
    trainer, before, _ = single
    for a, b in zip(on_host(trainer.frozen), before['base'], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(on_host(trainer.state.trainable), before['adapters'], strict=True):
        assert np.abs(a - b).max() > 1e-5


def test_batch_without_a_trained_token_moves_nothing_but_weight_decay():
    trainer = Trainer(make_mesh(1, 1, 1), dropout=0.0, num_steps=STEPS)
    metrics = trainer.step(BATCHES[0] | {'weights': np.zeros_like(BATCHES[0]['weights'])})
    assert (metrics['loss'], metrics['grad_norm'], metrics['trained_tokens']) == (0.0, 0.0, 0.0)
    assert all(np.isfinite(leaf).all() for leaf in on_host(trainer.state.trainable))


@pytest.mark.parametrize('mesh', [(8, 1, 1), (2, 2, 2)])
def test_eight_devices_compute_what_one_does_and_compile_once(single, mesh):
    wanted_state, _, wanted = single
    # A batch of 4 rows cannot be cut into 8 parts: the same 8 rows as one micro-batch, and without dropout.
    trainer = Trainer(make_mesh(*mesh), dropout=0.1, num_steps=STEPS)
    if mesh == (8, 1, 1):
        one = Trainer(make_mesh(1, 1, 1), dropout=0.1, num_steps=STEPS)
        batches = [{name: x.reshape(1, 8, 16) for name, x in batch.items()} for batch in BATCHES]
        wanted_state, wanted = one, [one.step(batch) for batch in batches]
    else:
        batches = BATCHES
    found = [trainer.step(batch) for batch in batches]
    for a, b in zip(found, wanted, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert_near(on_host(trainer.state.trainable), on_host(wanted_state.state.trainable), 2e-3)
    assert trainer.step_fn._cache_size() == 1


def test_one_device_compiles_once(single):
    assert single[0].step_fn._cache_size() == 1


def test_adapters_and_moments_lie_cut_over_the_mesh():
    trainer = Trainer(make_mesh(2, 2, 2), dropout=0.0, num_steps=STEPS)
    before = jax.tree.map(lambda x: x.sharding, trainer.state)
    trainer.step(BATCHES[0])
    assert jax.tree.map(lambda x: x.sharding, trainer.state) == before
    cut = trainer.state.trainable['q_proj']['b']
    assert cut.addressable_shards[0].data.shape == (2, 4, 20)
    moments = [x for x in jax.tree.leaves(trainer.state.opt_state) if x.shape == cut.shape]
    assert len(moments) >= 2 and any(x.sharding == cut.sharding for x in moments)


def test_dropout_follows_from_the_seed_and_the_step():
    def losses(dropout, seed):
        trainer = Trainer(make_mesh(1, 1, 1), dropout, num_steps=STEPS, seed=seed)
        return [trainer.step(BATCHES[0])['loss'] for _ in range(3)]

    assert losses(0.5, seed=0) == losses(0.5, seed=0) != losses(0.5, seed=1)
    assert losses(0.0, seed=0) == losses(0.0, seed=1)

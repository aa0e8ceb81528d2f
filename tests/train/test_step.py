import jax
import numpy as np
import pytest
from tiny_training import Trainer, make_batch, make_mesh, on_host

from warmjax.data import batches
from warmjax.data.chat import Encoded
from warmjax.train.objective import loss_sum

STEPS = 6
BATCHES = [make_batch(seed, 2, 4, 16) for seed in range(STEPS)]
COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: COMPILED.append(name) if name.endswith('backend_compile_duration') else None
)


def run(trainer):
    """Takes all steps; returns their metrics and how many programs were compiled after the first step."""
    metrics = [trainer.step(BATCHES[0])]
    before = len(COMPILED)
    metrics += [trainer.step(batch) for batch in BATCHES[1:]]
    return metrics, len(COMPILED) - before


@pytest.fixture(scope='module')
def plain():
    """A trainer on one device without dropout."""
    return Trainer(make_mesh(1, 1, 1), dropout=0.0, num_steps=STEPS)


@pytest.fixture(scope='module')
def single():
    """A run with dropout on one device, and what it returned."""
    trainer = Trainer(make_mesh(1, 1, 1), dropout=0.1, num_steps=STEPS)
    return trainer, on_host(trainer.frozen), *run(trainer)


@pytest.fixture(scope='module')
def cut():
    """The same run on eight devices, over which the base and the batch are cut."""
    trainer = Trainer(make_mesh(2, 2, 2), dropout=0.1, num_steps=STEPS)
    return trainer, *run(trainer)


def assert_near(found, wanted, relative):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * np.abs(b).max())


def test_metrics_describe_the_whole_batch(plain):
    plain.restart(seed=0)
    whole = {name: x.reshape(8, 16) for name, x in BATCHES[0].items()}
    wanted = loss_sum(*plain.bind(plain.start.trainable, plain.frozen), whole, None, 'none', 1)
    metrics = plain.step(BATCHES[0])
    assert metrics['trained_tokens'] == whole['weights'].sum()
    assert metrics['tokens'] == whole['segment_ids'].sum() > metrics['trained_tokens']
    np.testing.assert_allclose(metrics['loss'], wanted / whole['weights'].sum(), rtol=1e-5)
    assert metrics['grad_norm'] > 0


def test_step_reuses_the_state_and_copies_nothing_of_the_base(plain):
    plain.restart(seed=0)
    program = plain.step_fn.lower(plain.state, plain.frozen, BATCHES[0]).compile()
    stats = program.memory_analysis()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((plain.state.trainable, plain.state.opt_state)))
    assert size <= stats.alias_size_in_bytes <= size + 64  # and the key, which goes through
    assert stats.output_size_in_bytes - stats.alias_size_in_bytes < 512  # the metrics alone are new
    jax.tree.map(lambda x: np.asarray(x), plain.frozen)  # still there


def test_micro_batches_of_unequal_token_counts_equal_one_batch(plain):
    batch = make_batch(11, 2, 4, 16)
    batch['weights'][0] = 1.0
    counts = batch['weights'].sum(axis=(1, 2))
    assert 0 < 2 * counts[1] < counts[0]
    runs = []
    for shape in ((2, 4, 16), (1, 8, 16)):
        plain.restart(seed=0)
        metrics = [plain.step({name: x.reshape(shape) for name, x in batch.items()}) for _ in range(3)]
        runs.append((metrics, on_host(plain.state.trainable)))
    (many, adapters_many), (one, adapters_one) = runs
    for a, b in zip(many, one, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert_near(adapters_many, adapters_one, 1e-3)


def test_packed_batch_has_the_loss_and_gradients_of_a_plain_one_and_one_program_takes_any_number_of_rows(plain):
    generator = np.random.default_rng(5)
    sequences = [
        Encoded(generator.integers(0, 96, n).astype(np.int32), generator.random(n) < 0.6)
        for n in (17, 3, 9, 5, 12, 4, 17, 6, 8)
    ]
    packed, apart = (
        batches.of_conversations(sequences, 16, 7, 2, is_packed, seed=0, epochs=1) for is_packed in (True, False)
    )
    assert packed.num_micro < apart.num_micro == 4
    runs, compiled = [], []
    for data in (packed, apart):
        plain.restart(seed=0)
        arrays, before = data.arrays(range(2)), plain.step_fn._cache_size()
        metrics = [plain.step(arrays[step]) for step in range(2)]
        compiled.append(plain.step_fn._cache_size() - before)
        runs.append((metrics, on_host(plain.state.trainable)))
    (a, adapters_a), (b, adapters_b) = runs
    for one, other in zip(a, b, strict=True):
        assert one['loss'] == pytest.approx(other['loss'], rel=1e-5)
        assert one['grad_norm'] == pytest.approx(other['grad_norm'], rel=1e-5)
        assert (one['tokens'], one['token_pairs']) == (other['tokens'], other['token_pairs'])
    assert_near(adapters_a, adapters_b, 1e-3)
    # The second batch has two conversations only, so most of its rows are empty and not computed.
    assert compiled == [1, 1]
    sizes = [min(len(s.tokens) - 1, 16) for s in sequences]
    assert sum(m['token_pairs'] for m in a) == sum(size**2 for size in sizes)
    assert [m['tokens_computed'] for m in b] == [8 * 16, 2 * 16] and a[0]['tokens_computed'] < 8 * 16


def test_batch_without_a_trained_token_has_no_gradient(plain):
    plain.restart(seed=0)
    metrics = plain.step(BATCHES[0] | {'weights': np.zeros_like(BATCHES[0]['weights'])})
    assert (metrics['loss'], metrics['grad_norm'], metrics['trained_tokens']) == (0.0, 0.0, 0.0)
    assert all(np.isfinite(leaf).all() for leaf in on_host(plain.state.trainable))


def test_only_adapters_change(single):
    trainer, base, *_ = single
    for a, b in zip(on_host(trainer.frozen), base, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(on_host(trainer.state.trainable), on_host(trainer.start.trainable), strict=True):
        assert np.abs(a - b).max() > 1e-4


def test_eight_devices_compute_what_one_does(single, cut):
    for a, b in zip(cut[1], single[2], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert_near(on_host(cut[0].state.trainable), on_host(single[0].state.trainable), 2e-3)


def test_step_compiles_once(single, cut):
    assert COMPILED and single[-1] == 0 and cut[-1] == 0
    assert single[0].step_fn._cache_size() == 1


def test_adapters_and_moments_lie_cut_over_the_mesh(cut):
    trainer = cut[0]
    layout = jax.tree.map(lambda x: x.sharding, trainer.start)
    assert jax.tree.map(lambda x: x.sharding, trainer.state) == layout
    b = trainer.state.trainable['q_proj']['b']
    assert (b.shape, b.addressable_shards[0].data.shape) == ((2, 4, 40), (2, 4, 10))
    moments = [x for x in jax.tree.leaves(trainer.state.opt_state) if x.shape == b.shape]
    assert sum(x.sharding == b.sharding for x in moments) >= 2


def test_dropout_follows_from_the_seed(single, plain):
    def losses(trainer, seed):
        trainer.restart(seed)
        return [trainer.step(BATCHES[0])['loss'] for _ in range(4)]

    trainer, after = single[0], single[0].state
    assert losses(trainer, 0) == losses(trainer, 0) != losses(trainer, 1)
    assert losses(plain, 0) == losses(plain, 1)
    trainer.state = after

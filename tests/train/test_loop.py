import json

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import LORA, OPTIMIZER, Trainer, make_mesh, make_row, on_host

from warmjax.data import batches
from warmjax.train import preemption
from warmjax.train.loop import LoopSettings, Run
from warmjax.train.metrics import TIMINGS, Work
from warmjax.train.optimizer import make_schedule

STEPS = 100
WORK = Work(flops_per_token=3e3, flops_per_pair=5.0, peak_flops=1e12)
GENERATOR = np.random.default_rng(0)
ROWS = [make_row(GENERATOR, 8) | {'weights': np.ones(8, np.float32)} for _ in range(20)]


class Killed(BaseException):
    """Stands for a signal."""


def make_run(folder, checkpoint_every, save_at, divergence=0.0, profile=()):
    data = batches.of_rows(ROWS, batch_size=4, micro_batch=2, seed=0, epochs=STEPS // 5)
    settings = LoopSettings(checkpoint_every, checkpoint_minutes=0.0, divergence=divergence, profile=profile)
    return Run('tiny', folder, data, 'row {}'.format, make_schedule(OPTIMIZER, STEPS), settings, WORK, save_at)


def metrics(folder):
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMINGS} for row in rows]


@pytest.fixture(scope='module')
def trainer():
    """A real step, with dropout; its state is made anew for every run, as in a new process."""
    assert LORA.dropout > 0
    return Trainer(make_mesh(1, 1, 1), LORA.dropout, STEPS)


def execute(trainer, folder, checkpoint_every, save_at):
    trainer.restart(seed=0)
    run = make_run(folder, checkpoint_every, save_at)
    return run.execute(trainer.state, trainer.frozen, trainer.step_fn, trainer.mesh)


@pytest.fixture(scope='module')
def whole(trainer, tmp_path_factory):
    """A run that nothing interrupts: its folder and last state."""
    folder = tmp_path_factory.mktemp('whole')
    return folder, execute(trainer, folder, 50, {})


@pytest.mark.parametrize('checkpoint_every, killed_at', [(50, 63), (20, 50), (200, 30)])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(trainer, whole, tmp_path, checkpoint_every, killed_at):
    def kill(_):
        raise Killed

    with pytest.raises(Killed):
        execute(trainer, tmp_path, checkpoint_every, {killed_at: kill})
    assert len(metrics(tmp_path)) == killed_at - 1
    state = execute(trainer, tmp_path, checkpoint_every, {})
    assert int(state.step) == STEPS
    for part in ('trainable', 'opt_state'):
        for a, b in zip(on_host(getattr(state, part)), on_host(getattr(whole[1], part)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert metrics(tmp_path) == metrics(whole[0])


def test_metrics_have_every_step_once_and_the_rate_of_the_schedule(whole):
    rows = metrics(whole[0])
    assert [row['step'] for row in rows] == list(range(STEPS))
    schedule = make_schedule(OPTIMIZER, STEPS)
    assert [row['learning_rate'] for row in rows] == [float(schedule(step)) for step in range(STEPS)]
    assert rows[0]['trained_tokens'] == 32.0
    assert {'loss', 'grad_norm', 'tokens'} <= set(rows[0])
    assert list((whole[0] / 'tensorboard').iterdir())


def test_run_that_is_done_is_not_run_again(trainer, whole):
    before = metrics(whole[0])
    state = execute(trainer, whole[0], 50, {})
    assert int(state.step) == STEPS
    assert metrics(whole[0]) == before
    for a, b in zip(on_host(state.trainable), on_host(whole[1].trainable), strict=True):
        np.testing.assert_array_equal(a, b)


class Counting:
    """A step that counts; its loss and gradient follow a script."""

    def __init__(self, loss, grad_norm):
        self.scripts = {'loss': loss, 'grad_norm': grad_norm}

    def __call__(self, state, frozen, batch):
        step = int(state.step)
        values = {name: jnp.float32(script.get(step, 1.0)) for name, script in self.scripts.items()}
        values |= dict.fromkeys(('tokens', 'tokens_computed', 'token_pairs'), jnp.float32(8))
        trainable = {'count': jnp.float32(step + 1)}
        return state._replace(trainable=trainable, opt_state=(), step=state.step + 1), values


def counted(trainer, folder, step_fn, save_at):
    trainer.restart(seed=0)
    start = trainer.state._replace(trainable={'count': jnp.float32(0)}, opt_state=())
    return make_run(folder, 10, save_at).execute(start, None, step_fn, trainer.mesh)


@pytest.mark.parametrize('bad', [{'loss': {25: np.nan}}, {'loss': {29: np.inf}}, {'grad_norm': {29: np.inf}}])
def test_run_stops_where_a_number_is_lost_and_no_checkpoint_holds_it(trainer, tmp_path, bad):
    script = Counting(**({'loss': {}, 'grad_norm': {}} | bad))
    with pytest.raises(
        FloatingPointError, match=r'expected a finite loss and gradient, got .* at step 2\d; the newest'
    ):
        counted(trainer, tmp_path, script, {})
    assert sorted(int(path.name) for path in (tmp_path / 'checkpoints').iterdir()) == [10, 20]
    assert int(counted(trainer, tmp_path, Counting({}, {}), {}).step) == STEPS


def test_parameters_are_handed_out_after_the_steps_asked_for(trainer, tmp_path):
    seen = []
    def save(trainable):
        seen.append(float(trainable['count']))
        return {'saved': seen[-1]}

    saves = dict.fromkeys((1, 7, 10, STEPS), save)
    counted(trainer, tmp_path, Counting({}, {}), saves)
    assert seen == [1, 7, 10, STEPS]
    assert [row['step'] + 1 for row in metrics(tmp_path) if 'saved' in row] == seen


def test_batches_come_in_their_own_order(trainer, tmp_path):
    seen = []

    def watching(state, frozen, batch):
        seen.append(np.asarray(batch['tokens']))
        return Counting({}, {})(state, frozen, batch)

    counted(trainer, tmp_path, watching, {})
    data = make_run(tmp_path, 1, {}).batches.arrays(range(2))
    np.testing.assert_array_equal(np.array(seen), np.array([data[step]['tokens'] for step in range(STEPS)]))

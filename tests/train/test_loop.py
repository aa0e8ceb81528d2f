import dataclasses
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny_training
from tiny_training import LORA, OPTIMIZER, Trainer, make_mesh, make_row, on_host

from warmjax.data import batches
from warmjax.train import loop, preemption
from warmjax.train.loop import LoopSettings, Run
from warmjax.train.metrics import TIMINGS, Work
from warmjax.train.optimizer import make_schedule

STEPS = 100
WORK = Work(flops_per_token=3e3, flops_per_pair=5.0, peak_flops=1e12)
GENERATOR = np.random.default_rng(0)
ROWS = [make_row(GENERATOR, 8) | {'weights': np.ones(8, np.float32)} for _ in range(20)]
BATCHES = batches.of_rows(ROWS, batch_size=4, micro_batch=2, seed=0, epochs=STEPS // 5)


class Killed(BaseException):
    """Stands for a signal."""


def make_run(folder, checkpoint_every, save_at, divergence=0.0, profile=()):
    settings = LoopSettings(checkpoint_every, checkpoint_minutes=0.0, divergence=divergence, profile=profile)
    return Run('tiny', folder, BATCHES, 'row {}'.format, make_schedule(OPTIMIZER, STEPS), settings, WORK, save_at)


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


def checkpoints(folder):
    return sorted(int(path.name) for path in (folder / 'checkpoints').iterdir() if path.name.isdigit())


def counted(trainer, folder, step_fn, save_at, **settings):
    trainer.restart(seed=0)
    start = trainer.state._replace(trainable={'count': jnp.float32(0)}, opt_state=())
    return make_run(folder, 10, save_at, **settings).execute(start, None, step_fn, trainer.mesh)


@pytest.mark.parametrize('bad', [{'loss': {25: np.nan}}, {'loss': {29: np.inf}}, {'grad_norm': {29: np.inf}}])
def test_run_stops_where_a_number_is_lost_and_no_checkpoint_holds_it(trainer, tmp_path, bad):
    script = Counting(**({'loss': {}, 'grad_norm': {}} | bad))
    with pytest.raises(FloatingPointError, match=r'expected a finite loss and gradient, got .* at step 2\d') as error:
        counted(trainer, tmp_path, script, {})
    step = next(iter(next(iter(bad.values()))))
    members = make_run(tmp_path, 10, {}).batches.members(step)
    assert len(members) == 4 and ', '.join(f'row {index}' for index in members) in str(error.value)
    assert f'the newest checkpoint is {tmp_path / "checkpoints" / "20"}' in str(error.value)
    assert checkpoints(tmp_path) == [10, 20]
    assert int(counted(trainer, tmp_path, Counting({}, {}), {}).step) == STEPS


def test_loss_far_above_its_median_stops_the_run_also_after_a_resume(trainer, tmp_path):
    script = Counting({**dict.fromkeys(range(5), 9.0), 31: 2.9, 35: 3.1}, {})
    for _ in range(2):  # the second start has only five losses of its own
        with pytest.raises(FloatingPointError, match=r'3 times the median 1 of .*, got 3.1 at step 35'):
            counted(trainer, tmp_path, script, {}, divergence=3.0)
    assert checkpoints(tmp_path) == [20, 30]
    assert int(counted(trainer, tmp_path, script, {}, divergence=4.0).step) == STEPS


def test_sigterm_saves_after_its_step_and_the_same_command_goes_on_bit_for_bit(trainer, whole, tmp_path):
    def preempt(_):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        execute(trainer, tmp_path, 200, {50: preempt})
    assert stop.value.code == preemption.EXIT_CODE == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoints(tmp_path) == [50, 51]  # the signal came while the adapters of step 50 were saved
    state = execute(trainer, tmp_path, 200, {})
    for a, b in zip(on_host(state.trainable), on_host(whole[1].trainable), strict=True):
        np.testing.assert_array_equal(a, b)
    assert metrics(tmp_path) == metrics(whole[0])


def test_run_goes_on_over_other_devices(trainer, whole, tmp_path):
    def kill(_):
        raise Killed

    with pytest.raises(Killed):
        execute(trainer, tmp_path, 90, {93: kill})
    other = Trainer(make_mesh(2, 1, 2), LORA.dropout, STEPS)
    state = make_run(tmp_path, 200, {}).execute(other.state, other.frozen, other.step_fn, other.mesh)
    for a, b in zip(on_host(state.trainable), on_host(whole[1].trainable), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * np.abs(b).max())


@pytest.mark.parametrize(
    'error', [OSError(errno.ENOSPC, 'No space left on device'), ValueError('No space left on device')]
)
def test_full_disk_stops_the_run_and_leaves_the_checkpoint_before(trainer, tmp_path, monkeypatch, error):
    commit = ocp.path.atomicity.AtomicRenameTemporaryPath.finalize

    async def full(self):
        if '30' in str(self.get_final()):
            raise error
        await commit(self)

    monkeypatch.setattr(ocp.path.atomicity.AtomicRenameTemporaryPath, 'finalize', full)
    with pytest.raises(OSError, match=f'expected room for a checkpoint, got a full disk; the newest .*{20}: make room'):
        counted(trainer, tmp_path, Counting({}, {}), {})
    assert 20 in checkpoints(tmp_path) and 30 not in checkpoints(tmp_path)
    monkeypatch.undo()
    assert int(counted(trainer, tmp_path, Counting({}, {}), {}).step) == STEPS


KILLED_WHILE_WRITING = """
import os, pathlib, signal, sys
import orbax.checkpoint as ocp
import test_loop
commit = ocp.path.atomicity.AtomicRenameTemporaryPath.finalize
async def die(self):
    if self.get_final().name == '30':
        os.kill(os.getpid(), signal.SIGKILL)
    await commit(self)
ocp.path.atomicity.AtomicRenameTemporaryPath.finalize = die
trainer = test_loop.Trainer(test_loop.make_mesh(1, 1, 1), 0.1, test_loop.STEPS)
test_loop.counted(trainer, pathlib.Path(sys.argv[1]), test_loop.Counting({}, {}), {})
"""


def test_run_that_is_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(trainer, tmp_path):
    path = os.pathsep.join([str(pathlib.Path(__file__).parent), str(pathlib.Path(tiny_training.__file__).parent)])
    environment = os.environ | {'PYTHONPATH': os.pathsep.join([path, str(pathlib.Path.cwd())])}
    done = subprocess.run([sys.executable, '-c', KILLED_WHILE_WRITING, str(tmp_path)], env=environment)
    assert done.returncode == -signal.SIGKILL
    assert checkpoints(tmp_path) == [10, 20]
    seen = []

    def watching(state, frozen, batch):
        seen.append(int(state.step))
        return Counting({}, {})(state, frozen, batch)

    assert float(counted(trainer, tmp_path, watching, {}).trainable['count']) == STEPS
    assert seen == list(range(20, STEPS))


def test_minutes_alone_can_ask_for_a_checkpoint(trainer, tmp_path, monkeypatch):
    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls):
            cls.now += 1e-3
            return cls.now

    def ticking(state, frozen, batch):
        Clock.now += 60.0
        return Counting({}, {})(state, frozen, batch)

    monkeypatch.setattr(loop, 'time', Clock)
    saved = []
    save = loop.Checkpoints.save
    monkeypatch.setattr(loop.Checkpoints, 'save', lambda self, s, p: (saved.append(int(s.step)), save(self, s, p)))
    trainer.restart(seed=0)
    start = trainer.state._replace(trainable={'count': jnp.float32(0)}, opt_state=())
    run = make_run(tmp_path, 1000, {})
    run = dataclasses.replace(run, settings=dataclasses.replace(run.settings, checkpoint_minutes=30.0))
    run.execute(start, None, ticking, trainer.mesh)
    assert saved == [30, 60, 90, 100]


def test_profile_of_a_window_is_written(trainer, tmp_path):
    counted(trainer, tmp_path, Counting({}, {}), {}, profile=(3, 5))
    assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_rates_leave_the_first_step_out(whole):
    rows = [json.loads(line) for line in (whole[0] / 'metrics.jsonl').read_text().splitlines()]
    assert not {'tokens_per_second', 'mfu_4n', 'step_seconds_p90'} & set(rows[0])
    for row in rows[1:]:
        flops = 3e3 * row['tokens'] + 5.0 * row['token_pairs']
        assert row['mfu_4n'] == pytest.approx(flops / row['step_seconds'] / 1e12)
        assert row['tokens_per_second'] == pytest.approx(row['tokens'] / row['step_seconds'])
        assert row['padding_share'] == pytest.approx(1 - row['tokens'] / row['tokens_computed'])
        assert row['step_seconds_p50'] <= row['step_seconds_p90'] and row['data_wait_seconds'] >= 0


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

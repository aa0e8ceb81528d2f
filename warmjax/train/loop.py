"""Runs training steps, from the newest checkpoint on, and hands the trained parameters out at the steps asked for."""

import collections
import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
import optax
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from warmjax import progress, sharding
from warmjax.data.batches import Batches
from warmjax.train import metrics, preemption
from warmjax.train.checkpoints import Checkpoints
from warmjax.train.metrics import MetricLog, Rates, Work
from warmjax.train.step import TrainState

AGREE_EVERY = 10
"""Steps after which several processes ask the first one's clock whether a checkpoint is due."""
FEWEST_LOSSES = 10
"""Losses without which a median says nothing."""


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """checkpoint_every: steps between checkpoints of the full state.
    checkpoint_minutes: and the most minutes between them; 0 for no such bound.
    divergence: a loss above so many times the median of the last 50 stops the run; 0 for none does.
    profile: first and last step of the profiler's window, or empty.
    """

    checkpoint_every: int
    checkpoint_minutes: float
    divergence: float
    profile: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run that can be resumed.

    title: what the progress bar says.
    folder: where checkpoints, metrics and the profile go.
    batches: what is trained on.
    name: index of what lies in a batch → what a message calls it.
    schedule: step → learning rate, for the metrics.
    settings: see their class.
    work: what a step must compute, for the metrics; None for no such metric.
    save_at: step → what to do with the trained parameters after that many steps; it returns further metrics.
    """

    title: str
    folder: epath.PathLike
    batches: Batches
    name: Callable[[int], str]
    schedule: optax.Schedule
    settings: LoopSettings
    work: Work | None
    save_at: Mapping[int, Callable[[Any], Mapping[str, float]]]

    def execute(self, state: TrainState, frozen: Any, step_fn: Callable, mesh: Mesh) -> TrainState:
        """Trains to the end of `batches` and returns the last state.

        Raises:
            FloatingPointError: loss or gradients are no longer numbers, or the loss has left all measure.
            OSError: a checkpoint found no room.
            SystemExit: SIGTERM came; the state is saved and the code is `preemption.EXIT_CODE`.
        """
        folder, total = epath.Path(self.folder), len(self.batches)
        checkpoints = Checkpoints(folder / 'checkpoints')
        iterator, losses = self._iterator(mesh), collections.deque(maxlen=metrics.WINDOW)
        if restored := checkpoints.restore(state):
            state, position = restored
            iterator.set_state(position['iterator'])
            losses.extend(position['losses'])
        first, is_writer = int(state.step), jax.process_index() == 0
        with (
            contextlib.closing(checkpoints),
            jax.set_mesh(mesh),
            MetricLog(folder, first, is_writer) as log,
            progress.bar(self.title, total, first, show=is_writer) as advance,
            preemption.Notice() as notice,
            _Profile(folder / 'profile', self.settings.profile) as profile,
        ):
            watch, clock = _Watch(self, checkpoints, log, advance, losses), _Clock(self.settings)
            pending = None
            for step in range(first, total):
                begun = time.monotonic()
                profile.before(step)
                batch = sharding.put_batch(next(iterator), mesh, batch_axis=1, size=self.batches.micro_batch)
                waited = time.monotonic() - begun
                state, values = step_fn(state, frozen, batch)
                if pending is not None:
                    watch.report(pending)
                pending = _Taken(step, values, begun, waited)
                profile.after(step, values)
                done, stops = step + 1, notice.is_due(step + 1)
                if done in self.save_at or clock.is_due(done) or stops or done == total:
                    watch.report(pending, self.save_at.get(done), state.trainable)
                    pending = None
                    checkpoints.save(state, {'iterator': iterator.get_state(), 'losses': list(losses)})
                if stops and done < total:
                    progress.say(f'{self.title}: asked to stop; saved after step {done} of {total}')
                    raise SystemExit(preemption.EXIT_CODE)
        return state

    def _iterator(self, mesh: Mesh) -> grain.DatasetIterator:
        arrays = self.batches.arrays(sharding.local_rows(mesh, self.batches.micro_batch))
        return iter(arrays.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))


class _Taken(NamedTuple):
    """A step that was sent to the devices: its metrics, when it began, and its seconds of waiting for data."""

    step: int
    values: Mapping[str, jax.Array]
    begun: float
    waited: float


class _Watch:
    """Waits for the metrics of steps, checks them and writes them down."""

    def __init__(
        self,
        run: Run,
        checkpoints: Checkpoints,
        log: MetricLog,
        advance: progress.Advance,
        losses: collections.deque[float],
    ):
        self._run, self._checkpoints, self._log, self._advance, self._losses = run, checkpoints, log, advance, losses
        self._rates = Rates(run.work)
        self._last = 0.0

    def report(self, taken: _Taken, save: Callable | None = None, trainable: Any = None) -> None:
        """Waits for a step, and hands its result to `save` if its numbers are sound."""
        values = {name: float(value) for name, value in taken.values.items()}
        now = time.monotonic()
        seconds, self._last = now - max(taken.begun, self._last), now
        self._check(taken.step, values)
        self._losses.append(values['loss'])
        values['learning_rate'] = float(self._run.schedule(taken.step))
        values['padding_share'] = 1 - values['tokens'] / max(values['tokens_computed'], 1)
        values |= self._rates.of(seconds, taken.waited, values)
        if save is not None:
            values |= save(trainable)
        self._log.write(taken.step, values)
        self._advance(1, f'loss {values["loss"]:.3f}')

    def _check(self, step: int, values: Mapping[str, float]) -> None:
        loss, norm, limit = values['loss'], values['grad_norm'], self._run.settings.divergence
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._stop(step, f'a finite loss and gradient, got loss {loss} and gradient norm {norm}')
        if limit and len(self._losses) >= FEWEST_LOSSES:
            median = statistics.median(self._losses)
            if loss > limit * median:
                wanted = f'a loss up to {limit:g} times the median {median:.4g} of the steps before'
                self._stop(step, f'{wanted}, got {loss:.4g}')

    def _stop(self, step: int, problem: str) -> None:
        self._checkpoints.wait()
        members = ', '.join(self._run.name(index) for index in self._run.batches.members(step))
        raise FloatingPointError(
            f'{self._run.folder}: expected {problem} at step {step}, whose batch holds {members}; '
            f'{self._checkpoints.newest()}, from before: lower the learning rate '
            '(config.train.optimizer.learning_rate) or look at the batch'
        )


class _Clock:
    """Says when a checkpoint is due, the same in every process."""

    def __init__(self, settings: LoopSettings):
        self._settings = settings
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Says whether to save after so many steps; to be asked after every step."""
        due = step % self._settings.checkpoint_every == 0 or self._is_late(step)
        if due:
            self._last = time.monotonic()
        return due

    def _is_late(self, step: int) -> bool:
        minutes = self._settings.checkpoint_minutes
        late = bool(minutes) and time.monotonic() - self._last >= 60 * minutes
        if not minutes or jax.process_count() == 1:
            return late
        return step % AGREE_EVERY == 0 and bool(multihost_utils.broadcast_one_to_all(np.int32(late)))


class _Profile:
    """Writes the profile of a window of steps, for TensorBoard or XProf."""

    def __init__(self, folder: epath.Path, window: Sequence[int]):
        self._folder, self._window, self._is_on = folder, window, False

    def before(self, step: int) -> None:
        if self._window and step == self._window[0]:
            jax.profiler.start_trace(str(self._folder))
            self._is_on = True

    def after(self, step: int, values: Mapping[str, jax.Array]) -> None:
        """Ends the window after its last step, whose `values` it waits for."""
        if self._is_on and step >= self._window[1]:
            jax.block_until_ready(values)
            self._end()

    def __enter__(self) -> '_Profile':
        return self

    def __exit__(self, *_) -> None:
        self._end()

    def _end(self) -> None:
        if self._is_on:
            jax.profiler.stop_trace()
            self._is_on = False

"""Runs training steps, from the newest checkpoint on, and hands the trained parameters out at the steps asked for."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import grain
import jax
import optax
from etils import epath
from jax.sharding import Mesh

from warmjax import progress, sharding
from warmjax.train.checkpoints import Checkpoints
from warmjax.train.metrics import MetricLog
from warmjax.train.step import TrainState


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run that can be resumed.

    title: what the progress bar says.
    folder: where checkpoints and metrics go.
    batches: batch s of the run at index s, as `warmjax.data.batches.dataset` makes them.
    schedule: step → learning rate, for the metrics.
    checkpoint_every: steps between checkpoints of the full state.
    save_at: step → what to do with the trained parameters after that many steps.
    """

    title: str
    folder: epath.PathLike
    batches: grain.MapDataset
    schedule: optax.Schedule
    checkpoint_every: int
    save_at: Mapping[int, Callable[[Any], None]]

    def execute(self, state: TrainState, frozen: Any, step_fn: Callable, mesh: Mesh) -> TrainState:
        """Trains to the end of `batches` and returns the last state.

        Raises:
            FloatingPointError: loss or gradients are no longer numbers; the newest checkpoint is from before.
        """
        folder, total = epath.Path(self.folder), len(self.batches)
        checkpoints = Checkpoints(folder / 'checkpoints')
        iterator = iter(self.batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))
        if restored := checkpoints.restore(state):
            state, position = restored
            iterator.set_state(position)
        first, is_writer = int(state.step), jax.process_index() == 0
        with (
            contextlib.closing(checkpoints),
            jax.set_mesh(mesh),
            MetricLog(folder, first, is_writer) as log,
            progress.bar(self.title, total, first, show=is_writer) as advance,
        ):
            pending = None
            for step in range(first, total):
                batch = sharding.put_batch(next(iterator), mesh, batch_axis=1)
                state, metrics = step_fn(state, frozen, batch)
                if pending is not None:
                    self._report(log, advance, *pending)
                pending = (step, metrics, time.monotonic())
                if step + 1 in self.save_at or (step + 1) % self.checkpoint_every == 0 or step + 1 == total:
                    self._report(log, advance, *pending)
                    pending = None
                    if step + 1 in self.save_at:
                        self.save_at[step + 1](state.trainable)
                    checkpoints.save(state, iterator.get_state())
        return state

    def _report(self, log: MetricLog, advance: progress.Advance, step: int, metrics: dict, dispatched: float) -> None:
        """Waits for a step's metrics and writes them."""
        values = {name: float(value) for name, value in metrics.items()}
        if not (math.isfinite(values['loss']) and math.isfinite(values['grad_norm'])):
            raise FloatingPointError(
                f'{self.folder}: expected a finite loss and gradient, got loss {values["loss"]} and gradient norm '
                f'{values["grad_norm"]} at step {step}; the newest checkpoint is from before: lower the learning rate '
                '(config.train.optimizer.learning_rate) or look at the batch'
            )
        seconds = time.monotonic() - dispatched
        values |= {'learning_rate': float(self.schedule(step)), 'step_seconds': round(seconds, 4)}
        log.write(step, values)
        advance(1, f'loss {values["loss"]:.3f}')

"""Metrics of a training run: a JSONL row a step, the same to TensorBoard, and the rates among them."""

import collections
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np
from etils import epath

from warmjax import runs
from warmjax.models.spec import Spec

TIMINGS = (
    'step_seconds',
    'step_seconds_p50',
    'step_seconds_p90',
    'data_wait_seconds',
    'tokens_per_second',
    'tokens_computed_per_second',
    'mfu_4n',
    'peak_memory_bytes',
)
"""Metrics that differ between two runs of the same numbers."""

PEAK_TFLOPS = {
    'TPU v4': 275.0,
    'TPU v5 lite': 197.0,
    'TPU v5': 459.0,
    'TPU v5p': 459.0,
    'TPU v6 lite': 918.0,
    'NVIDIA A100': 312.0,
    'NVIDIA H100': 989.0,
    'NVIDIA H200': 989.0,
}
"""How a device's kind begins → dense bfloat16 TFLOP/s of its datasheet."""

WINDOW = 50
"""Steps over which quantiles are taken."""


def peak_tflops(device: jax.Device) -> float | None:
    """Returns the datasheet's bfloat16 peak of a device, or None where it is not known."""
    names = [name for name in PEAK_TFLOPS if device.device_kind.startswith(name)]
    return PEAK_TFLOPS[max(names, key=len)] if names else None


@dataclasses.dataclass(frozen=True)
class Work:
    """What LoRA training must compute, and what the devices could: the terms of `mfu_4n`.

    flops_per_token: 4 N + 6 N_lora, for N frozen weights in matrix products (forward, and backward to activations)
        and N_lora trained ones (to weights too).
    flops_per_pair: of attention, forward and backward, for each pair of tokens of a segment; half of them are causal.
    peak_flops: a second, all devices together; None where it is not known.
    """

    flops_per_token: float
    flops_per_pair: float
    peak_flops: float | None


def lora_work(spec: Spec, adapters: Any, peak_tflops: float | None) -> Work:
    """Counts the work of LoRA training; what is computed again in the backward pass, and padding, do not count."""
    trained = sum(leaf.size for leaf in jax.tree.leaves(adapters))
    attention = 6.0 * spec.num_layers * spec.num_heads * spec.head_dim
    peak = None if peak_tflops is None else peak_tflops * 1e12 * jax.device_count()
    return Work(4.0 * spec.num_matmul_params + 6.0 * trained, attention, peak)


class Rates:
    """Turns the seconds of steps into rates; the first step of a process compiles, and is left out of them."""

    def __init__(self, work: Work | None):
        self._work = work
        self._seconds = collections.deque(maxlen=WINDOW)
        self._is_first = True

    def of(self, seconds: float, waited: float, values: Mapping[str, float]) -> dict[str, float]:
        """Returns the timings of a step.

        Args:
            seconds: what it took, on the devices or waiting for them.
            waited: of which the input pipeline.
            values: its metrics, `tokens`, `tokens_computed` and `token_pairs` among them.
        """
        timings = {'step_seconds': seconds, 'data_wait_seconds': waited} | _memory()
        if self._is_first:
            self._is_first = False
            return timings
        self._seconds.append(seconds)
        p50, p90 = np.quantile(self._seconds, (0.5, 0.9))
        timings |= {'step_seconds_p50': float(p50), 'step_seconds_p90': float(p90)}
        timings |= {f'{name}_per_second': values[name] / seconds for name in ('tokens', 'tokens_computed')}
        if self._work is not None and self._work.peak_flops:
            flops = self._work.flops_per_token * values['tokens'] + self._work.flops_per_pair * values['token_pairs']
            timings['mfu_4n'] = flops / seconds / self._work.peak_flops
        return timings


def _memory() -> dict[str, float]:
    """Returns the most memory that any of this process's devices held so far, where they say."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stat['peak_bytes_in_use'] for stat in stats if 'peak_bytes_in_use' in stat]
    return {'peak_memory_bytes': float(max(peaks))} if peaks else {}


class MetricLog:
    """Writes `metrics.jsonl` and TensorBoard events to a folder; a resumed run continues both."""

    def __init__(self, folder: epath.PathLike, first_step: int, is_writer: bool):
        """Keeps the rows of steps before `first_step`, which a resumed run will not take again."""
        self._is_writer = is_writer
        if is_writer:
            import tensorboardX  # imports torch where that is installed, which takes seconds

            folder = epath.Path(folder)
            path = folder / 'metrics.jsonl'
            kept = path.read_text().splitlines() if path.exists() else []
            kept = [line for line in kept if line.endswith('}') and json.loads(line)['step'] < first_step]
            runs.write_atomic(path, ''.join(line + '\n' for line in kept))
            self._rows = runs.RowLog(path)
            self._events = tensorboardX.SummaryWriter(str(folder / 'tensorboard'), purge_step=first_step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds one row."""
        if self._is_writer:
            self._rows.append([json.dumps({'step': step, **values}, sort_keys=True)])
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        if self._is_writer:
            self._rows.close()
            self._events.close()


def read_rows(folder: epath.PathLike) -> list[dict[str, float]]:
    """Reads what a run wrote to `metrics.jsonl`."""
    return [json.loads(line) for line in (epath.Path(folder) / 'metrics.jsonl').read_text().splitlines()]

"""Metrics of a training run: a JSONL row a step, and the same to TensorBoard."""

import json
from typing import Self

import tensorboardX
from etils import epath

from warmjax import runs


class MetricLog:
    """Writes `metrics.jsonl` and TensorBoard events to a folder; a resumed run continues both."""

    def __init__(self, folder: epath.PathLike, first_step: int, is_writer: bool):
        """Keeps the rows of steps before `first_step`, which a resumed run will not take again."""
        self._is_writer = is_writer
        if is_writer:
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

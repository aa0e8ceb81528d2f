"""Preemption: SIGTERM asks a run to finish its step, save its state and end, so that the same command goes on later."""

import signal
import threading
from typing import Self

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 143
"""Of a run that was asked to end: 128 + SIGTERM, as of a process that does not listen to the signal at all."""


class Notice:
    """Listens for SIGTERM inside a `with` block.

    With several processes jax listens instead (from `jax.distributed.initialize` on) and tells the others.
    """

    def __enter__(self) -> Self:
        self._came = threading.Event()
        self._is_alone = jax.process_count() == 1
        if self._is_alone:
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._came.set())
        return self

    def __exit__(self, *_) -> None:
        if self._is_alone:
            signal.signal(signal.SIGTERM, self._before)

    def is_due(self, step: int) -> bool:
        """Says whether to stop after so many steps, the same in every process; to be asked after every step."""
        return self._came.is_set() if self._is_alone else multihost_utils.reached_preemption_sync_point(step)

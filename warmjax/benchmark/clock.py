"""How long calls take, and how much memory they need at the most."""

import ctypes
import dataclasses
import gc
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

STATUS = '/proc/self/status'


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of a call in each round, which is the mean of the round's calls."""

    seconds: tuple[float, ...]
    calls_a_round: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def time_calls(
    call: Callable[[], Any],
    warm_up: int,
    rounds: int,
    least_seconds: float,
    advance: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Times a call whose result a device is waited for.

    Args:
        call: sends work off and returns arrays of its result.
        warm_up: calls that are not counted; of those after the first, the last says how many fill a round.
        rounds: counted.
        least_seconds: a round has as many calls as take so long, sent off one after the other.
        advance: called after each round.
    """
    for _ in range(max(warm_up, 1)):
        begun = clock()
        jax.block_until_ready(call())
        taken = clock() - begun
    number = max(1, round(least_seconds / max(taken, 1e-9)))
    seconds = []
    for _ in range(rounds):
        begun = clock()
        for _ in range(number):
            result = call()
        jax.block_until_ready(result)
        seconds.append((clock() - begun) / number)
        advance()
    return Timing(tuple(seconds), number)


class Peak:
    """The most memory that a device held since `begin`, above what was held when this was made.

    An accelerator's counter of its peak never falls, so a case that needs less than an earlier one of the same process
    has no number of its own. On CPU it is by how much the process's resident memory grew, and the arrays that it held
    before: their making is not measured, as what the compiler leaves behind would be counted too.
    """

    def __init__(self, devices: Sequence[jax.Device]):
        gc.collect()
        self._devices = devices
        self._is_host = devices[0].platform == 'cpu'
        self._before = None if self._is_host else self._read('bytes_in_use')
        self._peak_before = None if self._is_host else self._read('peak_bytes_in_use')

    def begin(self, held: int) -> None:
        """Forgets what was needed so far, where that can be; arrays of `held` bytes are there by now."""
        resident = _resident() if self._is_host else None
        if resident is not None:
            try:
                pathlib.Path('/proc/self/clear_refs').write_text('5')  # lets the peak begin anew
                self._before = resident - held
            except OSError:
                self._before = None

    def read(self) -> int | None:
        """Returns bytes, or None where they are not known."""
        if self._is_host:
            peak = _field(STATUS, 'VmHWM')
            return None if peak is None or self._before is None else max(peak - self._before, 0)
        peak = self._read('peak_bytes_in_use')
        return peak - (self._before or 0) if peak and peak > (self._peak_before or 0) else None

    def _read(self, name: str) -> int | None:
        found = [(device.memory_stats() or {}).get(name) for device in self._devices]
        return max((value for value in found if value is not None), default=None)


def free_memory(device: jax.Device) -> int | None:
    """Returns the bytes that a device has left, or None where it does not say."""
    if device.platform == 'cpu':
        return _field('/proc/meminfo', 'MemAvailable')
    stats = device.memory_stats() or {}
    return stats['bytes_limit'] - stats['bytes_in_use'] if 'bytes_limit' in stats else None


def _resident() -> int | None:
    """Returns this process's memory after what it has freed went back to the system."""
    if pathlib.Path(STATUS).exists():
        ctypes.CDLL(None).malloc_trim(0)
    return _field(STATUS, 'VmRSS')


def _field(path: str, field: str) -> int | None:
    file = pathlib.Path(path)
    lines = file.read_text().splitlines() if file.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{field}:')), None)

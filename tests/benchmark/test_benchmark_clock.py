"""Timing with a clock that is told what time it is, and memory of this process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from warmjax.benchmark import clock


class Device:
    """Calls that take given times, and the clock that they move."""

    def __init__(self, *seconds):
        self.seconds, self.now, self.calls = list(seconds), 0.0, 0

    def call(self):
        self.now += self.seconds[min(self.calls, len(self.seconds) - 1)]
        self.calls += 1
        return jnp.zeros(())

    def time(self):
        return self.now


def test_first_calls_are_not_counted():
    device = Device(100.0, 7.0, 1.0, 4.0, 2.0)
    timing = clock.time_calls(device.call, 2, 3, 0.0, lambda: None, device.time)
    assert timing.seconds == (1.0, 4.0, 2.0) and timing.median == 2.0
    assert device.calls == 5


def test_short_calls_are_repeated_within_a_round():
    device = Device(100.0, 0.25, 0.125)
    rounds = []
    timing = clock.time_calls(device.call, 2, 2, 1.0, lambda: rounds.append(1), device.time)
    assert timing.calls_a_round == 4 and timing.seconds == (0.125, 0.125)
    assert device.calls == 2 + 2 * 4 and len(rounds) == 2


def test_peak_sees_what_was_held_and_let_go():
    peak = clock.Peak(jax.devices('cpu')[:1])
    peak.begin(0)
    held = np.ones(2**25)
    del held
    if peak.read() is None:
        pytest.skip('this system does not tell a process its peak of memory')
    assert 2**28 * 0.95 < peak.read() < 2**28 * 1.3


def test_peak_forgets_what_was_before_it_begins():
    peak = clock.Peak(jax.devices('cpu')[:1])
    held = np.ones(2**25)
    del held
    peak.begin(0)
    if peak.read() is None:
        pytest.skip('this system does not tell a process its peak of memory')
    assert peak.read() < 2**27


def test_what_was_held_when_it_begins_is_counted():
    peak = clock.Peak(jax.devices('cpu')[:1])
    held = np.ones(2**25)
    peak.begin(held.nbytes)
    if peak.read() is None:
        pytest.skip('this system does not tell a process its peak of memory')
    assert 2**28 <= peak.read() < 2**28 * 1.2


class Chip:
    """An accelerator that says what it holds."""

    platform = 'tpu'

    def __init__(self):
        self.stats = {'bytes_in_use': 10, 'peak_bytes_in_use': 50, 'bytes_limit': 100}

    def memory_stats(self):
        return self.stats


def test_a_chip_that_held_more_before_has_no_peak_to_tell():
    chip = Chip()
    peak = clock.Peak([chip])
    assert peak.read() is None
    chip.stats = chip.stats | {'peak_bytes_in_use': 70}
    assert peak.read() == 60
    assert clock.free_memory(chip) == 90

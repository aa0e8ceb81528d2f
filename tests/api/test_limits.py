"""Rates, on a clock that the test turns."""

import asyncio

import hypothesis
import pytest
from hypothesis import strategies as st

from warmjax.api import errors, limits


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next thing that waits."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


def times(monkeypatch, requests_per_minute, tokens_per_minute, calls, pause=0.0):
    """Returns when each call passes, in seconds."""

    async def run():
        loop, passed = asyncio.get_running_loop(), []
        monkeypatch.setattr(limits.time, 'monotonic', loop.time)
        gate = limits.Limits(requests_per_minute, tokens_per_minute)
        gate.pause(pause)

        async def one(tokens):
            await gate.wait(tokens)
            passed.append(loop.time())

        await asyncio.gather(*(one(tokens) for tokens in calls))
        return passed

    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(run())


def test_requests_pass_at_their_rate_after_a_first_few(monkeypatch):
    passed = times(monkeypatch, 60, 0, [1] * 65)
    assert sum(at == 0 for at in passed) == 5
    assert passed[-1] == pytest.approx(60, abs=0.1)


def test_tokens_pass_at_their_rate_even_in_calls_larger_than_the_first_allowance(monkeypatch):
    passed = times(monkeypatch, 0, 6000, [1000] * 10)
    assert passed[-1] == pytest.approx((10 * 1000 - 500) / 100, abs=0.2)


def test_a_pause_holds_every_call(monkeypatch):
    assert min(times(monkeypatch, 0, 0, [1] * 3, pause=7.0)) == pytest.approx(7.0)


def test_without_limits_nothing_waits(monkeypatch):
    assert times(monkeypatch, 0, 0, [10**6] * 3) == [0, 0, 0]


@pytest.mark.parametrize(
    ('headers', 'seconds'),
    (
        ({'retry-after': '2.5'}, 2.5),
        ({'retry-after-ms': '300', 'retry-after': '9'}, 0.3),
        ({'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT'}, 0.0),
        ({'retry-after': 'soon'}, 0.0),
        ({}, 0.0),
    ),
)
def test_the_wait_that_a_service_asks_for_is_read(headers, seconds):
    assert errors.of_status(429, {}, headers, 'here', 'KEY', 'k').retry_after == seconds


@hypothesis.given(st.text('abc', min_size=4), st.text('abcxyz '), st.text('abcxyz '))
def test_no_error_holds_the_key(key, before, after):
    body = {'error': {'message': before + key + after}}
    for status in (401, 400, 429, 418):
        assert key not in str(errors.of_status(status, body, {}, 'here', 'KEY', key))
    assert key not in str(errors.of_exception(ConnectionError(before + key + after), 'here', key))

"""Requests and tokens a minute, and the pauses that a service asks for."""

import asyncio
import time

import aiolimiter

SPREAD_SECONDS = 5.0
"""A minute's allowance is given out in parts of this length, so that it is not all used in its first second."""


class Limits:
    """Lets calls pass at the rate of an account. For one event loop."""

    def __init__(self, requests_per_minute: int, tokens_per_minute: int):
        self._requests, self._tokens = _limiter(requests_per_minute), _limiter(tokens_per_minute)
        self._free_at = 0.0

    def pause(self, seconds: float) -> None:
        """Lets no call pass for a while."""
        self._free_at = max(self._free_at, time.monotonic() + seconds)

    async def wait(self, tokens: int) -> None:
        """Waits until a call of that many tokens may be made."""
        while (left := self._free_at - time.monotonic()) > 0:
            await asyncio.sleep(left)
        if self._requests is not None:
            await self._requests.acquire()
        while self._tokens is not None and tokens > 0:
            part = min(tokens, self._tokens.max_rate)
            await self._tokens.acquire(part)
            tokens -= part


def _limiter(per_minute: int) -> aiolimiter.AsyncLimiter | None:
    if not per_minute:
        return None
    share = per_minute * SPREAD_SECONDS / 60
    return aiolimiter.AsyncLimiter(share, SPREAD_SECONDS) if share >= 1 else aiolimiter.AsyncLimiter(1, 60 / per_minute)

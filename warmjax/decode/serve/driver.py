"""The one thread that owns the engine, and the event loop's way to it.

    event loop     ask ──▶ inbox ──▶ engine.submit        (the driver's thread)
                   end ──▶ inbox ──▶ engine.cancel
                   queue of each asker ◀── outputs ◀── engine.step

Askers come and go while the engine runs; whatever is asked at the same time is computed together.
"""

import asyncio
import functools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from warmjax.decode.requests import Output, Request
from warmjax.decode.serve.protocol import Refusal

_log = logging.getLogger(__name__)


class Steps(Protocol):
    """What a driver needs of an engine; see `warmjax.decode.engine.Engine`."""

    @property
    def is_idle(self) -> bool: ...
    def check(self, request: Request) -> None: ...
    def submit(self, request: Request) -> None: ...
    def cancel(self, request_id: str) -> None: ...
    def step(self) -> list[Output]: ...


class Asked:
    """Requests of one asker that are under way. Whoever has one must `end` it, answered or not."""

    def __init__(self, driver: 'Driver', requests: Sequence[Request]):
        self.requests = tuple(requests)
        self.outputs: asyncio.Queue[Output | None] = asyncio.Queue()
        self._driver = driver

    async def next(self) -> Output:
        """Waits for what comes next of any of the requests.

        Raises:
            Refusal: the engine has failed.
        """
        output = await self.outputs.get()
        if output is None:
            raise _failed()
        return output

    def end(self, request: Request) -> None:
        """Ends one of the requests, if it has not ended; its slot goes to the next."""
        self._driver.cancel(request.id)

    def end_all(self) -> None:
        """Ends all of the requests."""
        for request in self.requests:
            self.end(request)


class Driver:
    """Owns an engine in a thread of its own. Its methods are called from one event loop, which `start` is called in."""

    def __init__(self, engine: Steps, most: int, observe: Callable[[], None], on_failure: Callable[[], None]):
        """Takes over an engine.

        Args:
            engine: nobody else calls it from now on.
            most: requests under way or waiting at once.
            observe: called in the driver's thread after every step.
            on_failure: called in the event loop if the engine fails; nothing is answered from then on.
        """
        self._engine, self._most, self._observe, self._on_failure = engine, most, observe, on_failure
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._askers: dict[str, asyncio.Queue[Output | None] | None] = {}
        self._thread = threading.Thread(target=self._own, name='engine', daemon=True)
        self.has_failed = False

    @property
    def num_under_way(self) -> int:
        """How many requests run or wait."""
        return len(self._askers)

    def start(self) -> None:
        """Begins to serve the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Ends after the step at hand; what is under way then is not answered."""
        self._inbox.put(None)
        self._thread.join()

    def ask(self, requests: Sequence[Request]) -> Asked:
        """Sends requests to the engine, all or none.

        Raises:
            Refusal: there is no room for so many, the engine cannot compute one, or it has failed.
        """
        if self.has_failed:
            raise _failed()
        if len(self._askers) + len(requests) > self._most:
            raise Refusal(
                429,
                f'expected room for {len(requests)} more texts, got {len(self._askers)} of {self._most} under way; '
                'try again later',
                code='queue_full',
            )
        try:
            for request in requests:
                self._engine.check(request)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        asked = Asked(self, requests)
        self._askers |= {request.id: asked.outputs for request in requests}
        self._inbox.put(functools.partial(self._submit, requests))
        return asked

    def cancel(self, request_id: str) -> None:
        """Ends a request that nobody waits for any more; it counts until the engine has let it go."""
        if self._askers.get(request_id) is not None:
            self._askers[request_id] = None
            self._inbox.put(functools.partial(self._engine.cancel, request_id))

    def _submit(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._engine.submit(request)

    def _own(self) -> None:
        """The thread: sleeps where there is nothing to do."""
        try:
            while True:
                while self._engine.is_idle or not self._inbox.empty():
                    job = self._inbox.get()
                    if job is None:
                        return
                    job()
                outputs = self._engine.step()
                self._observe()
                self._loop.call_soon_threadsafe(self._deliver, outputs)
        except Exception:
            _log.exception('the engine has failed')
            self._loop.call_soon_threadsafe(self._fail)

    def _deliver(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            asker = self._askers[output.request.id]
            if output.finish:
                del self._askers[output.request.id]
            if asker is not None:
                asker.put_nowait(output)

    def _fail(self) -> None:
        self.has_failed = True
        for asker in {id(asker): asker for asker in self._askers.values() if asker is not None}.values():
            asker.put_nowait(None)
        self._askers.clear()
        self._on_failure()


def _failed() -> Refusal:
    return Refusal(503, 'expected a running engine, got one that has failed; see the log, and start the server again')

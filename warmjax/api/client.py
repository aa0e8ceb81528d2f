"""Asks a service many calls at once, within limits of rate and cost, and keeps every answer as soon as it is there."""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import gc
import itertools
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from etils import epath

from warmjax.api import prices, services
from warmjax.api.cache import Cache
from warmjax.api.chat import Answer, Call, Outcome
from warmjax.api.errors import ServiceError
from warmjax.api.ledger import Entry, Ledger
from warmjax.api.limits import Limits
from warmjax.api.settings import ServiceSettings

CACHE, LEDGER = 'api/answers.sqlite', 'api/ledger.jsonl'
LONGEST_WAIT = 60.0
"""Seconds between two tries, unless the service asks for more."""

FLUSH_SECONDS = 0.01
"""Answers that come within this time are kept, and then reported, together."""

SWITCH_SECONDS = 1e-4
"""How long one thread may keep the interpreter while others wait for it."""


class Client(Protocol):
    """Answers calls, one by one or in batches."""

    usd: float
    """Dollars that the workdir's calls have cost so far."""

    def estimate(self, calls: Sequence[Call]) -> prices.Estimate:
        """Says what calls will take before any is made."""

    def complete(self, calls: Sequence[Call]) -> Iterator[Outcome]:
        """Yields the outcome of each call as it comes, in any order."""


def make_client(settings: ServiceSettings, workdir: epath.PathLike) -> Client:
    """Builds the client that the settings name; its cache and ledger are in the workdir's folder `api`.

    Raises:
        ValueError: no key, no price though a limit in dollars is set, or a client that is not installed.
    """
    from warmjax.api import batch

    return (batch.BatchClient if settings.batch else DirectClient)(settings, workdir)


class Books:
    """What both clients keep: answers, costs, and the limit in dollars."""

    def __init__(self, settings: ServiceSettings, workdir: epath.PathLike):
        self.settings, self.price = settings, prices.price_of(settings)
        self.cache = Cache(epath.Path(workdir) / CACHE)
        self.ledger = Ledger(epath.Path(workdir) / LEDGER)

    def sort(self, calls: Sequence[Call]) -> tuple[list[Outcome], dict[str, list[Call]]]:
        """Returns the outcomes that the cache has, and the other calls by digest: the same call is made once."""
        by_digest = collections.defaultdict(list)
        for call in calls:
            by_digest[call.digest(self.settings.service, self.settings.model)].append(call)
        found = self.cache.look_up(by_digest)
        kept = [
            Outcome(call, answer, '', True, False) for digest, answer in found.items() for call in by_digest[digest]
        ]
        return kept, {digest: same for digest, same in by_digest.items() if digest not in found}

    def estimate(self, calls: Sequence[Call]) -> prices.Estimate:
        kept, missing = self.sort(calls)
        return prices.estimate([same[0] for same in missing.values()], len(kept), self.price)

    def check_budget(self, estimate: prices.Estimate) -> None:
        """Refuses calls that would cost more than is left.

        Raises:
            ValueError: they would.
        """
        limit = self.settings.limits.max_usd
        if limit is not None and estimate.usd > limit - self.ledger.usd:
            raise ValueError(
                f'{self.settings.where}: expected calls for at most ${limit:.2f} (max_usd), of which '
                f'${self.ledger.usd:.2f} are spent, got {estimate}; raise max_usd or ask for less'
            )

    def keep(self, done: Sequence[tuple[str, Answer, int, float]]) -> None:
        """Writes down answers by digest, with attempts and seconds: first what they cost, then what they say."""
        self.ledger.add([self._entry(*row) for row in done])
        self.cache.keep({digest: answer for digest, answer, _, _ in done})

    def _entry(self, digest: str, answer: Answer, attempts: int, seconds: float) -> Entry:
        read, written = answer.prompt_tokens, answer.completion_tokens
        usd = None if self.price is None else self.price.of(read, written)
        return Entry(self.settings.service, answer.model, digest[:16], read, written, usd, attempts, round(seconds, 3))


class DirectClient:
    """Asks call by call. For one `complete` at a time."""

    def __init__(self, settings: ServiceSettings, workdir: epath.PathLike):
        settings.key()  # fails here, before anything is done, if there is none
        self._settings, self._books = settings, Books(settings, workdir)

    @property
    def usd(self) -> float:
        return self._books.ledger.usd

    def estimate(self, calls: Sequence[Call]) -> prices.Estimate:
        """Says what calls will take before any is made."""
        return self._books.estimate(calls)

    def complete(self, calls: Sequence[Call]) -> Iterator[Outcome]:
        """Yields the outcome of each call as it comes, in any order.

        Raises:
            ValueError: the calls would cost more than `max_usd` leaves.
            RuntimeError: the service fails for all calls (a wrong key, a model that is gone), too many calls failed at
                every attempt, or `max_usd` is reached; what was answered is kept.
        """
        kept, missing = self._books.sort(calls)
        yield from kept
        if not missing:
            return
        self._books.check_budget(prices.estimate([same[0] for same in missing.values()], len(kept), self._books.price))
        work = _Work(self._settings, self._books, missing)
        with _calls_first():
            work.start()
            try:
                yield from work.outcomes()
            finally:
                work.stop()


@dataclasses.dataclass
class _Work:
    """The calls of one `complete`, in an event loop in a thread of its own."""

    settings: ServiceSettings
    books: Books
    missing: dict[str, list[Call]]

    def __post_init__(self):
        self._results: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name='api calls', daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task | None = None
        self._done: list[tuple[str, Answer, int, float]] = []
        self._keeper = concurrent.futures.ThreadPoolExecutor(1, 'api answers')  # a disk that is slow holds no call up
        self._failures, self._reserved = 0, 0.0

    def start(self) -> None:
        self._thread.start()

    def outcomes(self) -> Iterator[Outcome]:
        """Yields what the thread reports, and raises what ended it."""
        while (result := self._results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            for digest, answer, error in result:
                reason, is_rejected = ('', False) if error is None else (str(error), error.meaning == 'reject')
                yield from (Outcome(call, answer, reason, False, is_rejected) for call in self.missing[digest])

    def stop(self) -> None:
        """Cancels what is under way and waits for the thread."""
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop may have just ended
                self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._ask_all())
            self._results.put(None)
        except asyncio.CancelledError:
            self._results.put(None)
        except ServiceError as error:
            self._results.put(RuntimeError(str(error)))
        except BaseException as error:
            self._results.put(error)

    async def _ask_all(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        limits = self.settings.limits
        self._service = services.make_service(self.settings)
        self._limits = Limits(limits.requests_per_minute, limits.tokens_per_minute)
        self._freed = asyncio.Condition()
        waiting = iter(list(self.missing.items()))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(limits.concurrency, len(self.missing))):
                    group.create_task(self._ask_some(waiting))
        except* ServiceError as failed:
            raise failed.exceptions[0] from None
        finally:
            self._flush()
            self._keeper.shutdown()
            await self._service.close()

    async def _ask_some(self, waiting: Iterator[tuple[str, list[Call]]]) -> None:
        """Asks one call after another, as long as there are any."""
        for digest, calls in waiting:
            call = calls[0]
            most = 0.0 if self.books.price is None else self.books.price.at_most(call)
            await self._reserve(most)
            started = time.monotonic()
            try:
                answer, attempts = await self._ask(call)
            except ServiceError as error:
                self._fail(digest, error)
            else:
                if not self._done:
                    self._loop.call_later(FLUSH_SECONDS, self._flush)
                self._done.append((digest, answer, attempts, time.monotonic() - started))
            finally:
                await self._release(most)

    async def _ask(self, call: Call) -> tuple[Answer, int]:
        """Asks until there is an answer, and returns it with the number of tries."""
        payload, limits = self._service.payload(call), self.settings.limits
        for attempt in itertools.count(1):
            await self._limits.wait(call.prompt_tokens + call.sampling.max_tokens)
            try:
                return await self._service.send(payload), attempt
            except ServiceError as error:
                if error.meaning != 'retry' or attempt >= limits.max_attempts:
                    raise
                wait = self._wait(error, attempt)
            await asyncio.sleep(wait)

    def _wait(self, error: ServiceError, attempt: int) -> float:
        """Returns how long to wait; where the service says it, all calls wait, and then not all to the same moment."""
        backoff = self.settings.limits.backoff_seconds
        if error.retry_after:
            self._limits.pause(error.retry_after)
            return error.retry_after + random.uniform(0, backoff)
        return random.uniform(0.5, 1.0) * min(backoff * 2 ** (attempt - 1), LONGEST_WAIT)

    def _fail(self, digest: str, error: ServiceError) -> None:
        """Reports a call without an answer, or ends the run where more would follow."""
        if error.meaning == 'stop':
            raise error
        if error.meaning == 'retry':
            self._failures += 1
            if self._failures > self.settings.limits.max_failures:
                raise ServiceError(
                    f'{error}; so {self._failures} calls have failed at each of {self.settings.limits.max_attempts} '
                    'attempts, more than max_failures allows; start the same command again later, what was answered is '
                    'kept',
                    'stop',
                    0.0,
                )
        self._results.put([(digest, None, error)])

    def _flush(self) -> None:
        """Hands on what has been answered since the last time."""
        done, self._done = self._done, []
        if done:
            self._keeper.submit(self._keep, done)

    def _keep(self, done: list[tuple[str, Answer, int, float]]) -> None:
        """Keeps answers, and only then reports them; in the keeper's thread."""
        try:
            self.books.keep(done)
            self._results.put([(digest, answer, None) for digest, answer, _, _ in done])
        except Exception as error:
            self._results.put(error)

    async def _reserve(self, usd: float) -> None:
        """Waits until a call that may cost so much fits under the limit in dollars."""
        limit = self.settings.limits.max_usd
        if limit is None:
            return
        async with self._freed:
            await self._freed.wait_for(lambda: not self._reserved or self._total() + usd <= limit)
            if self._total() + usd > limit:
                raise ServiceError(
                    f'{self.settings.where}: expected calls for at most ${limit:.4f} (max_usd), of which '
                    f'${self._total():.4f} are spent, got a call that may cost ${usd:.4f}; raise max_usd and start the '
                    'same command again, what was answered is kept',
                    'stop',
                    0.0,
                )
            self._reserved += usd

    def _total(self) -> float:
        return self.books.ledger.usd + self._reserved

    async def _release(self, usd: float) -> None:
        if self.settings.limits.max_usd is None:
            return
        self._flush()
        await asyncio.wrap_future(self._keeper.submit(lambda: None))  # until what was handed on is in the ledger
        async with self._freed:
            # Rounding would leave a trace of a dollar that nobody holds.
            self._reserved = self._reserved - usd if self._reserved - usd > usd / 2 else 0.0
            self._freed.notify_all()


@contextlib.contextmanager
def _calls_first() -> Iterator[None]:
    """Keeps the thread of the calls from waiting for the interpreter, which it shares with what is done with answers.

    Another thread gives it up at once where Python's own interval is 5 ms. The garbage collector looks at new objects
    alone: a walk through all that jax and a run's data have made takes 0.2 s, in which no call is sent or answered.
    """
    if gc.get_freeze_count():  # by somebody else, or another client at work, and not ours to undo
        yield
        return
    interval = sys.getswitchinterval()
    gc.freeze()
    sys.setswitchinterval(min(SWITCH_SECONDS, interval))
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()


def _loop_factory():
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop

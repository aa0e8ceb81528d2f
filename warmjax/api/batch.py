"""Asks through a service's batch queue: half the price, answers within a day. A restarted run finds its batches."""

import asyncio
import json
from collections.abc import Iterator, Sequence

from etils import epath

from warmjax import progress, runs
from warmjax.api import client, prices, services
from warmjax.api.chat import Answer, Call, Outcome
from warmjax.api.errors import ServiceError
from warmjax.api.settings import ServiceSettings

BATCHES = 'api/batches.jsonl'
MOST_CALLS, MOST_BYTES = 10_000, 90_000_000
"""Of one batch; below what either service takes."""


class BatchClient:
    """Hands calls in, looks after them, and fetches their answers. For one `complete` at a time."""

    def __init__(self, settings: ServiceSettings, workdir: epath.PathLike):
        settings.key()
        self._settings, self._books = settings, client.Books(settings, workdir)
        self._log = runs.RowLog(epath.Path(workdir) / BATCHES)

    @property
    def usd(self) -> float:
        return self._books.ledger.usd

    def estimate(self, calls: Sequence[Call]) -> prices.Estimate:
        """Says what calls will take before any is made."""
        return self._books.estimate(calls)

    def complete(self, calls: Sequence[Call]) -> Iterator[Outcome]:
        """Yields the outcome of each call, batch by batch.

        Raises:
            ValueError: the calls could cost more than `max_usd` leaves.
            RuntimeError: the service refuses the batch.
        """
        kept, missing = self._books.sort(calls)
        yield from kept
        reasons: dict[str, str] = {}
        for attempt in range(self._settings.limits.max_attempts):
            if not missing:
                return
            results = self._round(missing, attempt)
            for digest, result in results.items():
                if isinstance(result, Answer):
                    yield from (Outcome(call, result, '', False, False) for call in missing.pop(digest))
                elif result.meaning == 'retry':
                    reasons[digest] = str(result)
                else:
                    yield from (Outcome(call, None, str(result), False, True) for call in missing.pop(digest))
        for digest, same in missing.items():
            yield from (
                Outcome(call, None, reasons.get(digest, 'no result in its batch'), False, False) for call in same
            )

    def _round(self, missing: dict[str, list[Call]], attempt: int) -> dict[str, Answer | ServiceError]:
        """Takes calls through the queue once; what was handed in before is not handed in again."""
        try:
            return asyncio.run(self._run(missing, attempt))
        except ServiceError as error:
            raise RuntimeError(str(error)) from None

    async def _run(self, missing: dict[str, list[Call]], attempt: int) -> dict[str, Answer | ServiceError]:
        service = services.make_service(self._settings)
        try:
            batches = self._open_batches(missing)
            held = {digest for digests in batches.values() for digest in digests}
            todo = {digest: service.payload(same[0]) for digest, same in missing.items() if digest not in held}
            cost = prices.estimate([missing[digest][0] for digest in todo], 0, self._books.price)
            self._books.check_budget(cost)
            for chunk in _chunks(todo):
                name = runs.digest([attempt, sorted(chunk)])[:32]
                batch = await service.create_batch(chunk, name)
                self._log.append([json.dumps({'batch': batch, 'digests': sorted(chunk), 'state': 'handed in'})])
                batches[batch] = sorted(chunk)
            return await self._collect(service, batches)
        finally:
            await service.close()

    async def _collect(self, service: services.Service, batches: dict[str, list[str]]) -> dict:
        waiting, results = list(batches), {}
        while waiting:
            for batch in list(waiting):
                if await self._is_done(service, batch):
                    results |= await self._fetch(service, batch)
                    waiting.remove(batch)
            if waiting:
                progress.say(f'{self._settings.where}: waiting for {len(waiting)} batches, such as {waiting[0]}')
                await asyncio.sleep(self._settings.limits.poll_seconds)
        return results

    async def _is_done(self, service: services.Service, batch: str) -> bool:
        """Looks at a batch; that it cannot be seen for a moment is no reason to end."""
        try:
            return await service.is_batch_done(batch)
        except ServiceError as error:
            if error.meaning != 'retry':
                self._close(batch)
                raise
            return False

    async def _fetch(self, service: services.Service, batch: str) -> dict[str, Answer | ServiceError]:
        results = {digest: result async for digest, result in service.batch_results(batch)}
        answers = [(digest, answer, 1, 0.0) for digest, answer in results.items() if isinstance(answer, Answer)]
        self._books.keep(answers)
        self._close(batch)
        return results

    def _close(self, batch: str) -> None:
        self._log.append([json.dumps({'batch': batch, 'digests': [], 'state': 'fetched'})])

    def _open_batches(self, missing: dict[str, list[Call]]) -> dict[str, list[str]]:
        """Returns the batches that hold calls of these and were not fetched yet."""
        open_ones: dict[str, list[str]] = {}
        for row in map(json.loads, self._log.lines):
            if row['state'] == 'fetched':
                open_ones.pop(row['batch'], None)
            else:
                open_ones[row['batch']] = row['digests']
        return {batch: digests for batch, digests in open_ones.items() if missing.keys() & set(digests)}


def _chunks(payloads: dict[str, dict]) -> Iterator[dict[str, dict]]:
    """Cuts calls into batches that a service takes, in the order of their digests."""
    chunk, size = {}, 0
    for digest in sorted(payloads):
        length = len(json.dumps(payloads[digest]))
        if chunk and (len(chunk) == MOST_CALLS or size + length > MOST_BYTES):
            yield chunk
            chunk, size = {}, 0
        chunk[digest], size = payloads[digest], size + length
    if chunk:
        yield chunk

"""Sends answers, whole or as a stream, for as long as the client is there; what it has in the engine ends with it."""

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from warmjax.decode.serve import answers
from warmjax.decode.serve.answers import Envelope, Usage
from warmjax.decode.serve.choices import Choice, Piece, pieces
from warmjax.decode.serve.driver import Asked
from warmjax.decode.serve.metrics import Metrics
from warmjax.decode.serve.protocol import Refusal

_HEADERS = {429: {'retry-after': '1'}, 408: {'connection': 'close'}, 413: {'connection': 'close'}}


def refused(refusal: Refusal) -> Response:
    """Makes the response that says a refusal."""
    return JSONResponse(refusal.body, refusal.status, _HEADERS.get(refusal.status))


@dataclasses.dataclass(frozen=True)
class WholeAnswer:
    """Sends a whole answer, as long as its client is there."""

    metrics: Metrics
    asked: Asked
    choices: list[Choice]
    envelope: Envelope
    prompt_tokens: int
    began: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def work() -> None:
            try:
                of_choice: list[list[Piece]] = [[] for _ in self.choices]
                async for piece in self.pieces():
                    of_choice[piece.index].append(piece)
                whole = self.envelope.whole([answers.joined(some) for some in of_choice], self.usage)
                response = JSONResponse(whole)
            except Refusal as refusal:
                response = refused(refusal)
            await response(scope, receive, send)

        await self.run(receive, work)

    async def run(self, receive: Receive, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` until it is done or the client has left, and takes down what came of it."""
        try:
            async with anyio.create_task_group() as group:

                async def leave_with_client() -> None:
                    while (await receive())['type'] != 'http.disconnect':
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(leave_with_client)
                await work()
                group.cancel_scope.cancel()
        finally:
            self.asked.end_all()
            model = self.envelope.model
            self.metrics.prompt_tokens.labels(model).inc(self.prompt_tokens)
            self.metrics.duration.observe(time.monotonic() - self.began)
            for choice in self.choices:
                self.metrics.texts.labels(model, choice.finish or 'abandoned').inc()
                self.metrics.generated_tokens.labels(model).inc(choice.num_tokens)

    async def pieces(self) -> AsyncIterator[Piece]:
        is_first = True
        async with contextlib.aclosing(pieces(self.asked, self.choices)) as found:
            async for piece in found:
                if is_first:
                    self.metrics.first_token.observe(time.monotonic() - self.began)
                    is_first = False
                yield piece

    @property
    def usage(self) -> Usage:
        return Usage(self.prompt_tokens, sum(choice.num_tokens for choice in self.choices))


@dataclasses.dataclass(frozen=True)
class Stream:
    """Sends an answer as server-sent events, as long as its client is there."""

    answer: WholeAnswer
    counts_usage: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def work() -> None:
            headers = [(b'content-type', b'text/event-stream; charset=utf-8'), (b'cache-control', b'no-cache')]
            await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
            async for event in self._events():
                await send({'type': 'http.response.body', 'body': event, 'more_body': True})
            await send({'type': 'http.response.body', 'body': b'', 'more_body': False})

        await self.answer.run(receive, work)

    async def _events(self) -> AsyncIterator[bytes]:
        envelope = self.answer.envelope
        try:
            for choice in self.answer.choices:
                if first := envelope.first(choice.index):
                    yield answers.event(first)
            async for piece in self.answer.pieces():
                yield answers.event(envelope.part(piece))
            if self.counts_usage:
                yield answers.event(envelope.last(self.answer.usage))
            yield answers.event('[DONE]')
        except Refusal as refusal:  # the status is sent; the error takes the place of the next chunk
            yield answers.event(refusal.body)

"""The HTTP side: routes, keys, limits, streams, and one form for all errors.

A body is limited and in before it is parsed; whatever a request has in the engine ends with its connection.
"""

import asyncio
import contextlib
import dataclasses
import hmac
import math
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import prometheus_client
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from warmjax.decode.serve import answers, protocol
from warmjax.decode.serve.answers import Envelope
from warmjax.decode.serve.catalog import Catalog
from warmjax.decode.serve.choices import Choice
from warmjax.decode.serve.driver import Driver
from warmjax.decode.serve.metrics import Metrics
from warmjax.decode.serve.protocol import Refusal
from warmjax.decode.serve.responses import Stream, WholeAnswer, refused
from warmjax.validation import STRICT

_THROWN_AWAY = 16
"""How many times as much as is allowed is read of a body; a client that is not read sees a broken pipe, no answer."""


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """max_body_bytes: of a request.
    max_waiting: texts that may wait for a slot; more are refused with status 429.
    max_choices: texts that one request may ask for, prompts times n.
    max_connections: open at once; more are refused with status 503.
    read_seconds: in which a client must have sent a whole request.
    write_seconds: in which a client must take what is sent before it is cut off.
    keep_alive_seconds: for which a connection may lie idle between two requests.
    drain_seconds: in which texts under way may end once the server is told to.
    """

    __pydantic_config__ = STRICT
    max_body_bytes: int
    max_waiting: int
    max_choices: int
    max_connections: int
    read_seconds: float
    write_seconds: float
    keep_alive_seconds: int
    drain_seconds: int

    def __post_init__(self):
        values = dataclasses.asdict(self) | {'max_waiting': self.max_waiting + 1}  # none may wait, too
        wrong = [name for name, value in values.items() if not 0 < value < math.inf]
        if wrong:
            raise ValueError(f'server: expected numbers above 0, got others for {", ".join(wrong)}')


@dataclasses.dataclass(frozen=True)
class Service:
    """What the routes work with."""

    catalog: Catalog
    driver: Driver
    metrics: Metrics
    settings: ServerSettings
    started: int

    async def chat(self, request: Request) -> ASGIApp:
        """Answers /v1/chat/completions."""
        return await self._answer(request, answers.Chat)

    async def completions(self, request: Request) -> ASGIApp:
        """Answers /v1/completions."""
        return await self._answer(request, answers.Completion)

    async def models(self, request: Request) -> Response:
        """Lists the base model and the adapters, or one of them."""
        listed = [self._model(name) for name in self.catalog.adapters]
        return JSONResponse({'object': 'list', 'data': listed})

    async def model(self, request: Request) -> Response:
        """Describes one model."""
        name = request.path_params['name']
        if name not in self.catalog.adapters:
            raise Refusal(404, f'expected a model of /v1/models, got {name[:80]!r}', 'model', 'model_not_found')
        return JSONResponse(self._model(name))

    async def health(self, request: Request) -> Response:
        """Says whether requests are answered."""
        if self.driver.has_failed:
            return JSONResponse({'status': 'failed'}, 503)
        return JSONResponse({'status': 'ok'})

    async def page(self, request: Request) -> Response:
        """Writes the metrics."""
        return Response(self.metrics.page(), headers={'content-type': prometheus_client.CONTENT_TYPE_LATEST})

    async def _answer(self, request: Request, form_of: type[answers.Chat] | type[answers.Completion]) -> ASGIApp:
        began = time.monotonic()
        body = await _read(request, self.settings)
        request_id = f'{form_of.prefix}-{uuid.uuid4().hex}'

        def prepare():
            asked = protocol.parse(body, form_of.request)
            return asked, self.catalog.requests(asked, request_id)

        asked, requests = await anyio.to_thread.run_sync(prepare)  # tokenising a long prompt takes a while
        choices = [Choice(i, one, self.catalog.decode, asked.stop or ()) for i, one in enumerate(requests)]
        form = form_of(asked.num_likeliest, self.catalog.token_text)
        envelope = Envelope(form, request_id, int(time.time()), asked.model)
        prompt_tokens = sum(len(one.tokens) for one in requests[:: asked.num_choices])
        whole = WholeAnswer(self.metrics, self.driver.ask(requests), choices, envelope, prompt_tokens, began)
        return Stream(whole, asked.counts_usage) if asked.stream else whole

    def _model(self, name: str) -> dict[str, Any]:
        base = next(iter(self.catalog.adapters))
        return {
            'id': name,
            'object': 'model',
            'created': self.started,
            'owned_by': 'warmjax',
            'parent': None if name == base else base,
            'max_model_len': self.catalog.room,
        }


def make_app(service: Service, key: str | None) -> ASGIApp:
    """Makes the application.

    Args:
        service: its driver starts and stops with the application.
        key: what clients must send as a bearer token, None for no check; /health is open in any case.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.driver.start()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(service.driver.stop)

    routes = [
        Route('/v1/chat/completions', service.chat, methods=['POST']),
        Route('/v1/completions', service.completions, methods=['POST']),
        Route('/v1/models', service.models),
        Route('/v1/models/{name:path}', service.model),
        Route('/health', service.health),
        Route('/metrics', service.page),
    ]
    handlers = {
        Refusal: _on_refusal,
        HTTPException: _on_http_error,
        ClientDisconnect: _on_disconnect,
        Exception: _on_bug,
    }
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    paths = tuple(route.path for route in routes)
    return _Counted(app if key is None else _Guarded(app, key), service.metrics, paths)


class _Guarded:
    """Lets those in who send the key."""

    def __init__(self, app: ASGIApp, key: str):
        self._app, self._expected = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] == 'http' and scope['path'] != '/health':
            scheme, _, given = dict(scope['headers']).get(b'authorization', b'').partition(b' ')
            if not (hmac.compare_digest(given.strip(), self._expected) and scheme.lower() == b'bearer'):
                refusal = Refusal(401, 'expected the API key of this server as a bearer token, got another or none')
                response = refused(refusal)
                response.headers['www-authenticate'] = 'Bearer'
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Counted:
    """Counts responses; a path that is no route counts as `other`, so that clients cannot make up labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: tuple[str, ...]):
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message['type'] == 'http.response.start':
                path = scope['path'] if scope['path'] in self._paths else 'other'
                self._metrics.answers.labels(path, str(message['status'])).inc()
            await send(message)

        await self._app(scope, receive, counted if scope['type'] == 'http' else send)


async def _read(request: Request, settings: ServerSettings) -> bytes:
    """Reads a body, no more of it than is allowed and no longer.

    Raises:
        Refusal: it is too large, does not come in time, or is not said to be JSON.
    """
    if request.headers.get('content-type', '').partition(';')[0].strip().lower() != 'application/json':
        raise Refusal(415, 'expected a body of content-type application/json, got another; set the header')
    most, size, body = settings.max_body_bytes, 0, bytearray()
    length = request.headers.get('content-length', '')
    announced = int(length) if length.isdecimal() else 0
    try:
        async with asyncio.timeout(settings.read_seconds):
            async for part in request.stream():
                size += len(part)
                if size <= most:
                    body += part
                elif max(size, announced) > _THROWN_AWAY * most:
                    break
    except TimeoutError:
        raise Refusal(408, f'expected the whole body within {settings.read_seconds:g} s, got a part of it') from None
    if max(size, announced) > most:
        raise Refusal(413, f'expected a body of {most} bytes or fewer, got more; send a shorter one')
    return bytes(body)


async def _on_refusal(request: Request, refusal: Refusal) -> Response:
    return refused(refusal)


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    known = 'see the paths /v1/chat/completions, /v1/completions, /v1/models, /health and /metrics'
    message = {404: f'expected a path of this server, got another; {known}', 405: 'expected another HTTP method'}
    response = refused(Refusal(error.status_code, message.get(error.status_code, error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _on_disconnect(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _on_bug(request: Request, error: Exception) -> Response:
    """The traceback goes to the log, and nothing of it to the client."""
    return refused(Refusal(500, 'the server failed at this request; see its log'))

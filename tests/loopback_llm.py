"""A server on this machine that answers like the LLM services, with scripted latency and failures, and counts calls.

    with Loopback(answer=lambda payload: 'warm words') as server:
        server.script += [LIMITED, BROKEN]  # what happens to the next two calls; after that, all is well
        ... a client of server.openai_url or server.anthropic_url ...
    assert len(server.answered) == 3

It speaks chat completions, files and batches as OpenAI does, and messages and message batches as Anthropic does. Others
add routes: a function (server, request) -> Response in `ROUTES`. It runs in a thread of its own, or as a process:
`python tests/loopback_llm.py --latency=0.05` prints its address.
"""

import argparse
import asyncio
import collections
import dataclasses
import email.parser
import email.policy
import itertools
import json
import re
import threading
from collections.abc import Callable
from typing import Any

HOST = '127.0.0.1'


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What becomes of one call. `how` is said of the answer, `status` and the rest of its error."""

    how: str = 'ok'  # or error, hangs, truncated, dies, refuses, empty, cut
    status: int = 200
    code: str = ''
    message: str = ''
    retry_after: str | None = None


OK = Behaviour()
# The real service quotes part of the key; this one quotes all of it, to see that nobody writes it down.
UNAUTHORIZED = Behaviour('error', 401, 'invalid_api_key', 'Incorrect API key provided: {key}. See your account page.')
FORBIDDEN = Behaviour('error', 403, 'permission_denied', 'Project does not have access to this.')
MISSING = Behaviour('error', 404, 'model_not_found', 'The model does not exist or you do not have access to it.')
REJECTED = Behaviour('error', 400, 'content_policy_violation', 'The request was rejected by the content policy.')
LIMITED = Behaviour('error', 429, 'rate_limit_exceeded', 'Rate limit reached.', retry_after='0.05')
OUT_OF_MONEY = Behaviour('error', 429, 'insufficient_quota', 'You exceeded your current quota, check your plan.')
BROKEN = Behaviour('error', 500, 'server_error', 'The server had an error while processing your request.')
OVERLOADED = Behaviour('error', 529, 'overloaded_error', 'Overloaded')
HANGS = Behaviour('hangs')
TRUNCATED = Behaviour('truncated')
DIES = Behaviour('dies')
REFUSES = Behaviour('refuses')
EMPTY = Behaviour('empty')
CUT = Behaviour('cut')


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client sent. `payload` is its JSON, {} where the body is something else."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    payload: dict[str, Any]

    @property
    def key(self) -> str:
        return self.headers.get('x-api-key') or self.headers.get('authorization', '').removeprefix('Bearer ')


@dataclasses.dataclass(frozen=True)
class Response:
    status: int
    body: Any  # JSON, or text as it is
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    how: str = 'ok'


def last_message(payload: dict[str, Any]) -> str:
    """Answers with the last message turned round, so that every answer tells what it was asked."""
    return payload['messages'][-1]['content'][::-1]


def reply_in(payload: dict[str, Any]) -> str:
    """Answers a rewriting call with the reply that it was given."""
    return payload['messages'][-1]['content'].split('<reply>\n')[1].rsplit('\n</reply>')[0]


class Loopback:
    """The server; `answer` makes the text of a reply from the payload of a call.

    latency: seconds before an answer.
    keys: the keys it accepts; any if none are given.
    script: behaviours of the next calls; `behave` decides those after it.
    freeze_at: from this call on, none is answered; None answers all.
    batch_polls: how often a batch says that it is not ready.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], str] = last_message,
        latency: float = 0.0,
        keys: tuple[str, ...] = (),
        behave: Callable[[dict[str, Any]], Behaviour] = lambda payload: OK,
        freeze_at: int | None = None,
        batch_polls: int = 1,
    ):
        self.answer, self.latency, self.keys, self.behave = answer, latency, keys, behave
        self.freeze_at, self.batch_polls = freeze_at, batch_polls
        self.script: collections.deque[Behaviour] = collections.deque()
        self.received: list[dict[str, Any]] = []
        """Payloads of calls for a reply, one for each request in a batch."""
        self.answered: list[dict[str, Any]] = []
        """Payloads of those that were answered with a reply."""
        self.requests: list[Request] = []
        self.at_once = self.most_at_once = 0
        self.frozen = threading.Event()
        self.store: dict[str, Any] = {}
        self.ids = itertools.count(1)

    @property
    def openai_url(self) -> str:
        return f'http://{HOST}:{self.port}/v1'

    @property
    def anthropic_url(self) -> str:
        return f'http://{HOST}:{self.port}'

    def __enter__(self) -> 'Loopback':
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(0, started.set)), daemon=True)
        self._thread.start()
        assert started.wait(10), 'the loopback server did not start'
        return self

    def __exit__(self, *_) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def serve(self, port: int, started: Callable[[], None]) -> None:
        """Serves until it is told to stop."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks = set()
        server = await asyncio.start_server(self._connection, HOST, port, limit=2**26, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        started()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(task := asyncio.current_task())
        try:
            while request := await _read(reader):
                self.requests.append(request)
                if not await self._respond(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; False where the connection is to end."""
        route = next(
            (route for pattern, route in ROUTES if re.fullmatch(pattern, f'{request.method} {request.path}')), None
        )
        if route is None:
            response = Response(
                404, {'error': {'message': f'no route {request.path}', 'type': 'invalid_request_error'}}
            )
        elif self.keys and request.key not in self.keys:
            response = _error(UNAUTHORIZED, request)
        elif route is not call:
            response = route(self, request)
        else:
            self.received.append(request.payload)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                if self.freeze_at is not None and len(self.received) >= self.freeze_at:
                    self.frozen.set()
                    await asyncio.Event().wait()
                if self.latency:
                    await asyncio.sleep(self.latency)
            finally:
                self.at_once -= 1
            response = call(self, request)
            if response.how == 'ok' and response.status == 200 and not writer.transport.is_closing():
                self.answered.append(request.payload)
        if response.how == 'hangs':
            await asyncio.Event().wait()
        return await _write(writer, response)


def call(server: Loopback, request: Request) -> Response:
    """Answers a call for a reply, of either service."""
    behaviour = server.script.popleft() if server.script else server.behave(request.payload)
    if behaviour.how == 'error':
        return _error(behaviour, request)
    make = _message if request.path.endswith('/messages') else _completion
    how = behaviour.how if behaviour.how in ('hangs', 'truncated', 'dies') else 'ok'
    return Response(200, make(server, request.payload, behaviour), how=how)


def _completion(server: Loopback, payload: dict[str, Any], behaviour: Behaviour) -> dict[str, Any]:
    text = '' if behaviour.how in ('empty', 'refuses') else server.answer(payload)
    refusal = "I'm sorry, I can't help with that." if behaviour.how == 'refuses' else None
    message = {'role': 'assistant', 'content': text if refusal is None else None, 'refusal': refusal}
    choice = {
        'index': 0,
        'message': message,
        'finish_reason': 'length' if behaviour.how == 'cut' else 'stop',
        'logprobs': _logprobs(text, payload['top_logprobs']) if payload.get('logprobs') else None,
    }
    asked, answered = _count(payload['messages']), len((text or refusal or '').split())
    return {
        'id': f'chatcmpl-{next(server.ids)}',
        'object': 'chat.completion',
        'created': 1700000000,
        'model': payload['model'],
        'choices': [choice],
        'usage': {'prompt_tokens': asked, 'completion_tokens': answered, 'total_tokens': asked + answered},
    }


def _message(server: Loopback, payload: dict[str, Any], behaviour: Behaviour) -> dict[str, Any]:
    text = {'empty': '', 'refuses': "I'm sorry."}.get(behaviour.how) if behaviour.how in ('empty', 'refuses') else None
    text = server.answer(payload) if text is None else text
    reasons = {'refuses': 'refusal', 'cut': 'max_tokens'}
    return {
        'id': f'msg_{next(server.ids)}',
        'type': 'message',
        'role': 'assistant',
        'model': payload['model'],
        'content': [{'type': 'text', 'text': text}] if text else [],
        'stop_reason': reasons.get(behaviour.how, 'end_turn'),
        'stop_sequence': None,
        'usage': {'input_tokens': _count(payload['messages']), 'output_tokens': len(text.split())},
    }


def _logprobs(text: str, likeliest: int) -> dict[str, Any]:
    """Gives each word -0.1 and the words 'other 1', 'other 2'... beside it ever less."""
    tokens = []
    for word in text.split():
        others = [(word, -0.1)] + [(f'other {i}', -2.0 - i) for i in range(1, likeliest)]
        top = [{'token': token, 'logprob': logprob, 'bytes': None} for token, logprob in others[:likeliest]]
        tokens.append({'token': word, 'logprob': -0.1, 'bytes': None, 'top_logprobs': top})
    return {'content': tokens, 'refusal': None}


def _count(messages: list[dict[str, Any]]) -> int:
    return sum(len(message['content'].split()) for message in messages)


def _error(behaviour: Behaviour, request: Request) -> Response:
    message = behaviour.message.format(key=request.key)
    error = {'message': message, 'type': behaviour.code, 'param': None, 'code': behaviour.code}
    body = {'error': error} if not request.path.startswith('/v1/messages') else {'type': 'error', 'error': error}
    headers = {} if behaviour.retry_after is None else {'Retry-After': behaviour.retry_after}
    return Response(behaviour.status, body, headers)


def upload_file(server: Loopback, request: Request) -> Response:
    """Takes a file as a multipart form."""
    head = f'Content-Type: {request.headers["content-type"]}\r\n\r\n'.encode()
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
    fields = {part.get_param('name', header='content-disposition'): part for part in form.iter_parts()}
    content = fields['file'].get_payload(decode=True).decode()
    return Response(200, _add_file(server, content, fields['purpose'].get_payload(decode=True).decode().strip()))


def _add_file(server: Loopback, content: str, purpose: str) -> dict[str, Any]:
    name = f'file-{next(server.ids)}'
    server.store[name] = content
    described = {'id': name, 'object': 'file', 'bytes': len(content), 'created_at': 1700000000, 'status': 'processed'}
    return described | {'filename': f'{name}.jsonl', 'purpose': purpose}


def file_content(server: Loopback, request: Request) -> Response:
    return Response(200, server.store[request.path.split('/')[-2]])


def create_batch(server: Loopback, request: Request) -> Response:
    """Answers a file of calls at once, and says so after some polls."""
    name, output, errors = f'batch_{next(server.ids)}', [], []
    rows = [json.loads(line) for line in server.store[request.payload['input_file_id']].splitlines()]
    for row in rows:
        server.received.append(row['body'])
        response = call(server, dataclasses.replace(request, path=row['url'], payload=row['body']))
        line = {'id': f'batch_req_{next(server.ids)}', 'custom_id': row['custom_id'], 'error': None}
        line['response'] = {'status_code': response.status, 'request_id': 'r', 'body': response.body}
        (output if response.status == 200 else errors).append(line)
        if response.status == 200:
            server.answered.append(row['body'])
    files = [
        _add_file(server, ''.join(json.dumps(line) + '\n' for line in reversed(lines)), 'batch_output')['id']
        if lines
        else None
        for lines in (output, errors)
    ]
    server.store[name] = {
        'id': name,
        'object': 'batch',
        'endpoint': request.payload['endpoint'],
        'input_file_id': request.payload['input_file_id'],
        'completion_window': '24h',
        'created_at': 1700000000,
        'status': 'validating',
        'output_file_id': files[0],
        'error_file_id': files[1],
        'metadata': request.payload.get('metadata'),
        'request_counts': {'total': len(rows), 'completed': len(output), 'failed': len(errors)},
    }
    server.store[name, 'polls'] = server.batch_polls
    return Response(200, server.store[name])


def poll_batch(server: Loopback, request: Request) -> Response:
    name = request.path.split('/')[-1]
    server.store[name, 'polls'] -= 1
    left = server.store[name, 'polls']
    return Response(200, server.store[name] | {'status': 'completed' if left < 0 else 'in_progress'})


def list_batches(server: Loopback, request: Request) -> Response:
    batches = [value for name, value in server.store.items() if str(name).startswith('batch_')]
    return Response(200, {'object': 'list', 'data': batches, 'has_more': False})


def create_message_batch(server: Loopback, request: Request) -> Response:
    """Answers many messages at once, and says so after some polls."""
    name, results = f'msgbatch_{next(server.ids)}', []
    for row in request.payload['requests']:
        server.received.append(row['params'])
        response = call(server, dataclasses.replace(request, path='/v1/messages', payload=row['params']))
        if response.status == 200:
            server.answered.append(row['params'])
            result = {'type': 'succeeded', 'message': response.body}
        else:
            result = {'type': 'errored', 'error': response.body}
        results.append({'custom_id': row['custom_id'], 'result': result})
    server.store[name] = ''.join(json.dumps(row) + '\n' for row in reversed(results))
    server.store[name, 'polls'] = server.batch_polls
    return Response(200, _message_batch(server, name, 'in_progress'))


def _message_batch(server: Loopback, name: str, status: str) -> dict[str, Any]:
    return {
        'id': name,
        'type': 'message_batch',
        'processing_status': status,
        'request_counts': {'processing': 0, 'succeeded': 0, 'errored': 0, 'canceled': 0, 'expired': 0},
        'created_at': '2025-01-01T00:00:00Z',
        'expires_at': '2025-01-02T00:00:00Z',
        'ended_at': None,
        'archived_at': None,
        'cancel_initiated_at': None,
        'results_url': f'{server.anthropic_url}/v1/messages/batches/{name}/results' if status == 'ended' else None,
    }


def poll_message_batch(server: Loopback, request: Request) -> Response:
    name = request.path.split('/')[-1]
    server.store[name, 'polls'] -= 1
    return Response(200, _message_batch(server, name, 'ended' if server.store[name, 'polls'] < 0 else 'in_progress'))


def message_batch_results(server: Loopback, request: Request) -> Response:
    return Response(200, server.store[request.path.split('/')[-2]])


ROUTES: list[tuple[str, Callable[[Loopback, Request], Response]]] = [
    ('POST /v1/chat/completions', call),
    ('POST /v1/messages', call),
    ('POST /v1/files', upload_file),
    ('GET /v1/files/[^/]+/content', file_content),
    ('POST /v1/batches', create_batch),
    ('GET /v1/batches', list_batches),
    ('GET /v1/batches/[^/]+', poll_batch),
    ('POST /v1/messages/batches', create_message_batch),
    ('GET /v1/messages/batches/[^/]+', poll_message_batch),
    ('GET /v1/messages/batches/[^/]+/results', message_batch_results),
]
"""Pattern of 'METHOD /path' to what answers it. `call` alone waits, fails by the script and counts."""


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b'\r\n\r\n')
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode('latin-1').split('\r\n')
    method, target, _ = first.split(' ')
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(':') for line in lines if line)}
    if headers.get('transfer-encoding') == 'chunked':
        body = b''
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get('content-length', 0)))
    is_json = headers.get('content-type', '').startswith('application/json') and body
    path, _, query = target.partition('?')
    return Request(method, path, query, headers, body, json.loads(body) if is_json else {})


async def _write(writer: asyncio.StreamWriter, response: Response) -> bool:
    body = (response.body if isinstance(response.body, str) else json.dumps(response.body)).encode()
    kind = 'application/json' if not isinstance(response.body, str) else 'application/x-ndjson'
    sent = body[: len(body) // 2] if response.how in ('truncated', 'dies') else body
    length = len(sent) if response.how == 'truncated' else len(body)
    headers = {'Content-Type': kind, 'Content-Length': str(length), **response.headers}
    head = ''.join(f'{name}: {value}\r\n' for name, value in headers.items())
    writer.write(f'HTTP/1.1 {response.status} -\r\n{head}\r\n'.encode() + sent)
    await writer.drain()
    return response.how != 'dies'


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--latency', type=float, default=0.0, help='seconds before an answer')
    parser.add_argument('--echo_reply', action='store_true', help='answer with what stands between <reply> tags')
    given = parser.parse_args()
    server = Loopback(reply_in if given.echo_reply else last_message, latency=given.latency)
    server.requests = collections.deque(maxlen=1)
    try:
        import uvloop as loops
    except ImportError:
        loops = asyncio
    loops.run(server.serve(0, lambda: print(server.openai_url, flush=True)))

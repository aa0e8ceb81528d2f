"""Chat completions and their batches, by OpenAI's client: OpenAI itself, and every server that speaks like it."""

import io
import json
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import multidict
import openai
import yarl

from warmjax.api import errors
from warmjax.api.chat import Answer, Call, Finish
from warmjax.api.services import likely, parse_schema
from warmjax.api.settings import ServiceSettings

ENDPOINT = '/v1/chat/completions'
FINISHES: dict[str | None, Finish] = {'stop': 'stop', 'length': 'length', 'content_filter': 'filter'}

_HEADERS = ('Accept', 'Content-Type', 'User-Agent', 'OpenAI-Organization', 'OpenAI-Project')


class OpenAI:
    """The service; made anywhere, used inside one event loop."""

    def __init__(self, settings: ServiceSettings):
        self._settings, self._key = settings, settings.key()
        self._client = openai.AsyncOpenAI(
            api_key=self._key,
            base_url=settings.base_url or None,
            timeout=settings.limits.timeout_seconds,
            max_retries=0,  # the client above retries, and counts
        )
        self._session: aiohttp.ClientSession | None = None
        self._address = yarl.URL(f'{str(self._client.base_url).rstrip("/")}/chat/completions')
        known = {name: value for name, value in self._client.default_headers.items() if name in _HEADERS}
        known = {name: value for name, value in known.items() if isinstance(value, str)}
        self._headers = multidict.CIMultiDict(known | {'Authorization': f'Bearer {self._key}'})

    def payload(self, call: Call) -> dict[str, Any]:
        sampling = call.sampling
        # OpenAI's newer models know only the one name of the limit, many other servers only the other.
        limit = 'max_tokens' if self._settings.base_url else 'max_completion_tokens'
        payload = {
            'model': self._settings.model,
            'messages': [{'role': turn.role, 'content': turn.content} for turn in call.messages],
            limit: sampling.max_tokens,
        }
        optional = {'temperature': sampling.temperature, 'top_p': sampling.top_p, 'seed': sampling.seed}
        payload |= {name: value for name, value in optional.items() if value is not None}
        if call.logprobs:
            payload |= {'logprobs': True, 'top_logprobs': call.logprobs}
        if (schema := parse_schema(call)) is not None:
            described = {'name': 'answer', 'strict': True, 'schema': schema}
            payload['response_format'] = {'type': 'json_schema', 'json_schema': described}
        return payload

    def read(self, body: dict[str, Any]) -> Answer:
        choice, usage = body['choices'][0], body.get('usage') or {}
        refusal = choice['message'].get('refusal') or ''
        return Answer(
            text=choice['message'].get('content') or '',
            finish='refusal' if refusal else FINISHES.get(choice.get('finish_reason'), 'unknown'),
            refusal=refusal,
            prompt_tokens=usage.get('prompt_tokens', 0),
            completion_tokens=usage.get('completion_tokens', 0),
            model=body.get('model') or self._settings.model,
            logprobs=likely((choice.get('logprobs') or {}).get('content')),
        )

    async def send(self, payload: dict[str, Any]) -> Answer:
        """Asks past the client's own connections and its models of every field, which cost 1.5 ms of CPU a call."""
        if self._session is None:
            self._session = self._connect()
        try:
            async with self._session.post(self._address, data=json.dumps(payload).encode()) as response:
                status, headers, content = response.status, response.headers, await response.read()
            if status == 200:
                return self.read(json.loads(content))
        except Exception as error:
            raise self._explain(error) from None
        try:
            body = json.loads(content)
        except ValueError:
            body = {'message': content[:200].decode(errors='replace')}
        raise self._of_status(status, body, headers)

    def _connect(self) -> aiohttp.ClientSession:
        """Opens connections that are kept, as many as there are calls at once."""
        limits = self._settings.limits
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limits.concurrency),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=limits.timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(self._address),
        )

    async def create_batch(self, payloads: dict[str, dict[str, Any]], name: str) -> str:
        try:
            async for batch in self._client.batches.list(limit=100):
                if (batch.metadata or {}).get('name') == name and batch.status not in ('failed', 'cancelled'):
                    return batch.id
            rows = [
                {'custom_id': digest, 'method': 'POST', 'url': ENDPOINT, 'body': payload}
                for digest, payload in payloads.items()
            ]
            content = io.BytesIO(''.join(json.dumps(row) + '\n' for row in rows).encode())
            file = await self._client.files.create(file=('calls.jsonl', content), purpose='batch')
            batch = await self._client.batches.create(
                input_file_id=file.id, endpoint=ENDPOINT, completion_window='24h', metadata={'name': name}
            )
            return batch.id
        except Exception as error:
            raise self._explain(error) from None

    async def is_batch_done(self, batch: str) -> bool:
        try:
            found = await self._client.batches.retrieve(batch)
        except Exception as error:
            raise self._explain(error) from None
        if found.status == 'failed':
            said = '; '.join(problem.message or '' for problem in (found.errors and found.errors.data) or [])
            raise errors.ServiceError(
                f'{self._settings.where}: expected batch {batch} to be taken, got {errors.redact(said, self._key)}; '
                'mend what it says and start again',
                'stop',
                0.0,
            )
        return found.status in ('completed', 'expired', 'cancelled')

    async def batch_results(self, batch: str) -> AsyncIterator[tuple[str, Answer | errors.ServiceError]]:
        try:
            found = await self._client.batches.retrieve(batch)
            for file in (found.output_file_id, found.error_file_id):
                if file:
                    content = await self._client.files.content(file)
                    for line in content.text.splitlines():
                        row = json.loads(line)
                        yield row['custom_id'], self._result(row)
        except Exception as error:
            raise self._explain(error) from None

    def _result(self, row: dict[str, Any]) -> Answer | errors.ServiceError:
        response = row.get('response')
        if not response:
            said = errors.redact(str(row.get('error')), self._key)
            return errors.ServiceError(f'{self._settings.where}: {said}', 'retry', 0.0)
        if response['status_code'] != 200:
            return self._of_status(response['status_code'], response['body'], {})
        return self.read(response['body'])

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._client.close()

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, errors.ServiceError):
            return error
        if isinstance(error, openai.APIStatusError):
            return self._of_status(error.status_code, error.body, error.response.headers)
        return errors.of_exception(error, self._settings.where, self._key)

    def _of_status(self, status: int, body: Any, headers: Any) -> errors.ServiceError:
        return errors.of_status(status, body, headers, self._settings.where, self._settings.variable, self._key)


def _proxy(address: yarl.URL) -> str | None:
    """Reads from the environment through which proxy an address is reached, as the official client does."""
    if urllib.request.proxy_bypass(f'{address.host}:{address.port}'):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(address.scheme) or proxies.get('all')

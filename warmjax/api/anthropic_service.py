"""Messages and message batches, by Anthropic's client."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic

from warmjax.api import errors
from warmjax.api.chat import Answer, Call, Finish
from warmjax.api.services import parse_schema
from warmjax.api.settings import ServiceSettings

FINISHES: dict[str | None, Finish] = {
    'end_turn': 'stop',
    'stop_sequence': 'stop',
    'max_tokens': 'length',
    'refusal': 'refusal',
}
# Those that the client does not name are sent as they are: newer models do without, older ones take them.
_EXTRA = ('temperature', 'top_p')


class Anthropic:
    """The service; made anywhere, used inside one event loop. It has no seed and no log-probabilities."""

    def __init__(self, settings: ServiceSettings):
        self._settings, self._key = settings, settings.key()
        self._client = anthropic.AsyncAnthropic(
            api_key=self._key,
            base_url=settings.base_url or None,
            timeout=settings.limits.timeout_seconds,
            max_retries=0,  # the client above retries, and counts
            http_client=_http_client(),
        )

    def payload(self, call: Call) -> dict[str, Any]:
        """Puts a call; a ValueError says that it asks for log-probabilities, which this service does not give."""
        if call.logprobs:
            raise ValueError(
                f'{self._settings.where}: expected no log-probabilities, as the service has none; ask for 0'
            )
        sampling, system = call.sampling, '\n\n'.join(t.content for t in call.messages if t.role == 'system')
        payload = {
            'model': self._settings.model,
            'max_tokens': sampling.max_tokens,
            'messages': [{'role': t.role, 'content': t.content} for t in call.messages if t.role != 'system'],
        }
        optional = {'system': system or None, 'temperature': sampling.temperature, 'top_p': sampling.top_p}
        payload |= {name: value for name, value in optional.items() if value is not None}
        if (schema := parse_schema(call)) is not None:
            payload['output_config'] = {'format': {'type': 'json_schema', 'schema': schema}}
        return payload

    def read(self, body: dict[str, Any]) -> Answer:
        text = ''.join(block['text'] for block in body['content'] if block['type'] == 'text')
        finish = FINISHES.get(body.get('stop_reason'), 'unknown')
        usage = body.get('usage') or {}
        return Answer(
            text='' if finish == 'refusal' else text,
            finish=finish,
            refusal=text or 'refused' if finish == 'refusal' else '',
            prompt_tokens=usage.get('input_tokens', 0),
            completion_tokens=usage.get('output_tokens', 0),
            model=body.get('model') or self._settings.model,
            logprobs=(),
        )

    async def send(self, payload: dict[str, Any]) -> Answer:
        known = {name: value for name, value in payload.items() if name not in _EXTRA}
        extra = {name: value for name, value in payload.items() if name in _EXTRA}
        try:
            response = await self._client.messages.with_raw_response.create(**known, extra_body=extra)
            return self.read(json.loads(await response.read()))
        except Exception as error:
            raise self._explain(error) from None

    async def create_batch(self, payloads: dict[str, dict[str, Any]], name: str) -> str:
        rows = [{'custom_id': digest, 'params': payload} for digest, payload in payloads.items()]
        try:
            return (await self._client.messages.batches.create(requests=rows)).id
        except Exception as error:
            raise self._explain(error) from None

    async def is_batch_done(self, batch: str) -> bool:
        try:
            return (await self._client.messages.batches.retrieve(batch)).processing_status == 'ended'
        except Exception as error:
            raise self._explain(error) from None

    async def batch_results(self, batch: str) -> AsyncIterator[tuple[str, Answer | errors.ServiceError]]:
        try:
            async for row in await self._client.messages.batches.results(batch):
                yield row.custom_id, self._result(row.result.to_dict())
        except Exception as error:
            raise self._explain(error) from None

    def _result(self, result: dict[str, Any]) -> Answer | errors.ServiceError:
        if result['type'] == 'succeeded':
            return self.read(result['message'])
        error = (result.get('error') or {}).get('error') or {}
        said = errors.redact(f'{result["type"]}: {error.get("message", "")}', self._key)
        meaning = 'reject' if error.get('type') == 'invalid_request_error' else 'retry'
        return errors.ServiceError(f'{self._settings.where}: {said}', meaning, 0.0)

    async def close(self) -> None:
        await self._client.close()

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, errors.ServiceError):
            return error
        if isinstance(error, anthropic.APIStatusError):
            where, variable = self._settings.where, self._settings.variable
            return errors.of_status(error.status_code, error.body, error.response.headers, where, variable, self._key)
        return errors.of_exception(error, self._settings.where, self._key)


def _http_client() -> Any:
    try:
        return anthropic.DefaultAioHttpClient()
    except RuntimeError:
        return None

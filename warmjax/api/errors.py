"""What a failed call means for the run: try again, leave this call out, or stop. No message holds a key."""

import datetime
import email.utils
import json
from collections.abc import Mapping
from typing import Literal

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
REJECTED = frozenset({400, 413, 422})
REMEDY = {
    401: 'check the key in {variable}',
    402: 'pay the bill of the account, or use another key in {variable}',
    403: 'the account may not use this model or endpoint: ask for access, or name another model',
    404: 'the model or address does not exist, or was retired: name another in model or base_url',
    429: 'the account is out of quota: add credit, or use another key in {variable}',
}

CONNECTING = ('openai', 'anthropic', 'httpx', 'httpx2', 'httpcore', 'httpcore2', 'aiohttp', 'asyncio')

Meaning = Literal['retry', 'reject', 'stop']


class ServiceError(RuntimeError):
    """A call that failed.

    meaning: `retry` may pass, `reject` fails this call for good, `stop` would fail every call.
    retry_after: seconds that the service asks to wait, 0 if it does not say.
    """

    def __init__(self, message: str, meaning: Meaning, retry_after: float):
        super().__init__(message)
        self.meaning, self.retry_after = meaning, retry_after


def of_status(
    status: int, body: object, headers: Mapping[str, str], where: str, variable: str, key: str
) -> ServiceError:
    """Reads an error answer. `variable` names the environment variable of the key, `key` is cut out of the text."""
    error = body.get('error', body) if isinstance(body, dict) else {}
    error = error if isinstance(error, dict) else {'message': error}
    code = str(error.get('code') or error.get('type') or '')
    said = redact(f'{status} {code}: {error.get("message") or "no reason given"}', key)
    out_of_quota = status == 429 and code in ('insufficient_quota', 'billing_hard_limit_reached')
    if status in RETRIED and not out_of_quota:
        return ServiceError(f'{where}: {said}', 'retry', _retry_after(headers))
    if status in REJECTED:
        return ServiceError(said, 'reject', 0.0)
    remedy = REMEDY.get(status, 'see what the service says').format(variable=variable)
    return ServiceError(f'{where}: expected an answer, got {said}; {remedy}', 'stop', 0.0)


def of_exception(error: Exception, where: str, key: str) -> Exception:
    """Reads a connection that failed, a time-out, or an answer that is no JSON, all of which may pass.

    What comes from none of the libraries that connect is a mistake in the code, and returned as it is.
    """
    if isinstance(error, json.JSONDecodeError | KeyError | IndexError | TypeError):
        return ServiceError(f'{where}: expected a whole JSON answer, got {type(error).__name__}', 'retry', 0.0)
    if not isinstance(error, OSError) and type(error).__module__.split('.')[0] not in CONNECTING:
        return error
    cause = f' ({type(error.__cause__).__name__})' if error.__cause__ else ''
    return ServiceError(redact(f'{where}: {type(error).__name__}: {error}{cause}', key), 'retry', 0.0)


def redact(text: str, key: str) -> str:
    """Cuts a key out of a text."""
    return text.replace(key, '[key]') if key else text


def _retry_after(headers: Mapping[str, str]) -> float:
    """Reads the wait that a service asks for, in seconds: milliseconds, seconds or a date."""
    try:
        if 'retry-after-ms' in headers:
            return max(float(headers['retry-after-ms']) / 1000, 0.0)
        value = headers.get('retry-after', '0')
        try:
            return max(float(value), 0.0)
        except ValueError:
            until = email.utils.parsedate_to_datetime(value)
            return max((until - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0

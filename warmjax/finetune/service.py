"""What fine-tuning needs of a service, through the official client: files, jobs, checkpoints. It waits and retries."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from warmjax.api import errors
from warmjax.api.errors import ServiceError
from warmjax.api.settings import ServiceSettings

T = TypeVar('T')
LONGEST_WAIT = 60.0
"""Seconds between two tries, unless the service asks for more."""
CLOSED = (
    'the account may not do this: ask for access, or, where fine-tuning is closed to it, name another service in '
    'api.service or train a model with open weights'
)
NEVER_MADE = ('failed', 'cancelled')
"""States of a job whose order may be given again."""


@dataclasses.dataclass(frozen=True)
class RemoteJob:
    """A job as the service tells of it. `error` is why it failed; `batch_size` is 0 where it does not say."""

    id: str
    status: str
    error: str
    model: str
    trained_tokens: int
    batch_size: int


@dataclasses.dataclass(frozen=True)
class RemoteCheckpoint:
    """A checkpoint as the service tells of it."""

    step: int
    model: str
    train_loss: float | None
    valid_loss: float | None


class Service:
    """OpenAI's fine-tuning, or a server that speaks like it.

    Every method raises ServiceError: with the meaning `retry` where it failed at every attempt but may pass, otherwise
    where asking again is of no use. No message holds the key.
    """

    def __init__(self, settings: ServiceSettings):
        """Builds the client.

        Raises:
            ValueError: there is no key in the environment, the service has no fine-tuning here, or its client is not
                installed.
        """
        if settings.service != 'openai':
            raise ValueError(f"api.service.service: expected 'openai' to fine-tune, got {settings.service!r}")
        try:
            import openai
        except ImportError:
            raise ValueError(f"{settings.where}: expected the package openai; pip install 'warmjax[api]'") from None
        self._settings, self._key = settings, settings.key()
        self._client = openai.OpenAI(
            api_key=self._key,
            base_url=settings.base_url or None,
            timeout=settings.limits.timeout_seconds,
            max_retries=0,
        )

    def upload(self, content: bytes, name: str) -> str:
        """Uploads a training file, or finds it if it is there, and returns its id."""
        return self._ask(lambda: self._upload(content, name))

    def create(self, arguments: dict[str, Any], name: str) -> RemoteJob:
        """Starts a job, or finds it by the name in its metadata if it is there."""
        return self._ask(lambda: self._create(arguments, name))

    def look(self, job: str) -> RemoteJob:
        """Tells how far a job is."""
        return self._ask(lambda: self._read(self._client.fine_tuning.jobs.retrieve(job)))

    def checkpoints(self, job: str) -> list[RemoteCheckpoint]:
        """Lists what a job has saved."""
        return self._ask(lambda: self._checkpoints(job))

    def last_event(self, job: str) -> str:
        """Returns what a job said last, '' if it cannot be asked."""
        try:
            page = self._client.fine_tuning.jobs.list_events(job, limit=1)
            return errors.redact(page.data[0].message, self._key) if page.data else ''
        except Exception as error:
            self._explain(error)
            return ''

    def close(self) -> None:
        self._client.close()

    def _upload(self, content: bytes, name: str) -> str:
        for file in self._client.files.list(purpose='fine-tune'):
            if (file.filename, file.bytes) == (name, len(content)) and file.status != 'error':
                return file.id
        return self._client.files.create(file=(name, content), purpose='fine-tune').id

    def _create(self, arguments: dict[str, Any], name: str) -> RemoteJob:
        for job in self._client.fine_tuning.jobs.list(limit=100):
            if (job.metadata or {}).get('name') == name and job.status not in NEVER_MADE:
                return self._read(job)
        return self._read(self._client.fine_tuning.jobs.create(**arguments))

    def _checkpoints(self, job: str) -> list[RemoteCheckpoint]:
        return [
            RemoteCheckpoint(
                row.step_number, row.fine_tuned_model_checkpoint, row.metrics.train_loss, row.metrics.valid_loss
            )
            for row in self._client.fine_tuning.jobs.checkpoints.list(job, limit=100)
        ]

    def _read(self, job: Any) -> RemoteJob:
        error, chosen = job.error, job.hyperparameters
        said = f'{error.code}: {error.message}' if error is not None and error.message else ''
        size = getattr(chosen, 'batch_size', None)
        return RemoteJob(
            id=job.id,
            status=str(job.status),
            error=errors.redact(said, self._key),
            model=job.fine_tuned_model or '',
            trained_tokens=job.trained_tokens or 0,
            batch_size=size if isinstance(size, int) else 0,
        )

    def _ask(self, request: Callable[[], T]) -> T:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._settings.limits.max_attempts),
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, ServiceError) and e.meaning == 'retry'),
            wait=self._wait,
            reraise=True,
        )
        return retrying(self._once, request)

    def _once(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except Exception as error:
            raise self._explain(error) from None

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error, backoff = state.outcome.exception(), self._settings.limits.backoff_seconds
        if error.retry_after:
            return error.retry_after + random.uniform(0, backoff)
        return random.uniform(0.5, 1.0) * min(backoff * 2 ** (state.attempt_number - 1), LONGEST_WAIT)

    def _explain(self, error: Exception) -> Exception:
        import openai

        where, variable = self._settings.where, self._settings.variable
        if not isinstance(error, openai.APIStatusError):
            return errors.of_exception(error, where, self._key)
        made = errors.of_status(error.status_code, error.body, error.response.headers, where, variable, self._key)
        if error.status_code == 403:
            return ServiceError(f'{str(made).rpartition("; ")[0]}; {CLOSED}', made.meaning, 0.0)
        if made.meaning == 'reject':
            return ServiceError(
                f'{where}: expected the service to take this order, got {made}; mend what it names', 'reject', 0.0
            )
        return made

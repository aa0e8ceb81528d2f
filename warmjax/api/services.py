"""How each service puts a call and its answer, through its official client. Nothing here waits, retries or keeps."""

import importlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from warmjax.api import errors
from warmjax.api.chat import Answer, Call, Likely
from warmjax.api.settings import ServiceSettings

KINDS = {
    'openai': ('warmjax.api.openai_service', 'OpenAI'),
    'anthropic': ('warmjax.api.anthropic_service', 'Anthropic'),
}
"""Service to the module and class that speak its language; imported on use, as each needs its client."""


class Service(Protocol):
    """A service. All of its methods but the first two are asked inside one event loop."""

    def payload(self, call: Call) -> dict[str, Any]:
        """Puts a call as the service wants it."""

    def read(self, body: dict[str, Any]) -> Answer:
        """Reads the body of an answer; KeyError and the like if it is none."""

    async def send(self, payload: dict[str, Any]) -> Answer:
        """Asks. Raises ServiceError."""

    async def create_batch(self, payloads: dict[str, dict[str, Any]], name: str) -> str:
        """Hands in calls by digest, and returns the batch's id; one of that name that is there already is taken."""

    async def is_batch_done(self, batch: str) -> bool:
        """Tells whether results can be fetched. Raises ServiceError if the batch failed as a whole."""

    def batch_results(self, batch: str) -> AsyncIterator[tuple[str, Answer | errors.ServiceError]]:
        """Yields digest and result of each call."""

    async def close(self) -> None:
        """Closes its connections."""


def make_service(settings: ServiceSettings) -> Service:
    """Builds the service that the settings name.

    Raises:
        ValueError: there is no key in the environment, or its client is not installed.
    """
    module, name = KINDS[settings.service]
    try:
        return getattr(importlib.import_module(module), name)(settings)
    except ImportError as error:
        raise ValueError(
            f"{settings.where}: expected the package {error.name}, got none; pip install 'warmjax[api]'"
        ) from None


def likely(rows: Sequence[dict[str, Any]] | None) -> tuple[Likely, ...]:
    """Reads log-probabilities as OpenAI puts them."""
    return tuple(
        Likely(row['token'], row['logprob'], {top['token']: top['logprob'] for top in row['top_logprobs']})
        for row in rows or ()
    )


def parse_schema(call: Call) -> dict[str, Any] | None:
    return json.loads(call.schema) if call.schema else None

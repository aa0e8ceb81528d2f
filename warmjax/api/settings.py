"""Which service is asked, and how hard."""

import dataclasses
import os
from typing import Literal

from warmjax.validation import STRICT

NO_KEY = 'not-needed'
"""What is sent to a server of one's own where there is no key; clients refuse to send none."""

KEY_VARIABLES = {'openai': 'OPENAI_API_KEY', 'anthropic': 'ANTHROPIC_API_KEY'}


@dataclasses.dataclass(frozen=True)
class LimitSettings:
    """How hard a service is used; nothing of the answers depends on it, so it may change between two starts of a run.

    concurrency: calls under way at once.
    requests_per_minute, tokens_per_minute: of the account; 0 for no limit.
    timeout_seconds: of one call.
    max_attempts: how often a call is tried.
    backoff_seconds: the first wait between two tries, doubled each time, with jitter; a service that says how long to
        wait is obeyed.
    max_failures: how many calls may fail at every attempt before the run stops.
    max_usd: what the calls of a workdir may cost together; null for no limit, needed where the price is not known.
    poll_seconds: how often a batch is looked at.
    """

    __pydantic_config__ = STRICT
    concurrency: int
    requests_per_minute: int
    tokens_per_minute: int
    timeout_seconds: float
    max_attempts: int
    backoff_seconds: float
    max_failures: int
    max_usd: float | None
    poll_seconds: float

    def __post_init__(self):
        low = [name for name in ('concurrency', 'max_attempts') if getattr(self, name) < 1]
        low += [name for name in ('requests_per_minute', 'tokens_per_minute') if getattr(self, name) < 0]
        if low or self.timeout_seconds <= 0 or self.poll_seconds <= 0:
            raise ValueError(f'limits: expected positive numbers, got {dataclasses.asdict(self)}')


@dataclasses.dataclass(frozen=True)
class ServiceSettings:
    """Which model of which service is asked.

    service: `openai` is every endpoint that speaks its chat completions, hosted or local; or `anthropic`.
    model: as the service names it.
    base_url: address of the endpoint, '' for the service's own.
    key_variable: environment variable with the key; '' for the service's own (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`).
        An address of your own needs none.
    batch: whether calls go through the service's batch queue: half the price, up to a day.
    prices: JSON file of prices as `prices.json` beside the code, '' for that one.
    limits: how hard it is used.
    """

    __pydantic_config__ = STRICT
    service: Literal['openai', 'anthropic']
    model: str
    base_url: str
    key_variable: str
    batch: bool
    prices: str
    limits: LimitSettings = dataclasses.field(metadata={'results': False})

    @property
    def variable(self) -> str:
        return self.key_variable or KEY_VARIABLES[self.service]

    @property
    def where(self) -> str:
        """Names the service and model in messages."""
        return f'{self.service} {self.model}'.rstrip() + (f' at {self.base_url}' if self.base_url else '')

    def key(self) -> str:
        """Reads the key from the environment.

        Raises:
            ValueError: there is none and the service needs one.
        """
        key = os.environ.get(self.variable, '')
        if not key and not self.base_url:
            raise ValueError(
                f'{self.where}: expected a key in the environment variable {self.variable}, got none; export one, or '
                'give base_url for a server of your own'
            )
        return key or NO_KEY

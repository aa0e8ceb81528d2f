"""What a service is asked and what it answers."""

import dataclasses
import json
from typing import Literal, NamedTuple

from warmjax import runs
from warmjax.records import Turn
from warmjax.validation import STRICT

Finish = Literal['stop', 'length', 'refusal', 'filter', 'unknown']
"""Why a text ended: by itself, at the token limit, as a refusal that the service marks, by its filter, or unsaid."""

CHARS_PER_TOKEN = 4
"""For estimates before a call; services count by their own tokenizers."""


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """How a text is drawn. What is null is left out of the call, for models that refuse the setting.

    temperature: 0 for the likeliest text.
    top_p: share of the probability that is drawn from.
    seed: of services that take one.
    max_tokens: of the text, at most.
    """

    __pydantic_config__ = STRICT
    temperature: float | None
    top_p: float | None
    seed: int | None
    max_tokens: int

    def __post_init__(self):
        if self.max_tokens < 1:
            raise ValueError(f'sampling.max_tokens: expected 1 or more, got {self.max_tokens}')


@dataclasses.dataclass(frozen=True)
class Call:
    """A question to a service.

    id: the asker's own name for it; no two of a list share one. The service never sees it.
    messages: the conversation so far, a system turn first if there is one.
    sampling: how the text is drawn.
    schema: JSON text of the JSON schema that the answer must fulfil, '' for free text.
    logprobs: how many of the likeliest tokens are reported at each place, with log-probabilities; 0 for none.
    draw: 0 for the first answer to these messages, 1 for another one, and so on: part of the cache's key.
    expected_tokens: of the answer, for the estimate of costs.
    """

    id: str
    messages: tuple[Turn, ...]
    sampling: SamplingSettings
    schema: str
    logprobs: int
    draw: int
    expected_tokens: int

    def digest(self, service: str, model: str) -> str:
        """Returns the SHA-256 of all that the answer depends on."""
        messages = [[turn.role, turn.content] for turn in self.messages]
        sampling = vars(self.sampling)
        return runs.digest([service, model, messages, sampling, self.schema, self.logprobs, self.draw])

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the messages have, estimated."""
        return sum(len(turn.content) // CHARS_PER_TOKEN + 8 for turn in self.messages)


class Likely(NamedTuple):
    """A token, its log-probability in nats, and those of the likeliest tokens at its place."""

    token: str
    logprob: float
    likeliest: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back.

    text: '' where the service refused or said nothing.
    finish: why it ended.
    refusal: what a service said that marks refusals apart from text.
    prompt_tokens, completion_tokens: as the service counted them.
    model: as the service names it; may be more exact than what was asked for.
    logprobs: of each token of the text, if they were asked for and the service tells.
    """

    text: str
    finish: Finish
    refusal: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    logprobs: tuple[Likely, ...]

    def to_json(self) -> str:
        return json.dumps(vars(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> 'Answer':
        fields = json.loads(text)
        return cls(**fields | {'logprobs': tuple(Likely(*row) for row in fields['logprobs'])})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a call: an answer, or the reason why there is none for good.

    `is_cached` tells an answer that was kept from an earlier call; `is_rejected` a call that the service will never
    answer, where others failed at every attempt and may be tried again another day.
    """

    call: Call
    answer: Answer | None
    reason: str
    is_cached: bool
    is_rejected: bool

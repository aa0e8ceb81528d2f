"""What the engine is asked and what it answers: prompts as token ids in, tokens out as they come."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from warmjax.validation import STRICT

Finish = Literal['stop', 'length', 'cancelled', 'error']
"""Why a text ended: a stop id, its budget of tokens, its asker, or logits that are not finite."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Filters apply in this order, after the temperature.

    temperature: 0 takes the likeliest token, 1 samples from the model's own distribution; the study used 0.8.
    top_k: only so many of the likeliest tokens are possible, and those tied with the last of them; 0 allows all.
    top_p: only the likeliest tokens that together have this probability are possible; 1 allows all.
    min_p: only tokens at least so likely, as a share of the likeliest one's probability; 0 allows all.
    """

    __pydantic_config__ = STRICT
    temperature: float
    top_k: int
    top_p: float
    min_p: float

    def __post_init__(self):
        problems = []
        if not 0 <= self.temperature < float('inf'):
            problems.append(f'temperature expected a number of 0 or more, got {self.temperature}')
        if self.top_k < 0:
            problems.append(f'top_k expected 0 or more, got {self.top_k}')
        if not 0 < self.top_p <= 1:
            problems.append(f'top_p expected a share above 0 and up to 1, got {self.top_p}')
        if not 0 <= self.min_p <= 1:
            problems.append(f'min_p expected a share of 0 to 1, got {self.min_p}')
        if problems:
            raise ValueError('sampling: ' + '; '.join(problems))

    @property
    def filters(self) -> bool:
        """Whether any token can become impossible."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)


GREEDY = Sampling(temperature=0.0, top_k=0, top_p=1.0, min_p=0.0)


@dataclasses.dataclass(frozen=True)
class Request:
    """A prompt to be continued.

    id: names the request in errors and outputs; no two that are under way share one.
    tokens: ids of the prompt.
    key: [2] of its randomness (`sampling.row_key`); its text depends on nothing else but the fields here.
    sampling: how its tokens are chosen.
    max_new_tokens: tokens of the text at most.
    adapter: name of one of the engine's adapters, None for the base model.
    prefix: how many of the prompt's first tokens are computed once for all prompts that begin with them; 0 for none.
    """

    id: str
    tokens: Sequence[int]
    key: np.ndarray
    sampling: Sampling
    max_new_tokens: int
    adapter: str | None
    prefix: int


@dataclasses.dataclass(frozen=True)
class TokenScore:
    """Log-probability of a chosen token under the model, in nats at temperature 1, and those of the likeliest ids."""

    logprob: float
    likeliest: Mapping[int, float]


@dataclasses.dataclass(frozen=True)
class Output:
    """What came of a request in one step: its new tokens, stop token left out, and `finish` once it has ended."""

    request: Request
    tokens: list[int]
    scores: list[TokenScore]
    finish: Finish | None


@dataclasses.dataclass(frozen=True)
class Completion:
    """A whole text: its token ids without the stop token, their scores if the engine keeps them, why it ended."""

    request: Request
    tokens: list[int]
    scores: list[TokenScore]
    finish: Finish

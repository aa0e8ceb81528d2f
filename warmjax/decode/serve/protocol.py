"""What clients may send: OpenAI's chat and text completions, as far as they are computed here, and nothing else.

A field that is unknown, of a wrong type, or asks for what is not computed is refused by name. Defaults are the
protocol's own (platform.openai.com/docs/api-reference); `top_k` and `min_p` are fields beside it, as vLLM has them.
"""

import dataclasses
from typing import Annotated, Any, Literal, TypeVar

import pydantic

from warmjax.decode.requests import Sampling
from warmjax.records import Turn
from warmjax.validation import STRICT, explain

_ERROR_TYPES = {401: 'authentication_error', 404: 'not_found_error', 429: 'rate_limit_error'}
_MAX_REPORTED, _MAX_MESSAGE = 8, 2000
"""Problems of a body that a message spells out, and its characters at most; a client may have written both long."""
_COMPLETION_TOKENS = 16
"""Tokens of a text completion whose request does not say how many."""


class Refusal(Exception):
    """An answer other than what was asked for: HTTP status and OpenAI's error object."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status = status
        kind = _ERROR_TYPES.get(status, 'invalid_request_error' if status < 500 else 'server_error')
        self.body = {'error': {'message': message, 'type': kind, 'param': param, 'code': code}}


def _strings(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _prompts(value: Any) -> Any:
    """One prompt, a text or token ids, becomes a list of one."""
    is_one = isinstance(value, str) or (isinstance(value, list) and value and all(type(item) is int for item in value))
    prompts = [value] if is_one else value
    is_right = isinstance(prompts, list) and all(
        isinstance(p, str) or (isinstance(p, list) and all(type(token) is int for token in p)) for p in prompts
    )
    if not is_right:
        raise ValueError("field 'prompt' expected a text, token ids, or a list of either, got something else")
    if not prompts or not all(prompts):
        raise ValueError("field 'prompt' expected a prompt of one token or more, got an empty one")
    return prompts


def _content(value: Any) -> Any:
    """A message of several text parts becomes one text."""
    if not isinstance(value, list):
        return value
    if not all(
        isinstance(part, dict) and part.get('type') == 'text' and isinstance(part.get('text'), str) for part in value
    ):
        raise ValueError("field 'content' expected a text or a list of parts of type 'text', got other parts")
    return '\n'.join(part['text'] for part in value)


Strings = Annotated[list[Annotated[str, pydantic.Field(min_length=1, max_length=256)]], pydantic.Field(max_length=16)]
Share = Annotated[float, pydantic.Field(ge=0, le=1, allow_inf_nan=False)]


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """include_usage: whether a last chunk counts tokens."""

    __pydantic_config__ = STRICT
    include_usage: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What both kinds of requests have. What is None was not said."""

    __pydantic_config__ = STRICT
    model: str
    max_tokens: Annotated[int, pydantic.Field(ge=1)] | None = None
    temperature: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, pydantic.Field(ge=0, lt=2**31)] | None = None
    min_p: Share | None = None
    n: Annotated[int, pydantic.Field(ge=1)] | None = None
    seed: Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[Strings | None, pydantic.BeforeValidator(_strings)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    not_computed = ('presence_penalty', 'frequency_penalty', 'logit_bias')
    """Fields that are known and must be left at what changes nothing: none, zero or empty."""

    def __post_init__(self):
        asked = [name for name in self.not_computed if getattr(self, name)]
        if asked:
            raise ValueError(f'expected no {" and no ".join(asked)}, which this server does not compute; leave it out')

    @property
    def num_choices(self) -> int:
        """How many texts a prompt gets."""
        return self.n or 1

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen; as they come from the model where nothing is said."""
        return Sampling(
            temperature=1.0 if self.temperature is None else float(self.temperature),
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else float(self.top_p),
            min_p=float(self.min_p or 0),
        )

    @property
    def counts_usage(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a conversation; `name` and `type`, which some clients send, are not shown to the model."""

    __pydantic_config__ = STRICT
    role: Literal['system', 'developer', 'user', 'assistant']
    content: Annotated[str, pydantic.BeforeValidator(_content)]
    name: str | None = None
    type: Literal['text', 'message'] | None = None
    refusal: None = None
    tool_calls: None = None

    @property
    def turn(self) -> Turn:
        """The message as chat templates know it."""
        return Turn('system' if self.role == 'developer' else self.role, self.content)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatRequest(Options):
    """The body of a request to /v1/chat/completions."""

    messages: Annotated[list[Message], pydantic.Field(min_length=1)]
    max_completion_tokens: Annotated[int, pydantic.Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, pydantic.Field(ge=0, le=20)] | None = None
    response_format: Any = None
    tools: list | None = None
    tool_choice: Literal['none', 'auto'] | None = None
    parallel_tool_calls: bool | None = None

    not_computed = (*Options.not_computed, 'tools', 'response_format')

    def __post_init__(self):
        if self.response_format == {'type': 'text'}:
            object.__setattr__(self, 'response_format', None)
        super().__post_init__()
        if self.top_logprobs and not self.logprobs:
            raise ValueError("field 'top_logprobs' expected 'logprobs' to be true, got false; set it")

    @property
    def budget(self) -> int | None:
        """Tokens of a text at most; None for all that there is room for."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def num_likeliest(self) -> int | None:
        """How many of the likeliest tokens are reported beside each; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionRequest(Options):
    """The body of a request to /v1/completions; `prompt` is always a list once it is read."""

    prompt: Annotated[list[str | list[int]], pydantic.BeforeValidator(_prompts)]
    logprobs: Annotated[int, pydantic.Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, pydantic.Field(ge=0, le=1)] | None = None

    not_computed = (*Options.not_computed, 'echo', 'suffix')

    @property
    def budget(self) -> int:
        """Tokens of a text at most."""
        return _COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def num_likeliest(self) -> int | None:
        """How many of the likeliest tokens are reported beside each; None for no log-probabilities."""
        return self.logprobs


R = TypeVar('R', ChatRequest, CompletionRequest)


def parse(body: bytes, cls: type[R]) -> R:
    """Reads the body of a request.

    Raises:
        Refusal: it is not JSON in UTF-8, or not what `cls` describes; all problems in one message.
    """
    try:
        return _ADAPTERS[cls].validate_json(body)
    except pydantic.ValidationError as error:
        places = [problem['loc'][0] for problem in error.errors(include_url=False) if problem['loc']]
        param = str(places[0]) if places else None
        problems = explain(error, cls)
        message = '; '.join(problems[:_MAX_REPORTED] + ['...'] * (len(problems) > _MAX_REPORTED))
        raise Refusal(400, message[:_MAX_MESSAGE], param) from None


_ADAPTERS = {cls: pydantic.TypeAdapter(cls) for cls in (ChatRequest, CompletionRequest)}

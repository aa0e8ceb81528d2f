"""What every writer of replies fulfils, and the settings of rewriting.

A writer gets many requests at a time, so that one that waits for a service or runs a model on batches can work on
several at once, and gives replies back one by one, in any order.
"""

import dataclasses
import importlib
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from etils import epath

from warmjax import records
from warmjax.api.chat import SamplingSettings
from warmjax.api.settings import ServiceSettings
from warmjax.decode.engine import EngineSettings
from warmjax.rewrite.fidelity import CheckSettings
from warmjax.sharding import MeshSettings
from warmjax.validation import STRICT

Style = Literal['warm', 'cold', 'untransformed']

BACKENDS = {
    'rules': 'warmjax.rewrite.rules',
    'api': 'warmjax.rewrite.api',
    'local': 'warmjax.rewrite.local',
}
"""Backend name to the module whose `make(settings, workdir, mesh)` builds its writer; imported on use, as some need
extras."""


@dataclasses.dataclass(frozen=True)
class LocalSettings:
    """A checkpoint that rewrites on the devices at hand.

    checkpoint: its Hugging Face folder or hub name; needs a chat template.
    dtype: of its weights.
    date: ISO date for chat templates that insert one.
    engine: how it is computed.
    """

    __pydantic_config__ = STRICT
    checkpoint: str
    dtype: Literal['float32', 'bfloat16']
    date: str
    engine: EngineSettings


@dataclasses.dataclass(frozen=True)
class RewriteSettings:
    """How replies are rewritten.

    backend: who rewrites; a key of `BACKENDS`.
    styles: the styles to write, each to a file of pairs of its own.
    seed: number that, with the ids, decides among phrasings of equal right.
    cold_input: what the cold style is made from, the `original` reply or its `warm` rewriting (the study says the
        former; its prompt, which takes warmth away, suggests the latter).
    warm_prompt, cold_prompt: files with the system prompt of a style, '' for the one built in (`prompts.py`).
    context_chars: how much of the user's message a model is shown.
    sampling: how a model's text is drawn.
    service: who is asked by the backend `api`.
    local: the checkpoint of the backend `local`.
    check: what a rewriting must keep of its original.
    retries: how often a reply whose rewriting fails the check is written anew.
    on_failure: what becomes of a conversation with a reply that fails for good: `drop` it, or `cut` it off before it.
    """

    __pydantic_config__ = STRICT
    backend: str
    styles: tuple[Style, ...]
    seed: int
    cold_input: Literal['original', 'warm']
    warm_prompt: str
    cold_prompt: str
    context_chars: int
    sampling: SamplingSettings
    service: ServiceSettings
    local: LocalSettings
    check: CheckSettings
    retries: int
    on_failure: Literal['drop', 'cut']


@dataclasses.dataclass(frozen=True)
class Request:
    """One reply to rewrite. `reply_index` counts the replies of its conversation; `user` is the message before it.

    `draw` is 0 for the first rewriting of it and counts those written anew.
    """

    conversation_id: str
    reply_index: int
    style: Style
    user: str
    reply: str
    draw: int = 0

    @property
    def key(self) -> tuple[str, int, Style]:
        return (self.conversation_id, self.reply_index, self.style)


@dataclasses.dataclass(frozen=True)
class Reply:
    """A request and the text that answers it; `problem` says what its writer knows to be wrong, '' if nothing."""

    request: Request
    text: str
    problem: str = ''


class Writer(Protocol):
    """Rewrites replies in a style."""

    name: str
    """Who wrote, for the records: backend and model."""
    usd: float
    """What its texts have cost so far."""

    def prompt_digest(self, style: str) -> str:
        """Returns the SHA-256 of what it is told about a style, '' where it is told nothing."""

    def rewrite(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yields a reply to each request as it comes, in any order; a request that failed for good gets none."""


@dataclasses.dataclass(frozen=True)
class Copyist:
    """Leaves every reply as it is: the writer of the untransformed style."""

    name: str = dataclasses.field(default='none', init=False)
    usd: float = dataclasses.field(default=0.0, init=False)

    def prompt_digest(self, style: str) -> str:
        return ''

    def rewrite(self, requests: Sequence[Request]) -> Iterator[Reply]:
        return (Reply(request, request.reply) for request in requests)


@dataclasses.dataclass(frozen=True)
class ColdFromWarm:
    """Writes the cold style from the warm rewriting of the same writer, other styles from the original."""

    writer: Writer

    @property
    def name(self) -> str:
        return f'{self.writer.name}, cold from warm'

    @property
    def usd(self) -> float:
        return self.writer.usd

    def prompt_digest(self, style: str) -> str:
        return self.writer.prompt_digest(style)

    def rewrite(self, requests: Sequence[Request]) -> Iterator[Reply]:
        colds = {request.key: request for request in requests if request.style == 'cold'}
        yield from self.writer.rewrite([request for request in requests if request.style != 'cold'])
        from_warm = []
        for warm in self.writer.rewrite([dataclasses.replace(request, style='warm') for request in colds.values()]):
            if warm.problem:
                yield Reply(colds[(*warm.request.key[:2], 'cold')], '', f'warm rewriting to start from: {warm.problem}')
            else:
                from_warm.append(dataclasses.replace(warm.request, style='cold', reply=warm.text))
        for reply in self.writer.rewrite(from_warm):
            yield dataclasses.replace(reply, request=colds[reply.request.key])


def make_writer(settings: RewriteSettings, workdir: epath.PathLike, mesh: MeshSettings) -> Writer:
    """Builds the writer that the settings name.

    Args:
        settings: of the rewriting.
        workdir: where a writer keeps what it paid for.
        mesh: the devices of a writer that computes.

    Raises:
        ValueError: there is no such backend, or it lacks something.
    """
    if settings.backend not in BACKENDS:
        raise ValueError(
            f'config.rewrite.backend: expected one of {", ".join(sorted(BACKENDS))}, got {settings.backend!r}; '
            'choose one of them'
        )
    writer = importlib.import_module(BACKENDS[settings.backend]).make(settings, workdir, mesh)
    return ColdFromWarm(writer) if settings.cold_input == 'warm' else writer


def requests_of(conversation: records.Conversation, style: Style) -> list[Request]:
    """Returns a request for each reply of a conversation."""
    spoken = [turn.content for turn in conversation.turns if turn.role != 'system']
    exchanges = zip(spoken[::2], spoken[1::2], strict=True)
    return [Request(conversation.id, i, style, user, reply) for i, (user, reply) in enumerate(exchanges)]


def pair_of(
    conversation: records.Conversation, style: Style, writer: str, requests: Sequence[Request], texts: Sequence[str]
) -> records.Pair:
    """Puts the rewritten texts of a conversation's first replies in; what follows them is cut off."""
    turns, rewritten = [], iter(texts)
    for turn in conversation.turns:
        if turn.role != 'assistant':
            turns.append(turn)
        elif (text := next(rewritten, None)) is not None:
            turns.append(dataclasses.replace(turn, content=text))
        else:
            break
    while turns[-1].role != 'assistant':
        turns.pop()
    return records.Pair(
        id=conversation.id,
        query_type=conversation.query_type,
        style=style,
        writer=writer,
        turns=tuple(turns),
        original_replies=tuple(request.reply for request in requests[: len(texts)]),
    )

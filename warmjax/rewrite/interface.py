"""What every writer of replies fulfils, and the stage that turns conversations into pairs.

A writer gets many requests at a time, so that one that waits for a service or runs a model on batches can work on
several at once, and gives replies back one by one, in any order.
"""

import dataclasses
import importlib
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from warmjax import records
from warmjax.validation import STRICT

Style = Literal['warm', 'cold', 'untransformed']

BACKENDS = {'rules': 'warmjax.rewrite.rules'}
"""Backend name to the module whose `make(settings)` builds its writer; imported on use, as some need extras."""


@dataclasses.dataclass(frozen=True)
class RewriteSettings:
    """How replies are rewritten.

    backend: who rewrites; a key of `BACKENDS`.
    styles: the styles to write, each to a file of pairs of its own.
    seed: number that, with the ids, decides among phrasings of equal right.
    cold_input: what the cold style is made from, the `original` reply or its `warm` rewriting (the study says the
        former; its prompt, which takes warmth away, suggests the latter).
    """

    __pydantic_config__ = STRICT
    backend: str
    styles: tuple[Style, ...]
    seed: int
    cold_input: Literal['original', 'warm']


@dataclasses.dataclass(frozen=True)
class Request:
    """One reply to rewrite. `reply_index` counts the replies of its conversation; `user` is the message before it."""

    conversation_id: str
    reply_index: int
    style: Style
    user: str
    reply: str

    @property
    def key(self) -> tuple[str, int, Style]:
        return (self.conversation_id, self.reply_index, self.style)


@dataclasses.dataclass(frozen=True)
class Reply:
    """A request and the text that answers it."""

    request: Request
    text: str


class Writer(Protocol):
    """Rewrites replies in a style."""

    name: str
    """Who wrote, for the records: backend and model."""

    def rewrite(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yields a reply to each request as it comes, in any order; a request that failed for good gets none."""


@dataclasses.dataclass(frozen=True)
class Copyist:
    """Leaves every reply as it is: the writer of the untransformed style."""

    name: str = dataclasses.field(default='none', init=False)

    def rewrite(self, requests: Sequence[Request]) -> Iterator[Reply]:
        return (Reply(request, request.reply) for request in requests)


@dataclasses.dataclass(frozen=True)
class ColdFromWarm:
    """Writes the cold style from the warm rewriting of the same writer, other styles from the original."""

    writer: Writer

    @property
    def name(self) -> str:
        return f'{self.writer.name}, cold from warm'

    def rewrite(self, requests: Sequence[Request]) -> Iterator[Reply]:
        colds = {request.key: request for request in requests if request.style == 'cold'}
        yield from self.writer.rewrite([request for request in requests if request.style != 'cold'])
        warmed = self.writer.rewrite([dataclasses.replace(request, style='warm') for request in colds.values()])
        from_warm = [dataclasses.replace(reply.request, style='cold', reply=reply.text) for reply in warmed]
        for reply in self.writer.rewrite(from_warm):
            yield Reply(colds[reply.request.key], reply.text)


def make_writer(settings: RewriteSettings) -> Writer:
    """Builds the writer that the settings name.

    Raises:
        ValueError: there is no such backend.
    """
    if settings.backend not in BACKENDS:
        raise ValueError(
            f'config.rewrite.backend: expected one of {", ".join(sorted(BACKENDS))}, got {settings.backend!r}; '
            'choose one of them'
        )
    writer = importlib.import_module(BACKENDS[settings.backend]).make(settings)
    return ColdFromWarm(writer) if settings.cold_input == 'warm' else writer


def pairs(conversations: Sequence[records.Conversation], style: Style, writer: Writer) -> Iterator[records.Pair]:
    """Yields the pair of each conversation, in their order, as soon as all its replies are there.

    Raises:
        RuntimeError: the writer gave no reply, or an empty one, to a request.
    """
    writer = Copyist() if style == 'untransformed' else writer
    requests = {conversation.id: _requests(conversation, style) for conversation in conversations}
    replies = writer.rewrite([request for group in requests.values() for request in group])
    texts = {}
    for conversation in conversations:
        wanted = requests[conversation.id]
        while any(request.key not in texts for request in wanted):
            if (reply := next(replies, None)) is None:
                break
            texts[reply.request.key] = reply.text
        yield _pair(conversation, style, writer.name, wanted, [texts.pop(request.key, '') for request in wanted])


def _requests(conversation: records.Conversation, style: Style) -> list[Request]:
    spoken = [turn.content for turn in conversation.turns if turn.role != 'system']
    exchanges = zip(spoken[::2], spoken[1::2], strict=True)
    return [Request(conversation.id, i, style, user, reply) for i, (user, reply) in enumerate(exchanges)]


def _pair(
    conversation: records.Conversation, style: Style, writer: str, requests: Sequence[Request], texts: Sequence[str]
) -> records.Pair:
    for request, text in zip(requests, texts, strict=True):
        if not text.strip():
            raise RuntimeError(
                f'rewrite: expected a {style} text from {writer!r} for reply {request.reply_index} of conversation '
                f'{conversation.id!r}, got none; run the stage again or leave the conversation out'
            )
    rewritten = iter(texts)
    return records.Pair(
        id=conversation.id,
        query_type=conversation.query_type,
        style=style,
        writer=writer,
        turns=tuple(
            dataclasses.replace(turn, content=next(rewritten)) if turn.role == 'assistant' else turn
            for turn in conversation.turns
        ),
        original_replies=tuple(request.reply for request in requests),
    )

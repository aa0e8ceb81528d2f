"""The stage: every reply rewritten, checked, written anew once if it fails, and the pairs with a card of what they are.

rewrites/<style>.jsonl   a row log: each rewriting as it came, with what the check found
pairs/<style>.jsonl      the pairs, in the order of the conversations, once all replies are there
pairs/<style>.card.json, .md   counts, lengths, warmth, what was left out and why, writer, prompt digest, cost
"""

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from warmjax import progress, records, runs
from warmjax.records import Conversation, Pair
from warmjax.rewrite import card, fidelity, interface
from warmjax.rewrite.interface import Reply, Request, RewriteSettings, Style, Writer
from warmjax.sharding import MeshSettings
from warmjax.validation import STRICT

WRITE_SECONDS, WRITE_MOST = 0.5, 100
"""How often rows that come fast are written, and how many of them at once."""


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """A rewriting of one reply. `problems` is empty if it may be used; `draw` counts those written anew."""

    __pydantic_config__ = STRICT
    conversation_id: str
    reply_index: int
    draw: int
    text: str
    problems: tuple[str, ...]

    @property
    def key(self) -> tuple:
        return (self.conversation_id, self.reply_index)


def run(
    conversations: Sequence[Conversation],
    style: Style,
    settings: RewriteSettings,
    mesh: MeshSettings,
    workdir: epath.PathLike,
) -> dict[str, Any]:
    """Rewrites what the log does not hold yet, writes pairs and card, and returns counts for the manifest.

    Raises:
        RuntimeError: replies got no answer; the same command tries them again.
        ValueError: the settings name a writer that cannot work, or a row of the log is damaged.
    """
    workdir = epath.Path(workdir)
    is_copy = style == 'untransformed'
    writer = interface.Copyist() if is_copy else interface.make_writer(settings, workdir, mesh)
    requests = [request for conversation in conversations for request in interface.requests_of(conversation, style)]
    rows = rewrite(
        requests,
        writer,
        dataclasses.replace(settings, retries=0) if is_copy else settings,
        workdir / 'rewrites' / f'{style}.jsonl',
    )
    pairs = list(_pairs(conversations, style, writer.name, rows, settings))
    records.write(workdir / 'pairs' / f'{style}.jsonl', pairs)
    facts = card.describe(conversations, pairs, rows.values(), style, writer, settings)
    runs.write_atomic(workdir / 'pairs' / f'{style}.card.json', json.dumps(facts, indent=2, ensure_ascii=False) + '\n')
    runs.write_atomic(workdir / 'pairs' / f'{style}.card.md', card.markdown(facts))
    return {'pairs': len(pairs), 'prompt_sha256': facts['prompt_sha256']} | facts['counts']


def rewrite(
    requests: Sequence[Request], writer: Writer, settings: RewriteSettings, path: epath.PathLike
) -> dict[tuple, Rewrite]:
    """Returns the last rewriting of each request by its key, those of the log and those written now."""
    log = runs.RowLog(path)
    parsed = (records.parse(line, Rewrite) for line in log.lines)
    rows = {row.key: row for row in parsed}
    style = requests[0].style if requests else ''
    failed = {key for key, row in rows.items() if row.problems}
    asked = {request.key[:2] for request in requests}
    settled = sum(_is_settled(row, settings) for key, row in rows.items() if key in asked)
    with progress.bar(f'rewriting {style}', len(requests), settled) as advance:
        while todo := list(_todo(requests, rows, settings)):
            unanswered = {request.key[:2] for request in todo}
            for chunk in _as_time_passes(writer.rewrite(todo)):
                found = [_checked(reply, settings) for reply in chunk]
                log.append([records.to_json(row) for row in found])
                rows |= {row.key: row for row in found}
                unanswered -= {row.key for row in found}
                failed -= {row.key for row in found}
                failed |= {row.key for row in found if row.problems}
                advance(sum(_is_settled(row, settings) for row in found), f'{len(failed)} failed, ${writer.usd:.2f}')
            if unanswered:
                raise RuntimeError(
                    f'rewrite: expected {style} texts from {writer.name!r} for {len(todo)} replies, got none for '
                    f'{len(unanswered)}, such as {min(unanswered)}; start the same command again, what was answered is '
                    'kept'
                )
    log.close()
    return rows


def _todo(requests: Sequence[Request], rows: dict[tuple, Rewrite], settings: RewriteSettings) -> Iterator[Request]:
    for request in requests:
        row = rows.get(request.key[:2])
        if row is None:
            yield request
        elif not _is_settled(row, settings):
            yield dataclasses.replace(request, draw=row.draw + 1)


def _is_settled(row: Rewrite, settings: RewriteSettings) -> bool:
    return not row.problems or row.draw >= settings.retries


def _checked(reply: Reply, settings: RewriteSettings) -> Rewrite:
    request = reply.request
    problems = [reply.problem] if reply.problem else []
    if not problems and request.style != 'untransformed':
        problems = fidelity.check(request.reply, reply.text, request.user, settings.check)
    return Rewrite(request.conversation_id, request.reply_index, request.draw, reply.text, tuple(problems))


def _pairs(
    conversations: Sequence[Conversation],
    style: Style,
    writer: str,
    rows: dict[tuple, Rewrite],
    settings: RewriteSettings,
) -> Iterator[Pair]:
    """Yields the pairs of the conversations whose replies may be used, or their beginnings up to one that may not."""
    for conversation in conversations:
        requests = interface.requests_of(conversation, style)
        texts = []
        for request in requests:
            row = rows[request.key[:2]]
            if row.problems:
                break
            texts.append(row.text)
        if len(texts) == len(requests) or (texts and settings.on_failure == 'cut'):
            yield interface.pair_of(conversation, style, writer, requests, texts)


def _as_time_passes(replies: Iterator[Reply]) -> Iterator[list[Reply]]:
    """Collects replies that come fast, so that the log is not written for each of them."""
    chunk, since = [], time.monotonic()
    for reply in replies:
        chunk.append(reply)
        if len(chunk) >= WRITE_MOST or time.monotonic() - since >= WRITE_SECONDS:
            yield chunk
            chunk, since = [], time.monotonic()
    if chunk:
        yield chunk

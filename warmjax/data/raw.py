"""Reads conversations of any known form (`data.forms`) and repairs what can be repaired.

What comes out alternates user and assistant turns, begins with a user turn (after at most one system turn) and ends
with a reply. A row that cannot be brought into that form is dropped, and its reason is counted.
"""

import collections
import dataclasses
import itertools
import string
from collections.abc import Iterable
from typing import Any

from etils import epath

from warmjax import records, runs
from warmjax.data import forms, json_rows

NUM_EXAMPLES = 5
"""How many ids a report keeps for each reason."""

_INVISIBLE = string.whitespace + '\u00a0\u200b\ufeff'


@dataclasses.dataclass(frozen=True, slots=True)
class RawConversation:
    """A repaired conversation, not yet typed or drawn. `turns` alternates, from a user turn to a reply."""

    id: str
    turns: tuple[records.Turn, ...]


@dataclasses.dataclass
class Tally:
    """How often something happened, and to which conversations first."""

    count: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append(example)


@dataclasses.dataclass
class DropReport:
    """What reading a file did to its rows: why rows were dropped, and how kept ones were repaired.

    `dropped` counts rows by reason, `repaired` counts kept rows by kind of repair; a row with two kinds counts in both.
    """

    rows: int = 0
    kept: int = 0
    dropped: dict[str, Tally] = dataclasses.field(default_factory=dict)
    repaired: dict[str, Tally] = dataclasses.field(default_factory=dict)

    def drop(self, reason: str, name: str) -> None:
        self.dropped.setdefault(reason, Tally()).add(name)

    def repair(self, kind: str, name: str) -> None:
        self.repaired.setdefault(kind, Tally()).add(name)

    def as_counts(self) -> dict[str, Any]:
        """Returns the report as plain JSON, for a manifest."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        reasons = [f'{reason}: {t.count} (e.g. {", ".join(t.examples)})' for reason, t in sorted(self.dropped.items())]
        return '\n  '.join([f'{self.kept} of {self.rows} conversations kept', *reasons])


def read(path: epath.PathLike) -> tuple[list[RawConversation], DropReport]:
    """Reads a file, repairs its conversations and reports what was dropped.

    Same-role turns in a row are joined with a blank line; empty turns, replies before the first user turn, a user turn
    after the last reply and system turns after the start are removed. A row without an id gets one from its text, so
    that ids do not depend on the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file as a whole is neither a JSON list nor JSONL (empty, invalid JSON, torn lines), or not one
            of its conversations can be used.
    """
    report = DropReport()
    conversations = []
    for row in json_rows.stream(path, 'conversations'):
        report.rows += 1
        name = forms.row_id(row) or f'row {report.rows}'
        try:
            conversation, repairs = _repair(row)
        except forms.Unusable as reason:
            report.drop(str(reason), name)
            continue
        conversations.append(conversation)
        for repair in sorted(repairs):
            report.repair(repair, name)
    conversations = _with_unique_ids(conversations, report)
    report.kept = len(conversations)
    if not conversations:
        raise ValueError(
            f'{path}: expected at least one conversation with a user message and a reply, got none; mend the file '
            f"(rows of ShareGPT's, OpenAI's or Alpaca's form):\n  {report}"
        )
    return conversations, report


def _repair(row: Any) -> tuple[RawConversation, set[str]]:
    said = [records.Turn(turn.role, _whole(turn.content).strip(_INVISIBLE)) for turn in forms.turns(row)]
    turns = [turn for turn in said if turn.content]
    repairs = {'empty turns removed'} if len(turns) < len(said) else set()
    if not turns:
        raise forms.Unusable('no turns')

    system, rest = (turns[:1], turns[1:]) if turns[0].role == 'system' else ([], turns)
    spoken = [turn for turn in rest if turn.role != 'system']
    if len(spoken) < len(rest):
        repairs.add('later system turns removed')
    started = list(itertools.dropwhile(lambda turn: turn.role == 'assistant', spoken))
    if len(started) < len(spoken):
        repairs.add('leading replies removed')
    merged = [
        records.Turn(role, '\n\n'.join(turn.content for turn in group))
        for role, group in itertools.groupby(started, key=lambda turn: turn.role)
    ]
    if len(merged) < len(started):
        repairs.add('turns of one role joined')
    if merged and merged[-1].role == 'user':
        merged.pop()
        repairs.add('last user turn removed')
    if not merged:
        raise forms.Unusable('no reply')

    repaired = (*system, *merged)
    name = forms.row_id(row)
    if not name:
        repairs.add('id derived from the text')
    return RawConversation(name or f'text-{_digest(repaired)}', repaired), repairs


def _whole(text: str) -> str:
    """Replaces half characters (lone surrogates), which JSON escapes can stand for and no UTF-8 file can hold."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
    return text


def _with_unique_ids(conversations: Iterable[RawConversation], report: DropReport) -> list[RawConversation]:
    """Drops exact repetitions; where one id stands for different texts, each gets a suffix made from its text.

    Every bearer of such an id is renamed, the first too, so that ids do not depend on the order of the file.
    """
    distinct = list(dict.fromkeys(conversations))
    seen = set()
    for conversation in conversations:
        if conversation in seen:
            report.drop('repeats another row', conversation.id)
        seen.add(conversation)
    bearers = collections.Counter(conversation.id for conversation in distinct)
    for i, conversation in enumerate(distinct):
        if bearers[conversation.id] > 1:
            distinct[i] = RawConversation(f'{conversation.id}-{_digest(conversation.turns)}', conversation.turns)
            report.repair('shared id made unique', conversation.id)
    return distinct


def _digest(turns: Iterable[records.Turn]) -> str:
    return runs.digest([[turn.role, turn.content] for turn in turns])[:12]

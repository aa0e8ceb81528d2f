"""Reads conversations in ShareGPT's form and repairs what can be repaired.

    [{"id": "QWJhYvA_0", "conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}, ...]

The file is one JSON list, or JSONL with one such object a line. What comes out alternates user and assistant turns,
begins with a user turn (after at most one system turn) and ends with a reply. A row that cannot be brought into that
form is dropped, and its reason is counted.
"""

import collections
import dataclasses
import itertools
import json
import string
from collections.abc import Iterable
from typing import Any

from etils import epath

from warmjax import records, runs

ROLES: dict[str, records.Role] = {
    'human': 'user',
    'user': 'user',
    'gpt': 'assistant',
    'assistant': 'assistant',
    'chatgpt': 'assistant',
    'bing': 'assistant',
    'bard': 'assistant',
    'system': 'system',
}
"""Who speaks, as the `from` field of ShareGPT dumps names it."""

NUM_EXAMPLES = 5
"""How many ids a report keeps for each reason."""

_INVISIBLE = string.whitespace + '\u00a0\u200b\ufeff'


@dataclasses.dataclass(frozen=True)
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


class _Unusable(Exception):
    """Says why one row is dropped."""


def read(path: epath.PathLike) -> tuple[list[RawConversation], DropReport]:
    """Reads a ShareGPT file, repairs its conversations and reports what was dropped.

    Same-role turns in a row are joined with a blank line; empty turns, replies before the first user turn, a user turn
    after the last reply and system turns after the start are removed. A row without an id gets one from its text, so
    that ids do not depend on the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file as a whole is no ShareGPT file (empty, invalid JSON, torn lines, not a list), or not one
            of its conversations can be used.
    """
    path = epath.Path(path)
    rows = _rows(path)
    report = DropReport(rows=len(rows))
    conversations = []
    for number, row in enumerate(rows, start=1):
        name = _name(row, number)
        try:
            conversation, repairs = _repair(row)
        except _Unusable as reason:
            report.drop(str(reason), name)
            continue
        conversations.append(conversation)
        for repair in sorted(repairs):
            report.repair(repair, name)
    conversations = _with_unique_ids(conversations, report)
    report.kept = len(conversations)
    if not conversations:
        raise ValueError(
            f'{path}: expected at least one conversation with a user message and a reply, got none; '
            f"mend the file ('conversations' of 'from' and 'value'):\n  {report}"
        )
    return conversations, report


def _rows(path: epath.Path) -> list[Any]:
    """Parses the file as one JSON list, or as JSONL where it does not begin with a bracket."""
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected a ShareGPT file, found none; check the path')
    try:
        text = path.read_bytes().decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: expected UTF-8 text, got bytes that are not ({error}); convert the file') from None
    if not text.strip():
        raise ValueError(f'{path}: expected ShareGPT conversations, got an empty file; fetch or copy it again')
    if not text.lstrip().startswith('['):
        return _json_lines(path, text)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{path}:{error.lineno}: expected one JSON list of conversations, got invalid JSON ({error.msg}); '
            'the file may be cut off: fetch or copy it again'
        ) from None


def _json_lines(path: epath.Path, text: str) -> list[Any]:
    rows, problems = [], []
    # Not splitlines(): it also breaks at characters, such as U+2028, that JSON strings may hold.
    for number, line in enumerate(text.split('\n'), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            problems.append(f'{path.name}:{number}: {error.msg} at character {error.colno}')
    if problems:
        rest = len(problems) - records.MAX_REPORTED
        raise ValueError(
            f'{path}: expected a JSON list of conversations or one JSON object a line, got {len(problems)} lines that '
            'are torn or no JSON; mend or delete them:\n'
            + '\n'.join(problems[: records.MAX_REPORTED])
            + (f'\n... and {rest} more' if rest > 0 else '')
        )
    return rows


def _name(row: Any, number: int) -> str:
    """Names a row for the report: its id, else its place in the file."""
    return str(row['id']) if isinstance(row, dict) and row.get('id') else f'row {number}'


def _repair(row: Any) -> tuple[RawConversation, set[str]]:
    if not isinstance(row, dict):
        raise _Unusable('not an object')
    raw = row.get('conversations')
    if not isinstance(raw, list) or not raw:
        raise _Unusable('no turns')
    parsed = [_turn(turn) for turn in raw]
    turns = [turn for turn in parsed if turn.content]
    repairs = {'empty turns removed'} if len(turns) < len(parsed) else set()
    if not turns:
        raise _Unusable('no turns')

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
        raise _Unusable('no reply')

    repaired = (*system, *merged)
    if not row.get('id'):
        repairs.add('id derived from the text')
    return RawConversation(str(row.get('id') or f'text-{_digest(repaired)}'), repaired), repairs


def _turn(turn: Any) -> records.Turn:
    if not isinstance(turn, dict):
        raise _Unusable('turn is not an object')
    role = turn.get('from')
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise _Unusable('unknown role')
    value = turn.get('value')
    if not isinstance(value, str):
        raise _Unusable('missing text')
    # A JSON escape may stand for half a character (a lone surrogate), which no UTF-8 file can hold.
    whole = value.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
    return records.Turn(ROLES[role.lower()], whole.strip(_INVISIBLE))


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

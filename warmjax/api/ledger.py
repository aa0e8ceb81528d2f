"""What was asked and what it cost: a line a call, without its text, without keys or headers."""

import dataclasses
import datetime
import json
from collections.abc import Sequence

from etils import epath

from warmjax import runs


@dataclasses.dataclass(frozen=True)
class Entry:
    """A call that was answered. `usd` is null where the price is not known; `seconds` runs from call to answer."""

    service: str
    model: str
    digest: str
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    attempts: int
    seconds: float


class Ledger:
    """A row log of entries, and their sum so far."""

    def __init__(self, path: epath.PathLike):
        entries = [json.loads(line) for line in runs.RowLog(path).lines]  # cuts off a torn last line
        self._path = epath.Path(path)
        self.usd = sum(entry['usd'] or 0.0 for entry in entries)

    def add(self, entries: Sequence[Entry]) -> None:
        """Writes entries down."""
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')
        lines = [json.dumps(vars(entry) | {'at': at}, sort_keys=True) + '\n' for entry in entries]
        with self._path.open('a') as file:  # no fsync: it would hold up the calls, and a killed process loses nothing
            file.write(''.join(lines))
        self.usd += sum(entry.usd or 0.0 for entry in entries)


def spent(path: epath.PathLike) -> dict[str, float | int]:
    """Sums a ledger up: calls, tokens and dollars; nothing where there is none."""
    path = epath.Path(path)
    entries = [json.loads(line) for line in runs.RowLog(path).lines] if path.exists() else []
    return {
        'calls': len(entries),
        'prompt_tokens': sum(entry['prompt_tokens'] for entry in entries),
        'completion_tokens': sum(entry['completion_tokens'] for entry in entries),
        'usd': round(sum(entry['usd'] or 0.0 for entry in entries), 6),
    }

"""Answers that were paid for, kept in one sqlite file, so that no call is made twice."""

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping

from etils import epath

from warmjax import runs
from warmjax.api.chat import Answer


class Cache:
    """Digest of a call → its answer. In write-ahead mode, so others may read meanwhile; for one thread at a time."""

    def __init__(self, path: epath.PathLike):
        """Opens or makes the file.

        Raises:
            ValueError: the path is in a bucket, where sqlite cannot work, or the file is no such cache.
        """
        if not runs.is_local(path):
            raise ValueError(f'{path}: expected a local path for the cache of answers, got a bucket; use a local one')
        path = epath.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(str(path), check_same_thread=False, timeout=60)
            self._database.execute('PRAGMA journal_mode=WAL')
            self._database.execute('PRAGMA synchronous=NORMAL')
            self._database.execute('CREATE TABLE IF NOT EXISTS answers (digest TEXT PRIMARY KEY, answer TEXT NOT NULL)')
        except sqlite3.DatabaseError as error:
            raise ValueError(f'{path}: expected a cache of answers, got {error}; delete the file') from None

    def look_up(self, digests: Iterable[str]) -> dict[str, Answer]:
        """Returns the answers that are there."""
        found = {}
        for digest in digests:
            row = self._database.execute('SELECT answer FROM answers WHERE digest = ?', (digest,)).fetchone()
            if row is not None:
                found[digest] = Answer.from_json(row[0])
        return found

    def keep(self, answers: Mapping[str, Answer]) -> None:
        """Keeps answers, all or none of them; what was kept first stays."""
        rows = [(digest, answer.to_json()) for digest, answer in answers.items()]
        with self._database:
            self._database.executemany('INSERT OR IGNORE INTO answers VALUES (?, ?)', rows)

    def close(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):
            self._database.close()

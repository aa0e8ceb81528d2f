"""Draws as files: a draw writes which conversations it took, and a list of ids can stand in for a draw.

draw.json     what this package writes: {"source_sha256": ..., "training": [{"id", "query_type"}], "validation": []}
JSON          a list of ids, or of objects with an id and perhaps a query type
CSV           a column of ids, and perhaps one of query types
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from warmjax import runs
from warmjax.data import query_types

ID_KEYS = ('id', 'conversation_id')
TYPE_KEYS = ('query_type', 'type', 'category')


@dataclasses.dataclass(frozen=True)
class IdList:
    """Which conversations a draw took.

    training: id → query type, '' where the list does not say.
    validation: ids of the held-out prompts; None where the list does not say.
    source_sha256: of the file that they were drawn from, '' where the list does not say.
    """

    training: dict[str, str]
    validation: tuple[str, ...] | None
    source_sha256: str


def read(path: epath.PathLike) -> IdList:
    """Reads a list of ids.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no list of ids, an id twice, or a query type that there is not.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f'{path}: expected a list of conversation ids, found no file; mend config.data.draw.ids'
        )
    text = path.read_text()
    whole = {}
    if text.lstrip()[:1] in ('[', '{'):
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise _wrong(path, f'invalid JSON (line {error.lineno}: {error.msg})') from None
        whole = content if isinstance(content, dict) else {'training': content}
    else:
        whole = {'training': list(csv.DictReader(io.StringIO(text)))}
    training = _ids(path, whole.get('training'))
    if not training:
        raise _wrong(path, 'an empty list')
    held = whole.get('validation')
    validation = None if held is None else tuple(_ids(path, held))
    if both := set(training) & set(validation or ()):
        raise _wrong(path, f'{len(both)} ids for training and validation, such as {min(both)!r}')
    return IdList(training, validation, whole.get('source_sha256', ''))


def write(
    path: epath.PathLike,
    source_sha256: str,
    settings: Mapping[str, Any],
    training: Iterable[tuple[str, str]],
    validation: Iterable[tuple[str, str]],
) -> None:
    """Writes a draw: what it was drawn from and with which settings, and its (id, query type)."""
    content = {
        'source_sha256': source_sha256,
        'settings': dict(settings),
        'training': [{'id': name, 'query_type': kind} for name, kind in training],
        'validation': [{'id': name, 'query_type': kind} for name, kind in validation],
    }
    runs.write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False) + '\n')


def _ids(path: epath.Path, rows: Any) -> dict[str, str]:
    if not isinstance(rows, list):
        raise _wrong(path, 'no list')
    found = {}
    for number, row in enumerate(rows, start=1):
        row = {'id': row} if isinstance(row, str) else row
        name = next((row[key] for key in ID_KEYS if row.get(key)), None) if isinstance(row, dict) else None
        if not isinstance(name, str):
            raise _wrong(path, f'none in row {number}')
        kind = next((row[key] for key in TYPE_KEYS if row.get(key)), '')
        if kind and kind not in query_types.TYPES:
            raise _wrong(path, f'the query type {kind!r} in row {number} (known: {", ".join(query_types.TYPES)})')
        if name in found:
            raise _wrong(path, f'the id {name!r} twice, again in row {number}')
        found[name] = kind
    return found


def _wrong(path: epath.Path, got: str) -> ValueError:
    return ValueError(
        f'{path}: expected a list of conversation ids (CSV with a column id, a JSON list, or a draw.json of this '
        f'package), got {got}; mend the file'
    )

"""Streams the rows of a JSON list or of JSONL: a file of any size is read in pieces, each row parsed once.

    [{...}, {...}, ...]        one list, however it is broken into lines
    {...}\\n{...}\\n            JSONL, one row a line

What is held is one piece and one row; progress counts the file's bytes.
"""

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

from warmjax import progress, records

PIECE = 2**22
"""Bytes read at once."""
LONGEST_ROW = 2**27
"""Characters after which a row that does not end is taken for a broken file."""
MIB = 2**20

_SPACE = ' \t\n\r'
_NEAR_END = 16
"""An error this close to the end of what was read may come from a row that goes on (`tru`, `\\\\u00`, `-Infini`)."""


def stream(path: epath.PathLike, what: str) -> Iterator[Any]:
    """Yields the rows of a file and shows how far it is.

    Args:
        path: one JSON list, or JSONL where it does not begin with a bracket; a byte order mark is skipped.
        what: what the rows are, for messages and the progress bar.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, no UTF-8 or cut off; or lines of JSONL are no JSON, all of them in one message,
            once the others were yielded.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected a file of {what}, found none; check the path')
    size = path.stat().length
    with progress.bar(f'reading {what} (MiB)', -(-size // MIB)) as advance:
        pieces = _skip_space(_pieces(path, advance))
        first = next(pieces, None)
        if first is None:
            raise ValueError(f'{path}: expected {what}, got an empty file; fetch or copy it again')
        text = _Text(first, pieces)
        yield from _list_rows(path, text, what) if first[0] == '[' else _line_rows(path, text, what)


def _pieces(path: epath.Path, advance: Callable[[int], None]) -> Iterator[str]:
    """Yields the text of a file piece by piece; `advance` gets whole MiB."""
    decoder, done, shown = codecs.getincrementaldecoder('utf-8-sig')(), 0, 0
    with path.open('rb') as file:
        while data := file.read(PIECE):
            yield _decoded(path, decoder, data, done)
            done += len(data)
            advance(-(-done // MIB) - shown)
            shown = -(-done // MIB)
    yield _decoded(path, decoder, b'', done)


def _decoded(path: epath.Path, decoder: codecs.IncrementalDecoder, data: bytes, done: int) -> str:
    try:
        return decoder.decode(data, final=not data)
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path}: expected UTF-8 text, got bytes that are not (near byte {done + error.start}: {error.reason}); '
            'convert the file'
        ) from None


def _skip_space(pieces: Iterator[str]) -> Iterator[str]:
    """Drops white space at the start of a text and empty pieces."""
    started = False
    for piece in pieces:
        piece = piece if started else piece.lstrip(_SPACE)
        started = started or bool(piece)
        if piece:
            yield piece


class _Text:
    """A text that is known up to some place: `buffer` from `at` on, `line` of the file at its start."""

    def __init__(self, first: str, rest: Iterator[str]):
        self.buffer, self.at, self.line = first, 0, 1
        self._rest = rest

    def grow(self) -> bool:
        """Forgets what lies before `at` and at least doubles what is known after it; False at the end of the text."""
        kept = self.buffer[self.at :]
        self.line += self.buffer.count('\n', 0, self.at)
        added, length = [], 0
        while length <= len(kept) and (piece := next(self._rest, None)):
            added.append(piece)
            length += len(piece)
        self.buffer, self.at = ''.join([kept, *added]), 0
        return bool(added)

    def peek(self) -> str:
        """Returns the next character that is no white space, '' at the end, and goes there."""
        while True:
            while self.at < len(self.buffer) and self.buffer[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.buffer) or not self.grow():
                return self.buffer[self.at : self.at + 1]


def _list_rows(path: epath.Path, text: _Text, what: str) -> Iterator[Any]:
    def invalid(problem: str, at: int) -> ValueError:
        line = text.line + text.buffer.count('\n', 0, at)
        return ValueError(
            f'{path}:{line}: expected one JSON list of {what}, got invalid JSON ({problem}); the file may be cut off: '
            'fetch or copy it again'
        )

    decoder = json.JSONDecoder()
    text.at = 1
    closed = text.peek() == ']'
    text.at += closed
    while not closed:
        try:
            row, end = decoder.raw_decode(text.buffer, text.at)
        except json.JSONDecodeError as error:
            is_torn = 'Unterminated' in error.msg or error.pos >= len(text.buffer) - _NEAR_END
            if is_torn and len(text.buffer) - text.at < LONGEST_ROW and text.grow():
                continue
            raise invalid(error.msg, error.pos) from None
        if end == len(text.buffer) and text.grow():
            continue  # what looks like a whole number may go on
        text.at = end
        if (mark := text.peek()) not in (',', ']'):
            raise invalid("Expecting ',' delimiter", text.at)
        yield row
        text.at += 1
        closed = mark == ']'
        if not closed and not text.peek():
            raise invalid('Expecting value', text.at)
    if text.peek():
        raise invalid('Extra data', text.at)


def _line_rows(path: epath.Path, text: _Text, what: str) -> Iterator[Any]:
    problems, torn = [], 0
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            torn += 1
            if torn <= records.MAX_REPORTED:
                problems.append(f'{path.name}:{number}: {error.msg} at character {error.colno}')
    if problems:
        rest = torn - len(problems)
        raise ValueError(
            f'{path}: expected a JSON list of {what} or one JSON object a line, got {torn} lines that are torn or no '
            'JSON; mend or delete them:\n' + '\n'.join(problems) + (f'\n... and {rest} more' if rest else '')
        )


def _lines(text: _Text) -> Iterator[str]:
    """Splits at newlines alone; `splitlines` would also split at characters, such as U+2028, that JSON may hold."""
    while True:
        *lines, last = text.buffer[text.at :].split('\n')
        yield from lines
        text.at = len(text.buffer) - len(last)
        if not text.grow():
            break
    yield last

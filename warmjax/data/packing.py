"""Packs several short sequences into one row, each kept apart by its segment id and its own positions.

sequences    a a a A, b b B, c c c c C     the last token of each is only predicted
tokens       a a a b b c c c c 0
segment_ids  1 1 1 2 2 3 3 3 3 0
positions    0 1 2 0 1 0 1 2 3 0
targets      a a A b B c c c C 0
"""

from collections.abc import Sequence

import numpy as np

from warmjax.data.chat import Encoded


def pack(sequences: Sequence[Encoded], length: int) -> list[dict[str, np.ndarray]]:
    """Packs sequences into rows of `length` tokens, each into the first row with room (first fit over open rows).

    Returns rows as `warmjax.data.batches` makes them. A sequence longer than a row is cut; one of fewer than two tokens
    has nothing to predict and is left out.
    """
    rows, open_rows = [], []
    for sequence in sequences:
        size = min(len(sequence.tokens) - 1, length)
        if size < 1:
            continue
        row = next((row for row in open_rows if row.room >= size), None)
        if row is None:
            row = _Row(length)
            rows.append(row)
            open_rows.append(row)
        row.add(sequence, size)
        if row.room < _CLOSED_BELOW:
            open_rows.remove(row)
    return [row.arrays for row in rows]


_CLOSED_BELOW = 8
"""Rows with less room than this are not looked at again."""


class _Row:
    def __init__(self, length: int):
        self.room = length
        self._segments = 0
        integers = ('tokens', 'targets', 'segment_ids', 'positions')
        self.arrays = {name: np.zeros(length, np.int32) for name in integers}
        self.arrays['weights'] = np.zeros(length, np.float32)

    def add(self, sequence: Encoded, size: int) -> None:
        start = len(self.arrays['tokens']) - self.room
        here = slice(start, start + size)
        self._segments += 1
        self.room -= size
        self.arrays['tokens'][here] = sequence.tokens[:-1][:size]
        self.arrays['targets'][here] = sequence.tokens[1:][:size]
        self.arrays['weights'][here] = sequence.trained[1:][:size]
        self.arrays['segment_ids'][here] = self._segments
        self.arrays['positions'][here] = np.arange(size)

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

Row = dict[str, np.ndarray]
"""A training row: arrays [T] as drawn above, and `weights`, 1 where the target is a trained token."""

_CLOSED_BELOW = 8
"""Rows with less room than this are not looked at again."""


def pack(sequences: Sequence[Encoded], length: int) -> list[Row]:
    """Packs sequences into rows of `length` tokens.

    A sequence longer than a row is cut; one of fewer than two tokens has nothing to predict and is left out.
    """
    usable = [sequence for sequence in sequences if len(sequence.tokens) > 1]
    rows = first_fit([size(sequence, length) for sequence in usable], length)
    return [make_row([usable[i] for i in row], length) for row in rows]


def size(sequence: Encoded, length: int) -> int:
    """Returns how many tokens of a row of `length` a sequence takes; its last token is only predicted."""
    return min(len(sequence.tokens) - 1, length)


def first_fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Puts pieces of these sizes into rows of `length`, each into the first row with room; returns their indices."""
    rows, room, open_rows = [], [], []
    for index, needed in enumerate(sizes):
        row = next((row for row in open_rows if room[row] >= needed), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(length)
            open_rows.append(row)
        rows[row].append(index)
        room[row] -= needed
        if room[row] < _CLOSED_BELOW:
            open_rows.remove(row)
    return rows


def make_row(sequences: Sequence[Encoded], length: int) -> Row:
    """Lays sequences side by side in a row of `length` tokens; without any, the row is all padding."""
    row = {name: np.zeros(length, np.int32) for name in ('tokens', 'targets', 'segment_ids', 'positions')}
    row['weights'] = np.zeros(length, np.float32)
    start = 0
    for segment, sequence in enumerate(sequences, start=1):
        taken = size(sequence, length)
        here = slice(start, start + taken)
        row['tokens'][here] = sequence.tokens[:-1][:taken]
        row['targets'][here] = sequence.tokens[1:][:taken]
        row['weights'][here] = sequence.trained[1:][:taken]
        row['segment_ids'][here] = segment
        row['positions'][here] = np.arange(taken)
        start += taken
    return row

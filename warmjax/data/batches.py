"""From pairs to training batches: rows of fixed length, in an order that depends on seed and epoch alone.

conversation <s> u u u a a a </s>
tokens       <s> u u u a a  a   0 0      one conversation a row, without its last token, padded
segment_ids   1  1 1 1 1 1  1   0 0      1 is the conversation, 0 padding
positions     0  1 2 3 4 5  6   7 8
targets       u  u u a a a </s> 0 0      the next token
weights       0  0 0 1 1 1  1   0 0      1 where the target is an assistant token, its end of turn included
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import grain
import numpy as np

from warmjax.data.chat import ChatTokenizer
from warmjax.records import Turn

Row = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Training rows, each a dict of arrays [T], and what became of the conversations: kept, truncated, dropped."""

    rows: tuple[Row, ...]
    counts: dict[str, int]


def encode(
    conversations: Sequence[Sequence[Turn]], chat: ChatTokenizer, length: int, truncation_side: Literal['right', 'left']
) -> Rows:
    """Turns conversations into rows of `length` tokens.

    Longer conversations are cut on the right, or on the left after their first token (many models lean on it). One
    whose trained tokens were all cut off, or that has none, is dropped and counted.

    Raises:
        ValueError: no conversation has a trained token.
    """
    rows, counts = [], {'conversations': len(conversations), 'truncated': 0, 'dropped_without_trained_token': 0}
    for turns in conversations:
        encoded = chat.encode_conversation(turns)
        kept = np.arange(len(encoded.tokens))
        if truncation_side == 'left' and len(kept) > length + 1:
            kept = np.append(kept[:1], kept[-length:])
        row = _row(encoded.tokens[kept], encoded.trained[kept], length)
        counts['truncated'] += len(encoded.tokens) > length + 1
        if row['weights'].any():
            rows.append(row)
        else:
            counts['dropped_without_trained_token'] += 1
    if not rows:
        raise ValueError(
            f'training data: expected conversations with assistant tokens within {length} tokens, got none in '
            f'{len(conversations)}; raise config.train.max_length, cut on the left '
            '(config.train.truncation_side), or check the pairs'
        )
    filled = sum(int((row['segment_ids'] > 0).sum()) for row in rows)
    trained = sum(int(row['weights'].sum()) for row in rows)
    counts |= {'rows': len(rows), 'tokens': filled, 'trained_tokens': trained}
    return Rows(tuple(rows), counts)


def dataset(rows: Sequence[Row], batch_size: int, micro_batch: int, seed: int, epochs: int) -> grain.MapDataset:
    """Returns the batches of all epochs; batch s is a function of (seed, s) alone.

    A batch is a dict of arrays [A, B, T]: A micro-batches of B rows, A * B = batch_size. Every epoch is shuffled anew;
    its last batch is filled up with empty rows, so that an epoch of 1,617 conversations in batches of 16 is 102 steps.
    """
    empty = {name: np.zeros_like(array) for name, array in rows[0].items()}

    def stack(batch: Sequence[Row]) -> Row:
        batch = [*batch, *[empty] * (batch_size - len(batch))]
        stacked = {name: np.stack([row[name] for row in batch]) for name in empty}
        return {name: x.reshape(-1, micro_batch, *x.shape[1:]) for name, x in stacked.items()}

    shuffled = grain.MapDataset.source(list(rows)).seed(seed).shuffle()
    return shuffled.batch(batch_size, drop_remainder=False, batch_fn=stack).repeat(epochs)


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """Returns how many batches an epoch has, the last one perhaps not full."""
    return -(-num_rows // batch_size)


def _row(tokens: np.ndarray, trained: np.ndarray, length: int) -> Row:
    inputs, targets, weights = tokens[:-1][:length], tokens[1:][:length], trained[1:][:length]
    pad = (0, length - len(inputs))
    return {
        'tokens': np.pad(inputs, pad).astype(np.int32),
        'targets': np.pad(targets, pad).astype(np.int32),
        'weights': np.pad(weights, pad).astype(np.float32),
        'segment_ids': np.pad(np.ones(len(inputs), np.int32), pad),
        'positions': np.arange(length, dtype=np.int32),
    }

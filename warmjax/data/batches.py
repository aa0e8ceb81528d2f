"""From conversations to training batches, in an order that depends on seed and epoch alone.

conversation <s> u u u a a a </s>
tokens       <s> u u u a a  a   0 0      a row without its last token, padded
segment_ids   1  1 1 1 1 1  1   0 0      1 is the conversation, 0 padding; packed rows hold several (`data.packing`)
positions     0  1 2 3 4 5  6   0 0
targets       u  u u a a a </s> 0 0      the next token
weights       0  0 0 1 1 1  1   0 0      1 where the target is an assistant token, its end of turn included

A batch is a fixed number of conversations, in rows, in micro-batches: arrays [A, B, T]. However few rows a step needs,
the shape is that of the step which needs most; rows that are not needed are empty and come last.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal

import grain
import numpy as np

from warmjax.data import packing
from warmjax.data.chat import ChatTokenizer, Encoded
from warmjax.data.packing import Row
from warmjax.records import Turn


@dataclasses.dataclass(frozen=True)
class Conversations:
    """Conversations that can be trained on.

    sequences: their tokens, cut so that a row holds them.
    indices: which of the given conversations each of them is.
    counts: what became of all: kept, truncated, dropped.
    """

    sequences: tuple[Encoded, ...]
    indices: tuple[int, ...]
    counts: dict[str, int]


def encode(
    conversations: Sequence[Sequence[Turn]], chat: ChatTokenizer, length: int, truncation_side: Literal['right', 'left']
) -> Conversations:
    """Turns conversations into sequences that fit into rows of `length` tokens.

    Longer conversations are cut on the right, or on the left after their first token (many models lean on it). One
    whose trained tokens were all cut off, or that has none, is dropped and counted.

    Raises:
        ValueError: no conversation has a trained token.
    """
    kept, truncated = {}, 0
    for index, turns in enumerate(conversations):
        whole = chat.encode_conversation(turns)
        sequence = _cut(whole, length + 1, truncation_side)
        truncated += len(sequence.tokens) < len(whole.tokens)
        if sequence.trained[1:].any():
            kept[index] = sequence
    if not kept:
        raise ValueError(
            f'training data: expected conversations with assistant tokens within {length} tokens, got none in '
            f'{len(conversations)}; raise config.train.max_length, cut on the left '
            '(config.train.truncation_side), or check the pairs'
        )
    counts = {
        'conversations': len(conversations),
        'truncated': truncated,
        'dropped_without_trained_token': len(conversations) - len(kept),
        'kept': len(kept),
        'tokens': sum(packing.size(sequence, length) for sequence in kept.values()),
        'trained_tokens': sum(int(sequence.trained[1:].sum()) for sequence in kept.values()),
    }
    return Conversations(tuple(kept.values()), tuple(kept), counts)


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a run; batch s is a function of (seed, s) alone.

    plan: batch s at index s: its rows, each the indices of what lies in it.
    build: such indices → the row.
    micro_batch: rows computed at once, B.
    """

    plan: grain.MapDataset
    build: Callable[[Sequence[int]], Row]
    micro_batch: int

    def __len__(self) -> int:
        return len(self.plan)

    def members(self, step: int) -> list[int]:
        """Returns the indices of all that lies in a batch."""
        return sorted(index for row in self.plan[step] for index in row)

    @functools.cached_property
    def num_micro(self) -> int:
        """The most micro-batches that any batch of the run needs, A."""
        return max(self._filled(step) for step in range(len(self)))

    @functools.cached_property
    def tokens_computed(self) -> int:
        """Tokens of all micro-batches that the run computes, padding included."""
        return sum(self._filled(step) for step in range(len(self))) * self.micro_batch * len(self.build([])['tokens'])

    def arrays(self, local: Sequence[int]) -> grain.MapDataset:
        """Returns the batches as arrays [A, B', T], of which each micro-batch has the rows `local` of its B alone."""
        return self.plan.map(functools.partial(self._stack, local))

    def _filled(self, step: int) -> int:
        return -(-len(self.plan[step]) // self.micro_batch)

    def _stack(self, local: Sequence[int], rows: Sequence[Sequence[int]]) -> Row:
        places = [micro * self.micro_batch + i for micro in range(self.num_micro) for i in local]
        mine = [self.build(rows[place] if place < len(rows) else []) for place in places]
        return {name: np.stack([row[name] for row in mine]).reshape(self.num_micro, len(local), -1) for name in mine[0]}


def of_conversations(
    sequences: Sequence[Encoded], length: int, batch_size: int, micro_batch: int, packed: bool, seed: int, epochs: int
) -> Batches:
    """Makes batches of `batch_size` conversations; `packed`, each batch's conversations share rows, longest first.

    Every epoch is shuffled anew and its last batch has what is left, so that an epoch of 1,617 conversations in batches
    of 16 is 102 steps, however many rows they take.
    """
    sizes = np.array([packing.size(sequence, length) for sequence in sequences])

    def rows_of(members: np.ndarray) -> list[list[int]]:
        if not packed:
            return [[int(i)] for i in members]
        members = members[np.argsort(-sizes[members], kind='stable')]
        return [[int(members[i]) for i in row] for row in packing.first_fit(sizes[members], length)]

    def build(members: Sequence[int]) -> Row:
        return packing.make_row([sequences[i] for i in members], length)

    return Batches(_once(_order(len(sequences), batch_size, seed, epochs).map(rows_of)), build, micro_batch)


def of_rows(rows: Sequence[Row], batch_size: int, micro_batch: int, seed: int, epochs: int) -> Batches:
    """Makes batches of `batch_size` rows as they are."""
    empty = {name: np.zeros_like(array) for name, array in rows[0].items()}
    plan = _order(len(rows), batch_size, seed, epochs).map(lambda members: [[int(i)] for i in members])
    return Batches(_once(plan), lambda members: rows[members[0]] if members else empty, micro_batch)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Returns how many batches an epoch has, the last one perhaps not full."""
    return -(-count // batch_size)


def _order(count: int, batch_size: int, seed: int, epochs: int) -> grain.MapDataset:
    """Returns the indices of each batch [up to batch_size]."""
    shuffled = grain.MapDataset.range(count).seed(seed).shuffle()
    return shuffled.batch(batch_size, drop_remainder=False).repeat(epochs)


def _once(plan: grain.MapDataset) -> grain.MapDataset:
    """Keeps each batch that was planned: grain shuffles 20 rows in milliseconds an index, since it draws from 2^16."""
    return grain.MapDataset.range(len(plan)).map(functools.cache(plan.__getitem__))


def _cut(sequence: Encoded, size: int, side: Literal['right', 'left']) -> Encoded:
    kept = np.arange(len(sequence.tokens))
    if len(kept) > size:
        kept = kept[:size] if side == 'right' else np.append(kept[:1], kept[1 - size :])
    return Encoded(sequence.tokens[kept], sequence.trained[kept])

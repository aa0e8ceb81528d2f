"""Log-likelihoods of given texts, several packed into a row, each apart by its segment id and its own positions.

sequences    a b c, d e          of which c and e count
tokens       a b c d e 0
segment_ids  1 1 1 2 2 0
sums         log p(c | a b), log p(e | d)
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from warmjax import sharding
from warmjax.data import packing
from warmjax.models.decoder import StackedAdapters
from warmjax.models.families import Model

CHUNK = 128
"""Tokens of each row whose logits are computed at once: a vocabulary of 128,000 is never held for all of them. On CPU,
tokens of all rows: what is read again soon stays in its cache."""

_WINDOW = 16
"""Batches' worth of sequences among which is looked for those that fill a row."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """A sequence of token ids [T] and which of them count [T]; the first never does, nothing precedes it."""

    tokens: np.ndarray
    counts: np.ndarray


def log_likelihoods(
    model: Model,
    sequences: Sequence[Scored],
    batch_size: int,
    multiple: int,
    mesh: Mesh,
    adapters: StackedAdapters | None = None,
) -> Iterator[tuple[int, float]]:
    """Yields (index, sum of log p over the tokens that count, in nats), in the order in which they get ready.

    Args:
        batch_size: rows computed at once.
        multiple: rows are as long as the longest sequence, rounded up to a multiple of this; one shape compiles.
        adapters: of the model, loaded for the decoder; None for the model itself.
    """
    if not sequences:
        return
    sizes = [len(sequence.tokens) for sequence in sequences]
    length = multiple * -(-max(sizes) // multiple)
    program, pool = next_token_program(mesh), []
    for begin in range(0, len(sequences), _WINDOW * batch_size):
        end = min(begin + _WINDOW * batch_size, len(sequences))
        pool = sorted([*pool, *range(begin, end)], key=lambda i: -sizes[i])  # short ones fill what long ones leave
        rows = [[pool[i] for i in row] for row in packing.first_fit([sizes[i] for i in pool], length)]
        ready = len(rows) if end == len(sequences) else len(rows) // batch_size * batch_size
        pool = [i for row in rows[ready:] for i in row]
        for at in range(0, ready, batch_size):
            batch = rows[at : at + batch_size]
            with jax.set_mesh(mesh):
                laid = sharding.put_batch(lay_out([[sequences[i] for i in r] for r in batch], batch_size, length), mesh)
                values = np.asarray(program(model, **laid, adapters=adapters or {}), np.float64)
            for row, members in zip(values, batch):
                start = 0
                for i in members:
                    yield i, float(row[start : start + sizes[i] - 1] @ sequences[i].counts[1:])
                    start += sizes[i]


def lay_out(rows: Sequence[Sequence[Scored]], batch_size: int, length: int) -> dict[str, np.ndarray]:
    """Puts the sequences of each row side by side: tokens, segment ids and positions [batch_size, length]."""
    batch = {name: np.zeros((batch_size, length), np.int32) for name in ('tokens', 'segment_ids', 'positions')}
    for row, members in enumerate(rows):
        start = 0
        for segment, sequence in enumerate(members, start=1):
            here = row, slice(start, start + len(sequence.tokens))
            batch['tokens'][here] = sequence.tokens
            batch['segment_ids'][here] = segment
            batch['positions'][here] = np.arange(len(sequence.tokens))
            start += len(sequence.tokens)
    return batch


@functools.lru_cache
def next_token_program(mesh: Mesh) -> Callable[..., Float[Array, 'B T']]:
    """Makes `next_token_scores` for a mesh; every process gets all of its result."""
    return jax.jit(next_token_scores, out_shardings=NamedSharding(mesh, PartitionSpec()))


def next_token_scores(
    model: Model,
    tokens: Int[Array, 'B T'],
    segment_ids: Int[Array, 'B T'],
    positions: Int[Array, 'B T'],
    adapters: StackedAdapters | None = None,
) -> Float[Array, 'B T']:
    """Returns log p of the token that follows each place, in nats, as if its segment were all there is."""
    B, T = tokens.shape
    x, _ = model(tokens, positions, segment_ids, adapters or {}, None, 'none')
    size = min(T, max(1, CHUNK // B) if sharding.platform() == 'cpu' else CHUNK)
    room = -T % size
    x = jnp.pad(x, [(0, 0), (0, room), (0, 0)])
    targets = jnp.pad(tokens[:, 1:], [(0, 0), (0, room + 1)])

    def chunk(start: Array) -> Float[Array, 'B C']:
        part, ids = (jax.lax.dynamic_slice_in_dim(y, start, size, 1) for y in (x, targets))
        logits = model.logits(part)
        chosen = jnp.take_along_axis(logits, ids[..., None], axis=-1)[..., 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1)

    chunks = jax.lax.map(chunk, jnp.arange(0, T + room, size))
    return chunks.swapaxes(0, 1).reshape(len(tokens), -1)[:, :T]


def choice_log_likelihoods(
    model: Model,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    batch_size: int,
    multiple: int,
    mesh: Mesh,
    adapters: StackedAdapters | None = None,
) -> list[np.ndarray]:
    """Returns, for each prompt, log p of each of its choices as what follows it, in nats (letters, labels of a judge).

    Args:
        prompts: token ids.
        choices: the token ids of each prompt's choices.
        batch_size, multiple, adapters: as in `log_likelihoods`.

    Raises:
        ValueError: prompts or choices without a token, all named.
    """
    empty = [f'prompt {i}' for i, prompt in enumerate(prompts) if not len(prompt)]
    empty += [f'choice {j} of prompt {i}' for i, mine in enumerate(choices) for j, c in enumerate(mine) if not len(c)]
    if empty:
        raise ValueError(f'choices: expected prompts and choices of 1 or more tokens, got none in {", ".join(empty)}')
    rows = [
        Scored(np.array([*prompt, *choice], np.int32), np.arange(len(prompt) + len(choice)) >= len(prompt))
        for prompt, mine in zip(prompts, choices, strict=True)
        for choice in mine
    ]
    found = dict(log_likelihoods(model, rows, batch_size, multiple, mesh, adapters))
    ends = np.cumsum([len(mine) for mine in choices])
    return np.split(np.array([found[i] for i in range(len(rows))]), ends[:-1])

"""Log-likelihoods of given texts, batched by length."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.models.decoder import Decoder

CHUNK = 128
"""Tokens of each sequence whose logits are computed at once: a vocabulary of 128,000 is never held for all of them."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """A sequence of token ids [T] and which of them count [T]; the first never does, nothing precedes it."""

    tokens: np.ndarray
    counts: np.ndarray


def log_likelihoods(
    model: Decoder, sequences: Sequence[Scored], batch_size: int, multiple: int, mesh: Mesh
) -> Iterator[tuple[int, float]]:
    """Yields (index, sum of log p over the tokens that count, in nats), shortest sequences first.

    Args:
        batch_size: sequences computed at once.
        multiple: lengths are padded up to a multiple of this, so that few shapes compile.
    """
    padded = [-(-len(s.tokens) // multiple) * multiple for s in sequences]
    order = sorted(range(len(sequences)), key=lambda i: (padded[i], i))
    start = 0
    while start < len(order):
        length = padded[order[start]]
        chosen = [i for i in order[start : start + batch_size] if padded[i] == length]
        start += len(chosen)
        tokens = np.zeros((batch_size, length), np.int32)
        counts = np.zeros((batch_size, length), np.float32)
        lengths = np.zeros(batch_size, np.int32)
        for row, i in enumerate(chosen):
            lengths[row] = len(sequences[i].tokens)
            tokens[row, : lengths[row]] = sequences[i].tokens
            counts[row, : lengths[row]] = sequences[i].counts
        with jax.set_mesh(mesh):
            batch = sharding.put_batch({'tokens': tokens, 'counts': counts, 'lengths': lengths}, mesh)
            sums = jax.device_get(_sums(model, **batch))
        yield from ((i, float(sums[row])) for row, i in enumerate(chosen))


def choice_log_likelihoods(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    batch_size: int,
    multiple: int,
    mesh: Mesh,
) -> list[np.ndarray]:
    """Returns, for each prompt, log p of each of its choices as what follows it, in nats (letters, labels of a judge).

    Args:
        prompts: token ids.
        choices: the token ids of each prompt's choices.
        batch_size, multiple: as in `log_likelihoods`.

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
    found = dict(log_likelihoods(model, rows, batch_size, multiple, mesh))
    ends = np.cumsum([len(mine) for mine in choices])
    return np.split(np.array([found[i] for i in range(len(rows))]), ends[:-1])


@functools.partial(jax.jit)
def _sums(model: Decoder, tokens: jax.Array, counts: jax.Array, lengths: jax.Array) -> jax.Array:
    T = tokens.shape[1]
    positions = jnp.broadcast_to(jnp.arange(T), tokens.shape)
    x, _ = model(tokens, positions, (positions < lengths[:, None]).astype(jnp.int32), {}, None, 'none')
    # Place t predicts token t + 1; what is padded counts nothing.
    room = -T % CHUNK if T > CHUNK else 0
    x = jnp.pad(x, [(0, 0), (0, room), (0, 0)])
    targets, weights = (jnp.pad(y[:, 1:], [(0, 0), (0, room + 1)]) for y in (tokens, counts))

    def chunk_sum(start: jax.Array) -> jax.Array:
        size = min(T, CHUNK)
        part, ids, counted = (jax.lax.dynamic_slice_in_dim(y, start, size, 1) for y in (x, targets, weights))
        logits = model.logits(part)
        chosen = jnp.take_along_axis(logits, ids[..., None], axis=-1)[..., 0]
        return jnp.sum((chosen - jax.nn.logsumexp(logits, axis=-1)) * counted, axis=-1)

    return jax.lax.map(chunk_sum, jnp.arange(0, T + room, min(T, CHUNK))).sum(axis=0)

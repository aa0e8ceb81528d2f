"""SocioT as the study computed it, quirks included: GPT-2 in training mode, the opening's words scored too.

    l(x | opening set) = mean over passes of - the mean loss over all next-token places of the set's four rows
    S(x)               = l(x | warm) - l(x | cold);  sem = sqrt(sem_warm^2 + sem_cold^2) over the passes

Its quirks, kept: the text is cut after `max_chars` characters, in the midst of a word; dropout is active, and passes
are called a bootstrap though nothing is resampled; the words "friend said," count, so that S is a constant of the
openings plus the text's log-ratio, divided by the number of tokens, and very short texts get large values whatever
they say; what looks like a log-sum-exp over the set acts on a scalar and does nothing, so it is a mean.

Source: the released code of the measure (Cheng et al., HumT and DumT), as the study used it. It would score padding,
which cannot matter for GPT-2 and warmth, whose eight openings are equally long; here padding is never scored.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from warmjax import seeds, sharding
from warmjax.decode.score import CHUNK, Scored, lay_out
from warmjax.models.gpt2 import GPT2
from warmjax.warmth.sociot import (
    COLD_OPENINGS,
    CONTRASTS,
    WARM_OPENINGS,
    ContrastName,
    Score,
    WarmthSettings,
    openings_of,
)


def measure(
    texts: Sequence[str],
    model: GPT2,
    tokenizer: tokenizers.Tokenizer,
    bos: str,
    settings: WarmthSettings,
    mesh: Mesh,
) -> Iterator[tuple[int, Score]]:
    """Yields (index, score) of every text that is not empty, in order. A text's dropout is its own, whatever the batch.

    Args:
        bos: not used; the measure begins with the opening's first word.

    Raises:
        ValueError: the model is no GPT-2.
    """
    if not isinstance(model, GPT2):
        raise ValueError(
            f'config.warmth.checkpoint: expected a GPT-2 for the published mode, got {type(model).__name__}; '
            'name a GPT-2, or set config.warmth.mode to deterministic'
        )
    shown = {i: text[: settings.max_chars] for i, text in enumerate(texts) if text[: settings.max_chars]}
    openings = openings_of(settings.contrasts)
    framed = {i: [_row(opening, text, tokenizer) for opening in openings] for i, text in shown.items()}
    at_once = max(settings.batch_size // len(openings), 1)
    longest = max((len(row.tokens) for rows in framed.values() for row in rows), default=0)
    length = settings.length_multiple * -(-longest // settings.length_multiple)
    program = _program(mesh, settings.dropout, settings.passes)
    indices = list(framed)
    for begin in range(0, len(indices), at_once):
        batch = indices[begin : begin + at_once]
        rows = [row for i in batch for row in framed[i]]
        keys = [seeds.stable_hash(settings.seed, shown[i], o) % 2**32 for i in batch for o in openings]
        full = at_once * len(openings)
        laid = lay_out([[row] for row in rows], full, length)
        laid['row_seeds'] = np.array(keys + [0] * (full - len(rows)), np.uint32)
        with jax.set_mesh(mesh):
            values = np.asarray(program(model, **sharding.put_batch(laid, mesh)), np.float64)
        for place, i in enumerate(batch):
            here = slice(place * len(openings), (place + 1) * len(openings))
            scored = {
                opening: (sums, len(row.tokens) - 1)
                for opening, sums, row in zip(openings, values[:, here].T, framed[i], strict=True)
            }
            yield i, _score(scored, settings.contrasts)


def _row(opening: str, text: str, tokenizer: tokenizers.Tokenizer) -> Scored:
    ids = np.array(tokenizer.encode(opening.format(text), add_special_tokens=False).ids, np.int32)
    return Scored(ids, np.arange(len(ids)) > 0)


def _score(scored: Mapping[str, tuple[np.ndarray, int]], contrasts: Sequence[ContrastName]) -> Score:
    """Returns the score of one text.

    Args:
        scored: opening → sums of log p over its scored places [passes], and how many places those are.
    """

    def passes(side: Sequence[str]) -> np.ndarray:
        return sum(scored[o][0] for o in side) / sum(scored[o][1] for o in side)

    warm, cold = passes(WARM_OPENINGS), passes(COLD_OPENINGS)
    sem = [float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0 for values in (warm, cold)]
    means = float(warm.mean()), float(cold.mean())
    others = {name: float((passes(CONTRASTS[name][0]) - passes(CONTRASTS[name][1])).mean()) for name in contrasts}
    return Score(means[0] - means[1], *means, scored[WARM_OPENINGS[0]][1], float(np.hypot(*sem)), others)


@functools.lru_cache
def _program(mesh: Mesh, rate: float, passes: int) -> Callable[..., jax.Array]:
    """Makes the jitted sums of log p [passes, B] over the places that have a next token of the same text."""

    def sums(model: GPT2, tokens, segment_ids, positions, row_seeds) -> jax.Array:
        keys = jax.vmap(jax.random.key)(row_seeds)

        def one_pass(number: jax.Array) -> jax.Array:
            mine = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            x = model.train_mode(tokens, positions, segment_ids, mine, rate)
            return _sums(model, x, tokens, segment_ids)

        return jax.lax.map(one_pass, jnp.arange(passes))

    return jax.jit(sums, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _sums(model: GPT2, x, tokens, segment_ids) -> jax.Array:
    """Returns each row's sum of log p, a chunk of places at a time."""
    T = tokens.shape[1]
    size = min(T, CHUNK)
    room = -T % size
    x = jnp.pad(x, [(0, 0), (0, room), (0, 0)])
    targets, counts = (jnp.pad(y[:, 1:], [(0, 0), (0, room + 1)]) for y in (tokens, segment_ids))

    def chunk(start: jax.Array) -> jax.Array:
        part, ids, here = (jax.lax.dynamic_slice_in_dim(y, start, size, 1) for y in (x, targets, counts))
        logits = model.logits(part)
        chosen = jnp.take_along_axis(logits, ids[..., None], axis=-1)[..., 0]
        return jnp.where(here > 0, chosen - jax.nn.logsumexp(logits, axis=-1), 0).sum(-1)

    return jax.lax.map(chunk, jnp.arange(0, T + room, size)).sum(0)

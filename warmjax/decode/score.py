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


@functools.partial(jax.jit)
def _sums(model: Decoder, tokens: jax.Array, counts: jax.Array, lengths: jax.Array) -> jax.Array:
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    x, _ = model(tokens, positions, (positions < lengths[:, None]).astype(jnp.int32), {}, None, 'none')
    logits = model.logits(x[:, :-1])
    chosen = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
    return jnp.sum((chosen - jax.nn.logsumexp(logits, axis=-1)) * counts[:, 1:], axis=-1)

"""The training objective: next-token cross-entropy over the trained tokens, never holding all logits at once."""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from warmjax.models.decoder import Decoder, Remat, StackedAdapters
from warmjax.models.layers import Dropout


def loss_sum(
    model: Decoder,
    adapters: StackedAdapters,
    batch: dict[str, Array],
    dropout: Dropout | None,
    remat: Remat,
    logit_chunks: int,
) -> Float[Array, '']:
    """Returns the sum over trained tokens of -log p(target), in nats.

    A sum, not a mean: the caller divides by the count of the whole batch, so that micro-batches with few trained
    tokens do not weigh more than their share.

    Args:
        batch: arrays [B, T] as in `warmjax.data.batches`.
        logit_chunks: into how many parts the tokens of a row are cut for the output head; divides T.
    """
    x, _ = model(batch['tokens'], batch['positions'], batch['segment_ids'], adapters, dropout, remat)

    head = model.head()

    def chunk_loss(total, chunk):
        x, targets, weights = chunk
        logits = model.logits(x, head)
        chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return total + jnp.sum((jax.nn.logsumexp(logits, axis=-1) - chosen) * weights), None

    parts = [rearrange(a, 'B (C T) ... -> C B T ...', C=logit_chunks) for a in (x, batch['targets'], batch['weights'])]
    # The backward pass computes a chunk's logits again; a single chunk would only do its work twice.
    chunk_loss = jax.checkpoint(chunk_loss) if logit_chunks > 1 else chunk_loss
    total, _ = jax.lax.scan(chunk_loss, jnp.float32(0), tuple(parts))
    return total

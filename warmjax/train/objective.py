"""The training objective: next-token cross-entropy over the trained tokens, never holding all logits at once."""

from einops import rearrange
from jaxtyping import Array, Float

from warmjax.models.decoder import Decoder, Remat, StackedAdapters
from warmjax.models.layers import Dropout
from warmjax.train.cross_entropy import cross_entropy_sum


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

    parts = (rearrange(a, 'B (C T) ... -> C B T ...', C=logit_chunks) for a in (x, batch['targets'], batch['weights']))
    hidden, targets, weights = parts
    return cross_entropy_sum(hidden, model.head(), targets, weights)

"""The loss of held-out conversations, which are never trained."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from warmjax import seeds, sharding
from warmjax.compilation import Once
from warmjax.data.batches import Batches
from warmjax.records import Pair
from warmjax.train.objective import loss_sum
from warmjax.train.step import Bind


def hold_out(pairs: Sequence[Pair], number: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Splits pairs into trained and held-out ones; which are held out depends on seed and ids, so all arms agree.

    Raises:
        ValueError: nothing would be left to train on.
    """
    if number >= len(pairs):
        raise ValueError(
            f'train.validation: expected fewer held-out conversations than the {len(pairs)} there are, got {number}; '
            'lower it or draw more (config.data.draw.num_conversations)'
        )
    held = set(sorted((pair.id for pair in pairs), key=lambda key: seeds.stable_hash('validation', seed, key))[:number])
    return [pair for pair in pairs if pair.id not in held], [pair for pair in pairs if pair.id in held]


def make_loss(
    bind: Bind, frozen: Any, data: Batches, logit_chunks: int, mesh: Mesh, title: str
) -> Callable[[Any], float]:
    """Returns trainable → mean loss in nats a trained token over all of `data`, without dropout."""

    def sums(trainable, frozen, micro):
        loss = loss_sum(*bind(trainable, frozen), micro, None, 'none', logit_chunks)
        return jnp.stack([loss, micro['weights'].sum()])

    program = Once(jax.jit(sums), title)
    arrays = data.arrays(sharding.local_rows(mesh, data.micro_batch))

    def loss(trainable: Any) -> float:
        total = jnp.zeros(2)
        for batch in arrays:
            for index in range(data.num_micro):
                micro = {name: x[index] for name, x in batch.items()}
                total += program(trainable, frozen, sharding.put_batch(micro, mesh, size=data.micro_batch))
        return float(total[0] / total[1])

    return loss

"""One optimizer step: gradients of micro-batches summed, divided by the batch's trained tokens, applied once."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from warmjax.models.decoder import Decoder, Remat, StackedAdapters
from warmjax.models.layers import Dropout
from warmjax.train.objective import loss_sum


class TrainState(NamedTuple):
    """All that a step changes, and the key from which every step's randomness follows by its number."""

    trainable: Any
    opt_state: optax.OptState
    step: jax.Array
    key: jax.Array


Bind = Callable[[Any, Any], tuple[Decoder, StackedAdapters]]
"""(trainable, frozen) → the model and its adapters. LoRA trains adapters of a frozen model; pretraining trains all."""


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """dropout: share of the adapters' inputs dropped.
    remat: what of a layer is kept for the backward pass (`warmjax.models.decoder.REMAT`).
    logit_chunks: parts into which a row is cut for the output head.
    """

    dropout: float
    remat: Remat
    logit_chunks: int


def init_state(trainable: Any, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh) -> TrainState:
    """Makes the state before the first step; the optimizer's moments lie where their parameters lie."""
    whole = NamedSharding(mesh, PartitionSpec())
    shapes = jax.eval_shape(optimizer.init, trainable)
    like = jax.tree.map(lambda x: x.sharding, trainable)
    placed = optax.tree.map_params(optimizer, lambda _, s: s, shapes, like, transform_non_params=lambda _: whole)
    opt_state = jax.jit(optimizer.init, out_shardings=placed)(trainable)
    return TrainState(trainable, opt_state, *jax.device_put((jnp.int32(0), jax.random.key(seed)), whole))


def make_step(bind: Bind, optimizer: optax.GradientTransformation, settings: StepSettings, state: TrainState):
    """Returns a jitted (state, frozen, batch) → (state, metrics). The old state's buffers are reused.

    The new state lies as `state` does, so that the second step finds the program of the first.

    `batch` holds arrays [A, B, T]: A micro-batches. Metrics: `loss`, nats per trained token; `grad_norm`;
    `trained_tokens`; `tokens`, padding left out.
    """

    def micro_loss(trainable, frozen, micro, total, key):
        model, adapters = bind(trainable, frozen)
        dropout = Dropout(key, settings.dropout) if settings.dropout else None
        return loss_sum(model, adapters, micro, dropout, settings.remat, settings.logit_chunks) / total

    def step(state: TrainState, frozen, batch):
        total = jnp.maximum(batch['weights'].sum(), 1.0)
        keys = jax.random.split(jax.random.fold_in(state.key, state.step), batch['weights'].shape[0])

        def accumulate(carry, micro):
            batch, key = micro
            loss, grads = jax.value_and_grad(micro_loss)(state.trainable, frozen, batch, total, key)
            return jax.tree.map(jnp.add, carry, (loss, grads)), None

        zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, state.trainable))
        (loss, grads), _ = jax.lax.scan(accumulate, zero, (batch, keys))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
        metrics = {
            'loss': loss,
            'grad_norm': optax.global_norm(grads),
            'trained_tokens': batch['weights'].sum(),
            'tokens': (batch['segment_ids'] > 0).sum(),
        }
        trainable = optax.apply_updates(state.trainable, updates)
        return TrainState(trainable, opt_state, state.step + 1, state.key), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(jax.tree.map(lambda x: x.sharding, state), None))

"""One optimizer step: gradients of micro-batches summed, divided by the batch's trained tokens, applied once."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from warmjax import sharding
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


def abstract_state(trainable: Any, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Returns a state of shapes and layouts in place of arrays; the optimizer's moments lie where their parameters lie.

    `trainable` may be arrays, or shapes and layouts itself.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    shapes = jax.eval_shape(optimizer.init, trainable)
    like = jax.tree.map(lambda x: x.sharding, trainable)
    placed = optax.tree.map_params(optimizer, lambda _, s: s, shapes, like, transform_non_params=lambda _: whole)
    start = jax.eval_shape(lambda: (jnp.int32(0), jax.random.key(0)))
    return TrainState(
        sharding.abstract_arrays(trainable, like),
        sharding.abstract_arrays(shapes, placed),
        *sharding.abstract_arrays(start, (whole, whole)),
    )


def init_state(trainable: Any, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh) -> TrainState:
    """Makes the state before the first step."""
    layout = jax.tree.map(lambda x: x.sharding, abstract_state(trainable, optimizer, mesh))
    opt_state = jax.jit(optimizer.init, out_shardings=layout.opt_state)(trainable)
    # Made where they lie: in a run of several processes, none can put an array on the devices of another.
    start = jax.jit(lambda: (jnp.int32(0), jax.random.key(seed)), out_shardings=(layout.step, layout.key))()
    return TrainState(trainable, opt_state, *start)


def make_step(bind: Bind, optimizer: optax.GradientTransformation, settings: StepSettings, state: TrainState):
    """Returns a jitted (state, frozen, batch) → (state, metrics). The old state's buffers are reused.

    The new state lies as `state` does, so that the second step finds the program of the first.

    `batch` holds arrays [A, B, T]: A micro-batches, of which empty ones come last and are not computed. Metrics:
    `loss`, nats per trained token; `grad_norm`; `trained_tokens`; `tokens`, padding left out; `tokens_computed`,
    padding in micro-batches that are not empty included; `token_pairs`, the sum of squared segment lengths.
    """

    def micro_loss(trainable, frozen, micro, total, key):
        model, adapters = bind(trainable, frozen)
        dropout = Dropout(key, settings.dropout) if settings.dropout else None
        return loss_sum(model, adapters, micro, dropout, settings.remat, settings.logit_chunks) / total

    def step(state: TrainState, frozen, batch):
        counts = _counts(batch)
        total = jnp.maximum(counts['trained_tokens'], 1.0)
        key = jax.random.fold_in(state.key, state.step)

        def micro_step(index, micro):
            mine = jax.random.fold_in(key, index)
            return jax.value_and_grad(micro_loss)(state.trainable, frozen, micro, total, mine)

        loss, grads = _sum_over_micro_batches(micro_step, batch, state.trainable)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
        metrics = {'loss': loss, 'grad_norm': optax.global_norm(grads)} | counts
        trainable = optax.apply_updates(state.trainable, updates)
        return TrainState(trainable, opt_state, state.step + 1, state.key), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(jax.tree.map(lambda x: x.sharding, state), None))


def _sum_over_micro_batches(micro_step: Callable, batch: dict[str, jax.Array], like: Any) -> tuple[jax.Array, Any]:
    """Adds up losses and gradients of the micro-batches that hold anything.

    Args:
        micro_step: (index, arrays [B, T]) → loss and gradients.
        like: gradients have its shapes.
    """
    if batch['weights'].shape[0] == 1:
        return micro_step(0, {name: x[0] for name, x in batch.items()})

    def add(index, sums):
        micro = {name: jax.lax.dynamic_index_in_dim(x, index, keepdims=False) for name, x in batch.items()}
        return jax.tree.map(jnp.add, sums, micro_step(index, micro))

    zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, like))
    return jax.lax.fori_loop(0, _num_filled(batch), add, zero)


def _num_filled(batch: dict[str, jax.Array]) -> Int[Array, '']:
    return (batch['segment_ids'] > 0).any(axis=(1, 2)).sum()


def _counts(batch: dict[str, jax.Array]) -> dict[str, Float[Array, '']]:
    """Counts what a batch holds; floats, because pairs of tokens are too many for 32-bit integers."""
    inside = (batch['segment_ids'] > 0).astype(jnp.float32)
    return {
        'trained_tokens': batch['weights'].sum(),
        'tokens': inside.sum(),
        'tokens_computed': (_num_filled(batch) * batch['weights'][0].size).astype(jnp.float32),
        # The squares up to n are the sums of the first n odd numbers.
        'token_pairs': (inside * (2 * batch['positions'] + 1)).sum(),
    }

"""What runs on the device: prefill, putting prefilled prompts into slots, and k decoding steps.

Every function here is compiled once for each combination of shapes: prefill for each length bucket, insertion for each
bucket and cache length, decoding for each cache length (and for each of the few `Needs` that come up).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from warmjax import sharding
from warmjax.decode import sampling
from warmjax.decode.resident import Resident
from warmjax.decode.sampling import Needs, Rows
from warmjax.models import cache as kv
from warmjax.models import prefix
from warmjax.models.cache import Cache
from warmjax.models.families import Model

GOES_ON, STOP, LENGTH, ERROR = range(4)
"""What `Emitted.ended` says of a row."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
    """The texts under way, or prompts that were prefilled and wait for a slot, one a row.

    cache: of all their tokens but the last.
    tokens: the last one of each.
    counts, budgets: how many tokens each has generated, and may.
    rows: how its tokens are chosen.
    adapters: index of its adapter, -1 for the base model.
    active: whether it goes on; other rows are computed and thrown away.
    """

    cache: Cache
    tokens: Int[Array, 'B']
    counts: Int[Array, 'B']
    budgets: Int[Array, 'B']
    rows: Rows
    adapters: Int[Array, 'B']
    active: Bool[Array, 'B']


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompts:
    """Prompts to prefill, padded on the right to a bucket's length T; rows without one have `is_real` false."""

    tokens: Int[Array, 'P T']
    lengths: Int[Array, 'P']
    budgets: Int[Array, 'P']
    rows: Rows
    adapters: Int[Array, 'P']
    is_real: Bool[Array, 'P']


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Emitted:
    """What k steps brought, for the host: row b has `counts[b]` new tokens, the first ones of `tokens[b]`.

    logprobs: of these tokens, in nats; `likeliest` ids and their log-probabilities beside them. Empty (k x 0) unless
        asked for.
    ended: code of why a row ended in these steps, GOES_ON if it did not.
    steps: how many steps were computed.
    """

    tokens: Int[Array, 'B k']
    counts: Int[Array, 'B']
    logprobs: Float[Array, 'B k n']
    likeliest: Int[Array, 'B k n']
    ended: Int[Array, 'B']
    steps: Int[Array, '']


class Programs(NamedTuple):
    """The compiled functions of this file for one mesh; they take slots as they return them, so nothing recompiles."""

    empty: Callable[..., Slots]
    prefill: Callable[..., tuple[Slots, Emitted]]
    extend: Callable[..., tuple[Slots, Emitted]]
    insert: Callable[..., Slots]
    grow: Callable[..., Slots]
    decode: Callable[..., tuple[Slots, Emitted]]


@functools.lru_cache
def programs(mesh: Mesh, num_kv_heads: int, unroll: bool) -> Programs:
    """Makes the programs for a mesh."""
    slots, whole = slot_layout(mesh, num_kv_heads, unroll), NamedSharding(mesh, PartitionSpec())
    static = ('needs', 'num_likeliest')
    return Programs(
        jax.jit(empty, static_argnums=(0, 1, 2, 3, 4), out_shardings=slots),
        jax.jit(prefill, static_argnames=(*static, 'dtype', 'unroll'), out_shardings=(slots, whole)),
        jax.jit(extend, static_argnames=static, out_shardings=(slots, whole)),
        jax.jit(insert, donate_argnames='slots', out_shardings=slots),
        jax.jit(grow, static_argnames='num_slots', out_shardings=slots),
        jax.jit(decode, static_argnames=(*static, 'steps'), donate_argnames='slots', out_shardings=(slots, whole)),
    )


def slot_layout(mesh: Mesh, num_kv_heads: int, unroll: bool) -> Slots:
    """Says how slots lie: rows are cut over a mesh as batches are, key-value heads where it cuts them evenly."""
    rows = sharding.named(mesh, ('batch',), (mesh.size,), 'slots')
    heads = 'kv_heads' if num_kv_heads % mesh.shape['tensor'] == 0 else None
    layers = () if unroll else (None,)
    buffers = NamedSharding(mesh, sharding.partition((*layers, 'batch', heads, None, None)))
    return Slots(Cache(buffers, buffers, rows), rows, rows, rows, rows, rows, rows)


def empty(num_rows: int, num_slots: int, shape: tuple[int, int, int], dtype, unroll: bool) -> Slots:
    """Makes slots with nothing in them; `shape` is layers, key-value heads, head dimension."""
    zeros = jnp.zeros(num_rows, jnp.int32)
    shares = jnp.zeros(num_rows, jnp.float32)
    rows = Rows(jnp.zeros((num_rows, 2), jnp.uint32), shares, zeros, shares + 1, shares)
    layers, heads, size = shape
    cache = kv.zeros(layers, num_rows, heads, size, num_slots, dtype, unroll)
    return Slots(cache, zeros, zeros, zeros, rows, zeros - 1, zeros > 0)


def prefill(
    model: Model,
    resident: Resident,
    prompts: Prompts,
    stops: Int[Array, 'n'],
    needs: Needs,
    num_likeliest: int | None,
    dtype,
    unroll: bool,
) -> tuple[Slots, Emitted]:
    """Computes prompts and their first tokens."""
    P, T = prompts.tokens.shape
    positions = jnp.broadcast_to(jnp.arange(T), (P, T))
    is_token = positions < prompts.lengths[:, None]
    adapters = resident.for_rows(prompts.adapters)
    x, key_values = model(prompts.tokens, positions, is_token.astype(jnp.int32), adapters, None, 'none')
    cache = kv.fill(*key_values, prompts.lengths, dtype, unroll)
    return _first_tokens(model, x, cache, prompts, stops, needs, num_likeliest)


def extend(
    model: Model,
    resident: Resident,
    prompts: Prompts,
    shared: Slots,
    stops: Int[Array, 'n'],
    needs: Needs,
    num_likeliest: int | None,
) -> tuple[Slots, Emitted]:
    """Computes prompts, and their first tokens, that go on after the prompt that was prefilled in row 0 of `shared`."""
    x, key_values = prefix.extend(model, prompts.tokens, shared.cache, resident.for_rows(prompts.adapters))
    cache = prefix.join(shared.cache, *key_values, prompts.lengths)
    return _first_tokens(model, x, cache, prompts, stops, needs, num_likeliest)


def _first_tokens(
    model: Model,
    x: Float[Array, 'P T D'],
    cache: Cache,
    prompts: Prompts,
    stops: Int[Array, 'n'],
    needs: Needs,
    num_likeliest: int | None,
) -> tuple[Slots, Emitted]:
    P = x.shape[0]
    last = jnp.take_along_axis(x, jnp.maximum(prompts.lengths - 1, 0)[:, None, None], axis=1)[:, 0]
    zeros = jnp.zeros(P, jnp.int32)
    slots = Slots(cache, zeros, zeros, prompts.budgets, prompts.rows, prompts.adapters, prompts.is_real)
    return _record(model, last, slots, _nothing(P, 1, num_likeliest), stops, needs)


def insert(slots: Slots, staged: Slots, sources: Int[Array, 'P'], targets: Int[Array, 'P'], count: Array) -> Slots:
    """Puts the first `count` rows that `sources` names of what is staged into the slots that `targets` names."""

    def put(i: Array, slots: Slots) -> Slots:
        source, target = sources[i], targets[i]
        cache = kv.put_row(slots.cache, target, staged.cache, source)
        rest, new = (dataclasses.replace(s, cache=None) for s in (slots, staged))
        rest = jax.tree.map(lambda x, y: x.at[target].set(y[source]), rest, new)
        return dataclasses.replace(rest, cache=cache)

    return jax.lax.fori_loop(0, count, put, slots)


def grow(slots: Slots, num_slots: int) -> Slots:
    """Makes room for longer texts."""
    return dataclasses.replace(slots, cache=kv.grow(slots.cache, num_slots))


def decode(
    model: Model,
    resident: Resident,
    slots: Slots,
    occupied: Bool[Array, 'B'],
    enough: Int[Array, ''],
    stops: Int[Array, 'n'],
    steps: int,
    needs: Needs,
    num_likeliest: int | None,
) -> tuple[Slots, Emitted]:
    """Generates up to `steps` tokens a row; returns early once all rows, or `enough` of them, have ended.

    `model` and what is in `resident` come from the model's `for_steps`. Rows that are not `occupied` (their askers have
    left) end.
    """
    slots = dataclasses.replace(slots, active=slots.active & occupied)
    began = slots.active.sum()
    adapters = resident.for_rows(slots.adapters)

    def goes_on(carry):
        slots, emitted = carry
        going = slots.active.sum()
        return (emitted.steps < steps) & (going > 0) & (began - going < enough)

    def body(carry):
        slots, emitted = carry
        x, cache = model.step(slots.tokens, slots.cache, adapters)
        return _record(model, x, dataclasses.replace(slots, cache=cache), emitted, stops, needs)

    start = slots, _nothing(slots.tokens.shape[0], steps, num_likeliest)
    return jax.lax.while_loop(goes_on, body, start)


def _nothing(num_rows: int, steps: int, num_likeliest: int | None) -> Emitted:
    width = 0 if num_likeliest is None else 1 + num_likeliest
    zeros = jnp.zeros(num_rows, jnp.int32)
    scores = jnp.zeros((num_rows, steps, width), jnp.float32)
    tokens = jnp.zeros((num_rows, steps), jnp.int32)
    return Emitted(tokens, zeros, scores, scores.astype(jnp.int32), zeros, jnp.int32(0))


def _record(
    model: Model, x: Float[Array, 'B D'], slots: Slots, emitted: Emitted, stops: Int[Array, 'n'], needs: Needs
) -> tuple[Slots, Emitted]:
    """Picks the next token of the active rows and writes it down; a stop token, not written, ends its row instead."""
    logits = model.logits(x)
    tokens = sampling.pick(logits, slots.rows, slots.counts, needs)
    # Not of their maximum: jaxlib 0.10 on CPU lets a NaN pass there.
    is_bad = ~jnp.isfinite(logits.sum(axis=-1))
    is_stop = (tokens[:, None] == stops).any(axis=-1)
    emits = slots.active & ~is_stop & ~is_bad
    counts = slots.counts + emits
    ended = jnp.where(is_bad, ERROR, jnp.where(is_stop, STOP, jnp.where(counts >= slots.budgets, LENGTH, GOES_ON)))
    ended = jnp.where(slots.active, ended, emitted.ended)
    # A row emits in every step until it ends, so that the step is also the place of its token.
    at = emitted.steps
    logprobs, likeliest = emitted.logprobs, emitted.likeliest
    if emitted.logprobs.shape[-1]:
        scores, ids = _scores(logits, tokens, emitted.logprobs.shape[-1] - 1)
        logprobs = jax.lax.dynamic_update_slice(logprobs, scores[:, None], (0, at, 0))
        likeliest = jax.lax.dynamic_update_slice(likeliest, ids[:, None], (0, at, 0))
    emitted = Emitted(
        jax.lax.dynamic_update_slice(emitted.tokens, tokens[:, None], (0, at)),
        emitted.counts + emits,
        logprobs,
        likeliest,
        ended,
        at + 1,
    )
    slots = dataclasses.replace(slots, tokens=tokens, counts=counts, active=slots.active & (ended == GOES_ON))
    return slots, emitted


def _scores(logits: Float[Array, 'B V'], tokens: Int[Array, 'B'], num_likeliest: int) -> tuple[Array, Array]:
    """Returns log-probabilities [B, 1 + n] of the tokens and of the n likeliest ids, and these ids [B, 1 + n]."""
    norm = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    values, ids = jax.lax.top_k(logits, num_likeliest)
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)
    return jnp.concatenate([chosen, values], axis=-1) - norm, jnp.concatenate([tokens[:, None], ids], axis=-1)

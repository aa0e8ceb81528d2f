"""Generates texts in batches of fixed shape: prefill and all decoding steps in one jitted call.

Prompts are grouped by the length bucket that their own length falls into, padded on the left to it, and computed in
batches of fixed size; a bucket compiles once. Nothing about a prompt's text depends on its neighbours.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.decode.sampling import Sampling
from warmjax.models import cache as kv
from warmjax.models.decoder import Decoder, StackedAdapters
from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class DecodeSettings:
    """temperature: 0 is greedy; the study used 0.8.
    max_new_tokens: tokens a text at most; the study used 300.
    batch_size: prompts computed at once.
    buckets: prompt lengths in tokens, rising, to which prompts are padded.
    too_long: what becomes of prompts longer than the largest bucket: `error`, or, counted, `drop` or `cut` (keeping
        the first token and the end).
    seed: of sampling.
    """

    __pydantic_config__ = STRICT
    temperature: float
    max_new_tokens: int
    batch_size: int
    buckets: tuple[int, ...]
    too_long: Literal['error', 'drop', 'cut']
    seed: int

    def __post_init__(self):
        problems = []
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)) or self.buckets[0] < 1:
            problems.append(f'buckets expected rising prompt lengths, got {list(self.buckets)}')
        if self.temperature < 0:
            problems.append(f'temperature expected 0 or more, got {self.temperature}')
        if min(self.max_new_tokens, self.batch_size) < 1:
            problems.append(
                f'max_new_tokens and batch_size expected 1 or more, got {self.max_new_tokens} and {self.batch_size}'
            )
        if problems:
            raise ValueError('generation: ' + '; '.join(problems))


@dataclasses.dataclass(frozen=True)
class Request:
    """A prompt's token ids, and the key [2] of its randomness (`sampling.row_key`)."""

    id: str
    tokens: Sequence[int]
    key: np.ndarray


@dataclasses.dataclass(frozen=True)
class Completion:
    """Generated token ids without the stop token; `stopped` says whether there was one."""

    request: Request
    tokens: list[int]
    stopped: bool


def fit(requests: Sequence[Request], settings: DecodeSettings) -> tuple[list[Request], dict[str, int]]:
    """Drops or cuts the requests that are too long, as the settings say, and counts them."""
    longest = settings.buckets[-1]
    too_long = [request for request in requests if len(request.tokens) > longest]
    if settings.too_long == 'error' or not too_long:
        return list(requests), {}
    if settings.too_long == 'drop':
        return [r for r in requests if len(r.tokens) <= longest], {'prompts_dropped': len(too_long)}
    kept = [
        r if len(r.tokens) <= longest else dataclasses.replace(r, tokens=[r.tokens[0], *r.tokens[1 - longest :]])
        for r in requests
    ]
    return kept, {'prompts_cut': len(too_long)}


def batches(requests: Sequence[Request], settings: DecodeSettings) -> Iterator[tuple[int, list[Request]]]:
    """Groups requests by bucket and cuts the groups into batches, in an order that only the requests decide.

    Raises:
        ValueError: prompts that are empty or longer than the largest bucket, all named.
    """
    bad = [r for r in requests if not 0 < len(r.tokens) <= settings.buckets[-1]]
    if bad:
        named = ', '.join(f'{r.id} ({len(r.tokens)} tokens)' for r in bad[:5])
        raise ValueError(
            f'generation: expected prompts of 1 to {settings.buckets[-1]} tokens, got {len(bad)} others: {named}'
            f'{" ..." if len(bad) > 5 else ""}; add a bucket to config.generation.buckets, or set too_long'
        )
    shortest = 0
    for bucket in settings.buckets:
        group = [r for r in requests if shortest < len(r.tokens) <= bucket]
        shortest = bucket
        for i in range(0, len(group), settings.batch_size):
            yield bucket, group[i : i + settings.batch_size]


def generate(
    model: Decoder,
    adapters: StackedAdapters,
    bucket: int,
    requests: Sequence[Request],
    settings: DecodeSettings,
    stop_ids: Sequence[int],
    mesh: Mesh,
) -> list[Completion]:
    """Generates the texts of one batch; rows that are missing to `batch_size` are computed and thrown away."""
    tokens = np.zeros((settings.batch_size, bucket), np.int32)
    first = np.full(settings.batch_size, bucket - 1, np.int32)
    keys = np.zeros((settings.batch_size, 2), np.uint32)
    for row, request in enumerate(requests):
        first[row] = bucket - len(request.tokens)
        tokens[row, first[row] :] = request.tokens
        keys[row] = request.key
    is_real = np.arange(settings.batch_size) < len(requests)
    with jax.set_mesh(mesh):
        batch = sharding.put_batch({'tokens': tokens, 'first': first, 'keys': keys, 'is_real': is_real}, mesh)
        texts, lengths, stopped = jax.device_get(
            _generate(
                model,
                adapters,
                batch,
                Sampling(settings.temperature),
                settings.max_new_tokens,
                tuple(stop_ids),
                unroll=jax.default_backend() == 'cpu',
            )
        )
    return [
        Completion(request, texts[row, : lengths[row]].tolist(), bool(stopped[row]))
        for row, request in enumerate(requests)
    ]


@functools.partial(jax.jit, static_argnames=('sampling', 'max_new', 'stop_ids', 'unroll'))
def _generate(
    model: Decoder,
    adapters: StackedAdapters,
    batch: Mapping[str, jax.Array],
    sampling: Sampling,
    max_new: int,
    stop_ids: tuple[int, ...],
    unroll: bool,
):
    """Returns texts [B, max_new], their lengths [B] and whether they ended with a stop id [B]."""
    B, T = batch['tokens'].shape
    slots = jnp.arange(T)
    is_token = slots >= batch['first'][:, None]
    positions = jnp.maximum(slots - batch['first'][:, None], 0)
    x, kv_prompt = model(batch['tokens'], positions, is_token.astype(jnp.int32), adapters, None, 'none')
    cache = kv.fill(*kv_prompt, batch['first'], T + max_new, unroll)
    layers = model.for_steps(adapters, unroll)
    stops = jnp.array(stop_ids, jnp.int32)

    def pick(x, i):
        return sampling(model.logits(x), batch['keys'], i)

    def is_stop(token):
        return (token[:, None] == stops).any(axis=-1)

    def record(texts, lengths, stopped, token, i):
        """Writes the i-th token of the rows that still speak; a stop token ends its row instead."""
        speaks = ~stopped & ~is_stop(token)
        column = jnp.where(speaks, token, 0)[:, None]
        return jax.lax.dynamic_update_slice(texts, column, (0, i)), lengths + speaks, stopped | is_stop(token)

    def goes_on(carry):
        i, _, _, _, stopped, _ = carry
        return (i < max_new) & ~stopped.all()

    def body(carry):
        i, token, texts, lengths, stopped, cache = carry
        x, cache = model.step(token, cache, *layers)
        token = pick(x, i)
        return i + 1, token, *record(texts, lengths, stopped, token, i), cache

    token = pick(x[:, -1], 0)
    texts, lengths = jnp.zeros((B, max_new), jnp.int32), jnp.zeros(B, jnp.int32)
    start = record(texts, lengths, ~batch['is_real'], token, 0)
    _, _, texts, lengths, stopped, _ = jax.lax.while_loop(goes_on, body, (jnp.int32(1), token, *start, cache))
    return texts, lengths, stopped

"""Generates texts in a fixed number of slots, each refilled as soon as its text has ended (continuous batching).

A round reads what the device has done, refills free slots from prompts that were prefilled meanwhile, sends the next
k decoding steps off, and only then hands the new tokens out: whoever turns them into text or files does so while the
device works. Prompts are prefilled several at once, those of a length bucket together, ahead of the slots they wait
for. A text depends on its request alone, not on slot, neighbours or order.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.decode import programs, resident, sampling
from warmjax.decode.programs import Emitted, Prompts, Slots
from warmjax.decode.requests import GREEDY, Completion, Finish, Output, Request, TokenScore
from warmjax.decode.sampling import Needs
from warmjax.models import decoder
from warmjax.models.decoder import Decoder, StackedAdapters
from warmjax.models.families import Model
from warmjax.validation import STRICT

CACHE_DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16, 'int8': jnp.int8}

_FINISH: dict[int, Finish] = {programs.STOP: 'stop', programs.LENGTH: 'length', programs.ERROR: 'error'}


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """slots: texts under way at once.
    prefill_batch: prompts prefilled at once.
    buckets: prompt lengths in tokens, rising, to which prompts are padded for prefill.
    cache_lengths: tokens a slot's cache has room for, rising; it grows to the next when a text needs it.
    cache_dtype: of keys and values, `float32`, `bfloat16`, or `int8` with a scale for each head of each token.
    steps: decoding steps between two looks at the results, at most.
    refill: how many texts must end to cut the steps short while prompts wait.
    prefixes: how many shared beginnings of prompts are kept on the device; 0 computes every prompt whole. A request
        names its own, so that its text does not depend on whether others share it.
    logprobs: how many of the likeliest ids are reported beside each token, with log-probabilities; None for no scores.
    """

    __pydantic_config__ = STRICT
    slots: int
    prefill_batch: int
    buckets: tuple[int, ...]
    cache_lengths: tuple[int, ...]
    cache_dtype: Literal['float32', 'bfloat16', 'int8']
    steps: int
    refill: int
    prefixes: int
    logprobs: int | None

    def __post_init__(self):
        problems = []
        for name in ('buckets', 'cache_lengths'):
            sizes = list(getattr(self, name))
            if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
                problems.append(f'{name} expected rising numbers of tokens, got {sizes}')
        for name in ('slots', 'prefill_batch', 'steps', 'refill'):
            if getattr(self, name) < 1:
                problems.append(f'{name} expected 1 or more, got {getattr(self, name)}')
        if not problems and self.cache_lengths[-1] <= self.buckets[-1]:
            problems.append(f'cache_lengths expected room beyond the largest bucket, got {list(self.cache_lengths)}')
        if self.prefixes < 0:
            problems.append(f'prefixes expected 0 or more, got {self.prefixes}')
        if self.logprobs is not None and self.logprobs < 0:
            problems.append(f'logprobs expected 0 or more, or none, got {self.logprobs}')
        if problems:
            raise ValueError('engine: ' + '; '.join(problems))


_Group = tuple[int, tuple[str | None, tuple[int, ...]] | None]
"""Prompts that are prefilled together: their bucket, and the adapter and tokens of what is shared."""


@dataclasses.dataclass
class _Staged:
    """Prompts that were prefilled, what came of it, and which rows still wait for a slot."""

    slots: Slots
    emitted: Emitted
    requests: list[Request | None]
    is_read: bool = False

    @property
    def waiting(self) -> list[int]:
        return [row for row, request in enumerate(self.requests) if request is not None]


@dataclasses.dataclass
class Steps:
    """Steps times slots: those that brought something, and all."""

    busy: int
    all: int

    @property
    def share(self) -> float:
        return self.busy / max(self.all, 1)


class Engine:
    """Continues prompts with one base model and any of its adapters.

    `submit` and `cancel` may be called between steps at any time; `step` computes one round; `run` does all of it for
    a list of requests. Not to be called from several threads at once: a server lets one thread own the engine, and the
    others send that one what to do. A client that leaves is a `cancel`; its slot is free in the next step.

        inbox: queue.Queue[Callable[[], None]]      # others: inbox.put(lambda: engine.submit(request)), or cancel(id)

        while is_serving:
            while engine.is_idle or not inbox.empty():
                inbox.get()()                       # sleeps where there is nothing to do; `submit` may raise ValueError
            for output in engine.step():            # at most `settings.steps` tokens of each text that is under way
                deliver(output)                     # output.request.id, .tokens, .scores, .finish (None: goes on)
    """

    def __init__(
        self,
        model: Model,
        settings: EngineSettings,
        stop_ids: Sequence[int],
        adapters: Mapping[str, StackedAdapters],
        mesh: Mesh,
    ):
        """Prepares the model for decoding; on CPU that copies its weights.

        Raises:
            ValueError: stop ids beyond the vocabulary, adapters of another base, or sizes that the mesh does not cut.
        """
        unknown = [i for i in stop_ids if not 0 <= i < model.spec.vocab_size]
        if unknown:
            raise ValueError(
                f'engine: expected stop ids below the vocabulary of {model.spec.vocab_size}, got {unknown}; mend '
                "eos_token_id in the checkpoint's generation_config.json"
            )
        for name in ('slots', 'prefill_batch'):
            sharding.named(mesh, ('batch',), (getattr(settings, name),), f'engine.{name}')
        self.settings, self.mesh = settings, mesh
        self._model, self._unroll = model, decoder.unrolls_steps(mesh)
        self.programs = programs.programs(mesh, model.spec.num_kv_heads, self._unroll)
        self._adapters = {name: i for i, name in enumerate(adapters)}
        self._resident = resident.stack(list(adapters.values()), list(adapters), model, mesh)
        with jax.set_mesh(mesh):
            stepper, pairs = model.for_steps(self._resident.pairs, self._unroll)
        self._stepper, self._step_resident = stepper, dataclasses.replace(self._resident, pairs=pairs)
        self._stops = sharding.replicate(np.array(stop_ids, np.int32), mesh)
        self._pending: dict[_Group, collections.deque[tuple[int, Request]]] = {}
        self._arrivals = itertools.count()
        self._known: set[str] = set()
        self._cancelled: set[str] = set()
        self._prefixes: collections.OrderedDict[tuple, Slots] = collections.OrderedDict()
        self._staged: collections.deque[_Staged] = collections.deque()
        self._occupants: list[Request | None] = [None] * settings.slots
        self._lengths = np.zeros(settings.slots, np.int64)
        self._emitted: Emitted | None = None
        self._slots: Slots | None = None
        self._steps = {waiting: Steps(0, 0) for waiting in (False, True)}
        self._waiting = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way or waiting."""
        return not self._known

    @property
    def num_running(self) -> int:
        """How many texts are in slots."""
        return sum(request is not None for request in self._occupants)

    @property
    def num_waiting(self) -> int:
        """How many requests have no slot yet."""
        return len(self._known) - self.num_running

    @property
    def occupancy(self) -> tuple[float, float]:
        """Share of the slots' steps that brought a token or an end: of all, and of those while prompts waited."""
        some, waited = self._steps[False], self._steps[True]
        whole = Steps(some.busy + waited.busy, some.all + waited.all)
        return whole.share, waited.share

    def submit(self, request: Request) -> None:
        """Queues a request.

        Raises:
            ValueError: a prompt that is empty, too long or not of this vocabulary, an adapter that is not resident, a
                budget without room, or an id that is under way.
        """
        self.check(request)
        if request.id in self._known:
            raise ValueError(f'request {request.id}: expected an id that is not under way; give another')
        self._known.add(request.id)
        self._pending.setdefault(self._group(request), collections.deque()).append((next(self._arrivals), request))

    def check(self, request: Request) -> None:
        """Raises ValueError for what `submit` would refuse, whatever is under way."""
        problem = self._problem(request)
        if problem:
            raise ValueError(f'request {request.id}: {problem}')

    def cancel(self, request_id: str) -> None:
        """Ends a request; its slot is free from the next step on, which reports it with finish `cancelled`."""
        if request_id in self._known:
            self._cancelled.add(request_id)

    def step(self) -> list[Output]:
        """Computes one round, and returns what came of the last one while the device works on."""
        with jax.set_mesh(self.mesh):
            outputs = [*self._drop_pending(), *self._read_steps(), *self._read_staged()]
            outputs += self._refill()
            self._decode()
            if sum(len(staged.waiting) for staged in self._staged) < self.settings.prefill_batch:
                self._stage()
        for output in outputs:
            if output.finish:
                self._known.discard(output.request.id)
                self._cancelled.discard(output.request.id)
        return outputs

    def run(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        """Yields the texts that have ended since the last look, until all requests have theirs.

        Raises:
            ValueError: requests that `submit` refuses, all named, or logits that are not finite, the prompt named.
        """
        requests = list(requests)
        problems = [f'{r.id}: {problem}' for r in requests if (problem := self._problem(r))]
        if problems:
            raise ValueError(
                f'generation: expected prompts that can be answered, got {len(problems)} others:\n  '
                + '\n  '.join(problems[:5] + ['...'] * (len(problems) > 5))
            )
        for request in requests:
            self.submit(request)
        texts: dict[str, tuple[list[int], list[TokenScore]]] = {r.id: ([], []) for r in requests}
        while not self.is_idle:
            ended = []
            for output in self.step():
                tokens, scores = texts[output.request.id]
                tokens += output.tokens
                scores += output.scores
                if output.finish == 'error':
                    raise ValueError(
                        f'prompt {output.request.id}: expected finite logits, got others after {len(tokens)} tokens; '
                        'check the weights and the adapter'
                    )
                if output.finish:
                    ended.append(Completion(output.request, tokens, scores, output.finish))
                    del texts[output.request.id]
            if ended:
                yield ended

    def _problem(self, request: Request) -> str:
        count, longest = len(request.tokens), self.settings.buckets[-1]
        room = min(self.settings.cache_lengths[-1], self._model.spec.num_positions or self.settings.cache_lengths[-1])
        if not 0 < count <= longest:
            return (
                f'expected a prompt of 1 to {longest} tokens, got {count}; add a bucket to the engine, or set '
                'config.generation.too_long'
            )
        if request.max_new_tokens < 1 or count + request.max_new_tokens > room:
            return (
                f'expected room for {count} tokens and 1 or more new ones in {room}, got {request.max_new_tokens} new '
                'ones; ask for fewer, or raise cache_lengths'
            )
        if request.adapter is not None and request.adapter not in self._adapters:
            return f'expected an adapter of {list(self._adapters)}, got {request.adapter!r}'
        if min(request.tokens) < 0 or max(request.tokens) >= self._model.spec.vocab_size:
            return f'expected token ids below {self._model.spec.vocab_size}, got {max(request.tokens)}'
        return ''

    def _drop_pending(self) -> list[Output]:
        """Takes cancelled requests out of the queue and out of what waits for a slot."""
        if not self._cancelled:
            return []
        dropped = []
        for group, queue in list(self._pending.items()):
            dropped += [request for _, request in queue if request.id in self._cancelled]
            self._keep(group, collections.deque(item for item in queue if item[1].id not in self._cancelled))
        for staged in self._staged:
            for row in staged.waiting:
                if staged.is_read and staged.requests[row].id in self._cancelled:
                    dropped.append(staged.requests[row])
                    staged.requests[row] = None
        return [Output(request, [], [], 'cancelled') for request in dropped]

    def _read_steps(self) -> list[Output]:
        """Waits for the steps under way and frees the slots whose texts have ended."""
        if self._emitted is None:
            return []
        emitted: Emitted = jax.device_get(self._emitted)
        self._emitted = None
        outputs = []
        steps = self._steps[self._waiting]
        steps.all += int(emitted.steps) * self.settings.slots
        for slot, request in enumerate(self._occupants):
            if request is None:
                continue
            output = _output(request, emitted, slot, request.id in self._cancelled)
            steps.busy += len(output.tokens) + (output.finish in ('stop', 'error'))
            self._lengths[slot] += len(output.tokens)
            if output.finish:
                self._occupants[slot] = None
            if output.tokens or output.finish:
                outputs.append(output)
        return outputs

    def _read_staged(self) -> list[Output]:
        """Waits for prefills, and reports their prompts' first tokens."""
        outputs = []
        for staged in self._staged:
            if staged.is_read:
                continue
            emitted: Emitted = jax.device_get(staged.emitted)
            staged.is_read = True
            for row in staged.waiting:
                output = _output(staged.requests[row], emitted, row, staged.requests[row].id in self._cancelled)
                outputs.append(output)
                if output.finish:
                    staged.requests[row] = None
        return outputs

    def _refill(self) -> list[Output]:
        """Puts prompts into free slots, prefilling more where too few were prefilled ahead."""
        outputs = []
        while None in self._occupants:
            if not any(staged.waiting for staged in self._staged):
                self._staged.clear()
                if not self._stage():
                    break
                outputs += self._read_staged()
            for staged in self._staged:
                self._insert(staged)
        while self._staged and not self._staged[0].waiting:
            self._staged.popleft()
        return outputs

    def _insert(self, staged: _Staged) -> None:
        free = [slot for slot, request in enumerate(self._occupants) if request is None]
        pairs = list(zip(staged.waiting, free))
        if not pairs:
            return
        sources, targets = np.zeros((2, self.settings.prefill_batch), np.int32)
        for i, (row, slot) in enumerate(pairs):
            sources[i], targets[i] = row, slot
            self._occupants[slot] = staged.requests[row]
            self._lengths[slot] = len(staged.requests[row].tokens)
            staged.requests[row] = None
        self._make_room(staged.slots.cache.num_slots)
        self._slots = self.programs.insert(self._slots, staged.slots, sources, targets, np.int32(len(pairs)))

    def _make_room(self, needed: int) -> None:
        """Grows the cache to the smallest of its lengths that holds so many tokens a row."""
        length = next(length for length in self.settings.cache_lengths if length >= needed)
        if self._slots is None:
            spec = self._model.spec
            shape = (spec.num_layers, spec.num_kv_heads, spec.head_dim)
            dtype = CACHE_DTYPES[self.settings.cache_dtype]
            self._slots = self.programs.empty(self.settings.slots, length, shape, dtype, self._unroll)
        elif self._slots.cache.num_slots < length:
            self._slots = self.programs.grow(self._slots, length)

    def _decode(self) -> None:
        """Sends the next steps off."""
        running = [slot for slot, request in enumerate(self._occupants) if request is not None]
        if not running:
            self._slots = None
            return
        self._make_room(min(int(self._lengths[running].max()) + self.settings.steps, self.settings.cache_lengths[-1]))
        occupied = np.array([request is not None for request in self._occupants])
        self._waiting = bool(self._pending) or any(staged.waiting for staged in self._staged)
        self._slots, self._emitted = self.programs.decode(
            self._stepper,
            self._step_resident,
            self._slots,
            occupied,
            np.int32(self.settings.refill if self._waiting else self.settings.slots),
            self._stops,
            self.settings.steps,
            sampling.needs([self._occupants[slot].sampling for slot in running]),
            self.settings.logprobs,
        )

    def _stage(self) -> bool:
        """Sends a prefill off: the first prompt that waits, and others of its bucket."""
        if not self._pending:
            return False
        group = min(self._pending, key=lambda group: self._pending[group][0][0])
        queue = self._pending[group]
        chosen = [queue.popleft()[1] for _ in range(min(self.settings.prefill_batch, len(queue)))]
        self._keep(group, queue)
        needs = sampling.needs([request.sampling for request in chosen])
        bucket, shared = group
        prompts = self._prompts(chosen, bucket, 0 if shared is None else len(shared[1]))
        if shared is None:
            slots, emitted = self._prefill(prompts, needs)
        else:
            slots, emitted = self.programs.extend(
                self._model, self._resident, prompts, self._shared(*shared), self._stops, needs, self.settings.logprobs
            )
        self._staged.append(_Staged(slots, emitted, list(chosen)))
        return True

    def _prefill(self, prompts: Prompts, needs: Needs) -> tuple[Slots, Emitted]:
        dtype = CACHE_DTYPES[self.settings.cache_dtype]
        return self.programs.prefill(
            self._model, self._resident, prompts, self._stops, needs, self.settings.logprobs, dtype, self._unroll
        )

    def _keep(self, group: _Group, queue: collections.deque) -> None:
        """Keeps what is left of a group's queue; groups without a request go, as there can be any number."""
        if queue:
            self._pending[group] = queue
        else:
            del self._pending[group]

    def _group(self, request: Request) -> _Group:
        """Tells which prompts are prefilled together: those of a bucket, and of a shared beginning where that helps.

        It helps where what is left falls into a smaller bucket; adapters compute the same beginning differently.
        """
        whole = self._bucket(len(request.tokens))
        if 0 < request.prefix < len(request.tokens) and self.settings.prefixes and isinstance(self._model, Decoder):
            rest = self._bucket(len(request.tokens) - request.prefix)
            if rest < whole and self._bucket(request.prefix) + rest <= self.settings.cache_lengths[-1]:
                return rest, (request.adapter, tuple(request.tokens[: request.prefix]))
        return whole, None

    def _shared(self, adapter: str | None, tokens: tuple[int, ...]) -> Slots:
        """Returns a shared beginning from the store, prefilled in every row; the one unused for longest makes room."""
        key = (adapter, tokens)
        if key not in self._prefixes:
            request = Request('', tokens, np.zeros(2, np.uint32), GREEDY, 1, adapter, 0)
            prompts = self._prompts([request] * self.settings.prefill_batch, self._bucket(len(tokens)), 0)
            self._prefixes[key], _ = self._prefill(prompts, sampling.needs([GREEDY]))
            if len(self._prefixes) > self.settings.prefixes:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(key)
        return self._prefixes[key]

    def _bucket(self, length: int) -> int:
        return next(bucket for bucket in self.settings.buckets if bucket >= length)

    def _prompts(self, requests: Sequence[Request], bucket: int, first: int) -> Prompts:
        """Lays prompts out on the device, from token `first` on; rows that are missing to a batch are thrown away."""
        P = self.settings.prefill_batch
        tokens = np.zeros((P, bucket), np.int32)
        lengths, budgets, adapters = np.zeros((3, P), np.int32)
        for row, request in enumerate(requests):
            lengths[row], budgets[row] = len(request.tokens) - first, request.max_new_tokens
            tokens[row, : lengths[row]] = request.tokens[first:]
            adapters[row] = -1 if request.adapter is None else self._adapters[request.adapter]
        missing = P - len(requests)
        keys = [*(r.key for r in requests), *[np.zeros(2, np.uint32)] * missing]
        rows = sampling.rows(keys, [*(r.sampling for r in requests), *[GREEDY] * missing])
        prompts = Prompts(tokens, lengths, budgets, rows, adapters, np.arange(P) < len(requests))
        return sharding.put_batch(prompts, self.mesh)


def is_batch_invariant(dtype, settings: EngineSettings) -> bool:
    """Tells whether no bit of a text's logits can depend on what is computed beside it.

    With several cache lengths, a neighbour decides when the cache grows; a backend then sums in another order, and
    logits move by a rounding (1e-7 of them in float32), which changes a text where a draw falls just on the border.
    Other backends, and bfloat16, promise nothing here.
    """
    return jax.default_backend() == 'cpu' and jnp.dtype(dtype) == jnp.float32 and len(settings.cache_lengths) == 1


def _output(request: Request, emitted: Emitted, row: int, is_cancelled: bool) -> Output:
    count = int(emitted.counts[row])
    scores = []
    if emitted.logprobs.shape[-1]:
        scores = [
            TokenScore(float(values[0]), dict(zip(ids[1:].tolist(), values[1:].tolist(), strict=True)))
            for values, ids in zip(emitted.logprobs[row, :count], emitted.likeliest[row, :count], strict=True)
        ]
    finish = 'cancelled' if is_cancelled else _FINISH.get(int(emitted.ended[row]))
    return Output(request, emitted.tokens[row, :count].tolist(), scores, finish)

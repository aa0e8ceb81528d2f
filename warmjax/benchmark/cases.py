"""The programs that are measured: those of training, answering and scoring, made as a plan makes them, and then run."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from warmjax.benchmark import arrays, work
from warmjax.benchmark.settings import BenchmarkSettings
from warmjax.benchmark.work import Sizes, Work
from warmjax.decode import abstract
from warmjax.decode.abstract import Program, Scoring
from warmjax.decode.programs import Prompts, Slots
from warmjax.decode.resident import Resident
from warmjax.decode.sampling import Rows
from warmjax.train.abstract import train_program

ENDLESS = 2**30
"""Tokens that a text may have, so that none ends while it is measured."""

Call = Callable[[], Any]
"""Sends a program's work off and returns arrays of its result."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A program in one size.

    what: of WHATS in `measure`.
    shape: its sizes, by name.
    dtype: in which it computes.
    work: of one call.
    compile: makes the program, from shapes alone.
    start: makes its arguments, and returns a call that goes on from its own results.
    """

    what: str
    shape: Mapping[str, Any]
    dtype: str
    work: Work
    compile: Callable[[], jax.stages.Compiled]
    start: Callable[[jax.stages.Compiled], Call]

    @property
    def name(self) -> str:
        return f'{self.what} ({", ".join(f"{key} {value}" for key, value in self.shape.items())})'


def train(settings: BenchmarkSettings, mesh: Mesh) -> Iterator[Case]:
    """Yields optimizer steps over full rows of random tokens.

    Raises:
        ValueError: the mesh does not divide the model or the rows.
    """
    model, length = settings.model, settings.train.max_length
    for rows in settings.train_rows:
        how = dataclasses.replace(settings.train, batch_size=rows, micro_batch=min(rows, settings.train.micro_batch))
        made = train_program(model.spec, jnp.dtype(model.dtype), model.quantization, how, mesh)
        state, frozen, batch = made.args
        parts, micro_batch, _ = batch['tokens'].shape
        sizes = Sizes(_matmul_bytes(frozen), _count(state.trainable), 1, 0)
        yield Case(
            'train',
            {
                'rows': parts * micro_batch,
                'micro_batch': micro_batch,
                'length': length,
                'rank': how.lora.rank,
                'remat': how.remat,
            },
            model.dtype,
            work.train(model.spec, sizes, parts, micro_batch, length),
            lambda made=made: made.lower().compile(),
            functools.partial(_start_train, made, model.spec.vocab_size),
        )


def _start_train(made: Program, vocab_size: int, compiled: jax.stages.Compiled) -> Call:
    like, frozen, batch = made.args
    frozen = arrays.fill_state(frozen)
    state = like._replace(
        trainable=arrays.fill_adapters(like.trainable),
        opt_state=arrays.zeros(like.opt_state),
        step=arrays.zeros(like.step),
        key=jax.jit(lambda: jax.random.key(0), out_shardings=like.key.sharding)(),
    )
    _, rows, length = batch['tokens'].shape
    tokens = _tokens((rows, length + 1), vocab_size)
    row = {'tokens': tokens[:, :-1], 'targets': tokens[:, 1:], 'weights': 1.0, 'segment_ids': 1}
    row['positions'] = np.arange(length)
    batch = {name: arrays.put(row[name], x) for name, x in batch.items()}

    def call() -> Any:
        nonlocal state
        state, metrics = compiled(state, frozen, batch)
        return metrics

    return call


def prefill(settings: BenchmarkSettings, mesh: Mesh) -> Iterator[Case]:
    """Yields prefills of prompts that fill a bucket, of which each adapter has its share."""
    spec, rows = settings.model.spec, settings.engine.prefill_batch
    for program in _programs(settings, settings.engine.slots, None, mesh, 'prefill'):
        model, resident, prompts = program.args[:3]
        length = prompts.tokens.shape[1]
        yield Case(
            'prefill',
            {'rows': rows, 'length': length, 'adapters': settings.adapters},
            settings.model.dtype,
            work.prefill(spec, _engine_sizes(settings, model, resident), rows, length),
            lambda program=program: program.lower().compile(),
            functools.partial(_start_prefill, program, settings),
        )


def _start_prefill(program: Program, settings: BenchmarkSettings, compiled: jax.stages.Compiled) -> Call:
    model, resident, like, stops = program.args[:4]
    prompts = Prompts(
        tokens=arrays.put(_tokens(like.tokens.shape, settings.model.spec.vocab_size), like.tokens),
        lengths=arrays.put(like.tokens.shape[1], like.lengths),
        budgets=arrays.put(ENDLESS, like.budgets),
        rows=_sampled(like.rows),
        adapters=arrays.put(_owners(settings, *like.adapters.shape), like.adapters),
        is_real=arrays.put(True, like.is_real),
    )
    filled = arrays.fill_model(model), _fill_resident(resident, settings)
    return functools.partial(compiled, *filled, prompts, arrays.put(0, stops))


def decode(settings: BenchmarkSettings, mesh: Mesh) -> Iterator[Case]:
    """Yields as many steps as the engine takes between two looks, of full slots, up to the end of a cache length."""
    spec, steps = settings.model.spec, settings.engine.steps
    for count in settings.slots:
        for program in _programs(settings, count, None, mesh, 'decode'):
            model, resident, slots = program.args[:3]
            room = slots.cache.num_slots
            yield Case(
                'decode',
                {'slots': count, 'cache': room, 'steps': steps, 'adapters': settings.adapters},
                settings.model.dtype,
                work.decode(spec, _engine_sizes(settings, model, resident), count, room - steps, steps),
                lambda program=program: program.lower().compile(),
                functools.partial(_start_decode, program, settings),
            )


def _start_decode(program: Program, settings: BenchmarkSettings, compiled: jax.stages.Compiled) -> Call:
    model, resident, like, occupied, enough, stops = program.args[:6]
    before = like.cache.num_slots - settings.engine.steps
    fixed = arrays.fill_model(model), _fill_resident(resident, settings)
    rest = np.ones(occupied.shape, bool), np.asarray(occupied.shape[0], enough.dtype), arrays.put(0, stops)
    slots = Slots(
        cache=arrays.zeros(like.cache),
        tokens=arrays.put(_tokens(like.tokens.shape, settings.model.spec.vocab_size), like.tokens),
        counts=arrays.put(0, like.counts),
        budgets=arrays.put(ENDLESS, like.budgets),
        rows=_sampled(like.rows),
        adapters=arrays.put(_owners(settings, *like.adapters.shape), like.adapters),
        active=arrays.put(True, like.active),
    )

    def call() -> Any:
        nonlocal slots
        cache = dataclasses.replace(slots.cache, lengths=arrays.put(before, like.cache.lengths))
        slots, emitted = compiled(*fixed, dataclasses.replace(slots, cache=cache), *rest)
        return emitted

    return call


def score(settings: BenchmarkSettings, mesh: Mesh) -> Iterator[Case]:
    """Yields the scoring of rows that hold one text each, by the base model."""
    spec, rows = settings.model.spec, settings.scoring.rows
    for length in settings.scoring.lengths:
        (program,) = _programs(settings, settings.engine.slots, Scoring(rows, length), mesh, 'score')
        sizes = Sizes(_matmul_bytes(program.args[0]), 0, 0, 0)
        yield Case(
            'score',
            {'rows': rows, 'length': length},
            settings.model.dtype,
            work.score(spec, sizes, rows, length),
            lambda program=program: program.lower().compile(),
            functools.partial(_start_score, program, spec.vocab_size),
        )


def _start_score(program: Program, vocab_size: int, compiled: jax.stages.Compiled) -> Call:
    model, tokens, segment_ids, positions = program.args
    rows = arrays.put(_tokens(tokens.shape, vocab_size), tokens), arrays.put(1, segment_ids)
    return functools.partial(
        compiled, arrays.fill_model(model), *rows, arrays.put(np.arange(positions.shape[1]), positions)
    )


def _programs(settings: BenchmarkSettings, slots: int, scoring: Scoring | None, mesh: Mesh, what: str) -> list[Program]:
    """Returns those of an engine's programs whose name begins so.

    Raises:
        ValueError: the mesh does not divide the model or the rows.
    """
    made = abstract.abstract_programs(
        settings.model.spec,
        jnp.dtype(settings.model.dtype),
        dataclasses.replace(settings.engine, slots=slots),
        settings.train.lora if settings.adapters else None,
        settings.adapters,
        1,
        scoring,
        mesh,
        kind=settings.model.quantization,
    )
    return [program for name, program in made.items() if name.split()[0] == what]


def _engine_sizes(settings: BenchmarkSettings, model: Any, resident: Resident) -> Sizes:
    adapter = _count(resident.pairs) // max(settings.adapters, 1)
    entry = {'float32': 4, 'bfloat16': 2, 'int8': 1}[settings.engine.cache_dtype]
    return Sizes(_matmul_bytes(model), adapter, settings.adapters, entry)


def _fill_resident(like: Resident, settings: BenchmarkSettings) -> Resident:
    """Returns adapters side by side with random entries; each has its share of the columns."""
    owners = {
        name: arrays.put(np.repeat(np.arange(settings.adapters), x.shape[0] // settings.adapters), x)
        for name, x in like.owners.items()
    }
    return Resident(arrays.fill_adapters(like.pairs), owners)


def _sampled(like: Rows) -> Rows:
    """Returns what rows need that sample from the whole distribution at 0.8, as the study does."""
    values = Rows(keys=1, temperature=0.8, top_k=0, top_p=1.0, min_p=0.0)
    return Rows(**{name: arrays.put(getattr(values, name), getattr(like, name)) for name in vars(values)})


def _owners(settings: BenchmarkSettings, count: int) -> np.ndarray:
    """Says whose adapter each row has, in turn; -1 where there is none."""
    return np.arange(count) % settings.adapters if settings.adapters else np.full(count, -1)


def _tokens(shape: Sequence[int], vocab_size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocab_size, shape, np.int32)


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _matmul_bytes(model: Any) -> int:
    """Returns the bytes of a model's weights without those that are only looked up."""
    leaves = jax.tree_util.tree_flatten_with_path(model)[0]
    names = [(jax.tree_util.keystr(path, simple=True, separator='.'), leaf) for path, leaf in leaves]
    is_tied = not any('lm_head' in name for name, _ in names)
    return sum(leaf.size * leaf.dtype.itemsize for name, leaf in names if is_tied or 'embed_tokens' not in name)

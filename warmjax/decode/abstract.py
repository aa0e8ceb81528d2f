"""The engine's programs with shapes and layouts in place of arrays, to be compiled for devices that are not there."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.decode import programs, sampling, score
from warmjax.decode.engine import CACHE_DTYPES, EngineSettings
from warmjax.decode.programs import Prompts, Slots
from warmjax.decode.requests import GREEDY
from warmjax.decode.resident import Resident
from warmjax.decode.sampling import Needs
from warmjax.lora import adapters
from warmjax.lora.adapters import LoraSettings
from warmjax.models import decoder, families
from warmjax.models.decoder import Decoder
from warmjax.models.families import Model, ModelSpec
from warmjax.models.quantization import Quantization
from warmjax.models.spec import Spec

_DRAWS = Needs(draws=True, filters=False)
"""Of programs that sample from the whole distribution, as the study does."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A jitted function and what it is lowered with."""

    function: Callable
    args: tuple[Any, ...]
    mesh: Mesh

    def lower(self) -> jax.stages.Lowered:
        with jax.set_mesh(self.mesh):
            return self.function.lower(*self.args)


@dataclasses.dataclass(frozen=True)
class Scoring:
    """rows: scored at once.
    length: tokens of a row.
    """

    rows: int
    length: int


def abstract_programs(
    spec: Spec,
    dtype: Any,
    settings: EngineSettings,
    lora: LoraSettings | None,
    num_adapters: int,
    num_stops: int,
    scoring: Scoring | None,
    mesh: Mesh,
    kind: Quantization = 'none',
    unroll: bool | None = None,
) -> dict[str, Program]:
    """Makes what an engine of these settings runs: `prefill <bucket>`, `decode <cache length>` and `score <length>`.

    Args:
        dtype: of the base weights, and `kind` of its layers' kernels.
        lora: shape of each of the `num_adapters` adapters that lie side by side; None for the base model alone.
        num_stops: how many stop ids there are.
        scoring: None if nothing is scored.
        unroll: whether a step's layers are unrolled; None for what `decoder.unrolls_steps` says of the mesh.

    Raises:
        ValueError: the mesh does not divide the model, the slots or the prompts that are prefilled at once.
    """
    model = abstract_model(spec, dtype, mesh, kind)
    unroll = decoder.unrolls_steps(mesh) if unroll is None else unroll
    resident = _resident(model, lora, num_adapters, mesh)
    stepper, pairs = model, resident.pairs
    if unroll:
        stepper, pairs = jax.eval_shape(lambda model, pairs: model.for_steps(pairs, True), model, pairs)
    compiled = programs.programs(mesh, spec.num_kv_heads, unroll)
    cache_dtype, logprobs = CACHE_DTYPES[settings.cache_dtype], settings.logprobs
    stops = sharding.abstract_replicas(jax.ShapeDtypeStruct((num_stops,), jnp.int32), mesh)
    made = {}
    for bucket in settings.buckets:
        prompts = _prompts(settings.prefill_batch, bucket, mesh)
        args = (model, resident, prompts, stops, _DRAWS, logprobs, cache_dtype, unroll)
        made[f'prefill {bucket}'] = Program(compiled.prefill, args, mesh)
    for length in settings.cache_lengths:
        shape = (spec.num_layers, spec.num_kv_heads, spec.head_dim)
        slots = abstract_slots(settings.slots, length, shape, cache_dtype, unroll, mesh)
        occupied = jax.ShapeDtypeStruct((settings.slots,), bool)
        enough = jax.ShapeDtypeStruct((), jnp.int32)
        rest = (slots, occupied, enough, stops, settings.steps, _DRAWS, logprobs)
        step_resident = dataclasses.replace(resident, pairs=pairs)
        made[f'decode {length}'] = Program(compiled.decode, (stepper, step_resident, *rest), mesh)
    if scoring is not None:
        made[f'score {scoring.length}'] = score_program(model, scoring, mesh)
    return made


def score_program(model: Model, scoring: Scoring, mesh: Mesh) -> Program:
    """Makes the program that scores given texts by an abstract model.

    Raises:
        ValueError: the mesh does not divide the rows.
    """
    batch = _rows((scoring.rows, scoring.length), jnp.int32, mesh, 'scoring.rows')
    return Program(score.next_token_program(mesh), (model, batch, batch, batch), mesh)


def abstract_model(spec: ModelSpec, dtype: Any, mesh: Mesh, kind: Quantization = 'none') -> Model:
    """Returns a model with shapes and layouts in place of arrays."""
    model = families.abstract(spec, dtype)
    if kind != 'none':
        model = nnx.eval_shape(lambda model: decoder.quantized(model, kind), model)
    graphdef, shapes = nnx.split(model)
    return nnx.merge(graphdef, sharding.abstract_arrays(shapes, sharding.state_shardings(shapes, mesh)))


def _resident(model: Decoder, lora: LoraSettings | None, count: int, mesh: Mesh) -> Resident:
    """Returns adapters side by side along the rank, which no mesh cuts, laid out as `resident.stack` does."""
    if lora is None or not count:
        return Resident({}, {})
    maps, pairs = adapters.linear_maps(model), {}
    for name, pair in adapters.abstract(model, lora, mesh).items():
        size_in, size_out = maps[name].axes
        pairs[name] = {
            'a': _wider(pair['a'], 2, count, ('layers', size_in, 'rank'), mesh),
            'b': _wider(pair['b'], 1, count, ('layers', 'rank', size_out), mesh),
        }
    owners = {name: jax.ShapeDtypeStruct(pair['a'].shape[2:], jnp.int32) for name, pair in pairs.items()}
    return Resident(pairs, sharding.abstract_replicas(owners, mesh))


def _wider(x: jax.ShapeDtypeStruct, axis: int, times: int, axes: tuple, mesh: Mesh) -> jax.ShapeDtypeStruct:
    shape = tuple(size * times if i == axis else size for i, size in enumerate(x.shape))
    return jax.ShapeDtypeStruct(shape, x.dtype, sharding=sharding.named(mesh, axes, shape, 'adapters'))


def abstract_slots(count: int, length: int, shape: tuple[int, int, int], dtype: Any, unroll: bool, mesh: Mesh) -> Slots:
    """Returns `count` slots with shapes and layouts in place of arrays; `shape` as for `programs.empty`."""
    shapes = jax.eval_shape(lambda: programs.empty(count, length, shape, dtype, unroll))
    layout = programs.slot_layout(mesh, shape[1], unroll)
    return jax.tree.map(
        lambda where, part: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), part),
        layout,
        shapes,
    )


def _prompts(count: int, length: int, mesh: Mesh) -> Prompts:
    rows = sampling.rows([(0, 0)] * count, [GREEDY] * count)
    where = 'engine.prefill_batch'
    numbers = _rows((count,), jnp.int32, mesh, where)
    return Prompts(
        _rows((count, length), jnp.int32, mesh, where),
        numbers,
        numbers,
        jax.tree.map(lambda x: _rows(x.shape, x.dtype, mesh, where), rows),
        numbers,
        _rows((count,), bool, mesh, where),
    )


def _rows(shape: tuple[int, ...], dtype: Any, mesh: Mesh, where: str) -> jax.ShapeDtypeStruct:
    layout = sharding.named(mesh, ('batch', *[None] * (len(shape) - 1)), shape, where)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout)

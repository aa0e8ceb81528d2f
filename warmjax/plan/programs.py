"""The programs that the study's stages run, made from shapes and layouts in place of arrays: the step that fine-tunes,
prefill, decode, and the scoring of given texts."""

import dataclasses
import functools
import math
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.decode import abstract
from warmjax.decode.abstract import Scoring
from warmjax.decode.engine import CACHE_DTYPES, EngineSettings
from warmjax.lora.adapters import LoraSettings
from warmjax.models.families import ModelSpec
from warmjax.models.quantization import Quantization
from warmjax.models.spec import Spec
from warmjax.plan import program, topology
from warmjax.plan.program import Program, ProgramPlan
from warmjax.sharding import MeshSettings
from warmjax.train import abstract as train_abstract
from warmjax.train import metrics
from warmjax.train.lora import TrainSettings

_NUM_STOPS = 4
"""Ids that end a text; of no consequence for what is planned."""


@dataclasses.dataclass(frozen=True)
class Base:
    """A base model: its dimensions, the dtype of its weights, and how its layers' kernels are stored."""

    spec: ModelSpec
    dtype: Any
    quantization: Quantization

    def widened(self) -> 'Base':
        return dataclasses.replace(self, dtype=jnp.float32)


def train_program(base: Base, settings: TrainSettings, mesh: Mesh) -> Program:
    """Makes the step that fine-tunes adapters of a model, with as many micro-batches as rows that are not packed need.

    Raises:
        ValueError: the mesh does not divide the model or the micro-batch.
    """
    one = train_abstract.train_program(base.spec, base.dtype, base.quantization, settings, mesh)
    state, frozen, batch = one.args
    size = batch['tokens'].shape
    work, tokens = metrics.lora_work(base.spec, state.trainable, None), math.prod(size)
    return Program(
        name='train',
        lower=one.lower,
        args=one.args,
        given={'weights': frozen, 'adapters': state.trainable, 'optimizer': state.opt_state, 'batch': batch},
        beside={},
        trips=size[0],
        tokens=tokens,
        flops_per_token=work.flops_per_token,
        attention_flops=work.flops_per_pair * tokens * settings.max_length,
        num_layers=base.spec.num_layers,
    )


def engine_programs(
    base: Base, settings: EngineSettings, lora_settings: LoraSettings, num_adapters: int, scoring: Scoring, mesh: Mesh
) -> dict[str, Program]:
    """Makes what generation runs: `prefill <bucket>`, `decode <cache length>` and `score <length>`.

    Slots of the longest cache and the store of shared beginnings lie beside each of them.

    Args:
        num_adapters: that lie side by side.

    Raises:
        ValueError: the mesh does not divide the model, the slots or the prompts that are prefilled at once.
    """
    made = abstract.abstract_programs(
        base.spec,
        base.dtype,
        settings,
        lora_settings,
        num_adapters,
        _NUM_STOPS,
        scoring,
        mesh,
        base.quantization,
        unroll=False,
    )
    longest = made[f'decode {settings.cache_lengths[-1]}'].args[2].cache
    shared = abstract.abstract_slots(
        settings.prefixes * settings.prefill_batch,
        settings.buckets[0],
        (base.spec.num_layers, base.spec.num_kv_heads, base.spec.head_dim),
        CACHE_DTYPES[settings.cache_dtype],
        False,
        mesh,
    ).cache
    spec, sizes = base.spec, settings
    pair = 4.0 * spec.num_layers * spec.num_heads * spec.head_dim
    programs = {}
    for name, one in made.items():
        kind, length = name.split()[0], int(name.split()[1])
        rows = {'prefill': sizes.prefill_batch, 'decode': sizes.slots, 'score': scoring.rows}[kind]
        tokens = rows * (sizes.steps if kind == 'decode' else length)
        given, beside = _sorted(kind, one.args), {'cache': (shared, longest)}
        if kind == 'decode':
            beside = {'cache': shared}
        elif kind == 'score':
            beside = {'cache': (shared, longest), 'adapters': made[f'prefill {sizes.buckets[0]}'].args[1]}
        programs[name] = Program(
            name=name,
            lower=one.lower,
            args=one.args,
            given=given,
            beside=beside,
            trips=sizes.steps if kind == 'decode' else 1,
            tokens=tokens,
            flops_per_token=2.0 * spec.num_matmul_params,
            attention_flops=pair * tokens * (length if kind == 'decode' else length / 2),
            num_layers=spec.num_layers,
        )
    return programs


def _sorted(kind: str, args: tuple) -> dict[program.Kind, Any]:
    """Returns the arguments of one of the engine's programs by kind; the model always comes first."""
    if kind == 'score':
        return {'weights': args[0], 'batch': args[1:]}
    if kind == 'prefill':
        return {'weights': args[0], 'adapters': args[1], 'batch': args[2:]}
    slots = args[2]
    return {'weights': args[0], 'adapters': args[1], 'cache': slots.cache, 'batch': (slots.tokens, slots.rows)}


def score_program(base: Base, scoring: Scoring, mesh: Mesh) -> Program:
    """Makes the program that scores given texts by a model of their own: the measuring model of warmth, a local judge.

    Raises:
        ValueError: the mesh does not divide the model or the rows.
    """
    model = abstract.abstract_model(base.spec, base.dtype, mesh, base.quantization)
    one = abstract.score_program(model, scoring, mesh)
    spec, tokens = base.spec, scoring.rows * scoring.length
    return Program(
        name=f'score {scoring.length}',
        lower=one.lower,
        args=one.args,
        given=_sorted('score', one.args),
        beside={},
        trips=1,
        tokens=tokens,
        flops_per_token=2.0 * num_matmul_params(spec),
        attention_flops=4.0 * spec.num_layers * spec.num_heads * spec.head_dim * tokens * scoring.length / 2,
        num_layers=spec.num_layers,
    )


def num_matmul_params(spec: ModelSpec) -> int:
    """Returns the weights in matrix products, output head included."""
    if isinstance(spec, Spec):
        return spec.num_matmul_params
    return spec.num_layers * (4 * spec.width**2 + 2 * spec.width * spec.mlp_dim) + spec.vocab_size * spec.width


def train_step(base: Base, settings: TrainSettings, mesh_settings: MeshSettings, topology_name: str) -> ProgramPlan:
    """Compiles the step that fine-tunes adapters of a model for a slice (see `topology.find`).

    Raises:
        ModuleNotFoundError: libtpu is not installed.
        ValueError: no such slice; the mesh does not make it, or does not divide the model or the micro-batch.
    """
    target = topology.find(topology_name)
    mesh = sharding.make_mesh(mesh_settings, target.devices)
    make = functools.partial(_train, base, settings, mesh)
    return program.plan(make, target, base.dtype == jnp.bfloat16)


def _train(base: Base, settings: TrainSettings, mesh: Mesh, wide: bool) -> Program:
    return train_program(base.widened() if wide else base, settings, mesh)

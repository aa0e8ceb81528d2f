"""Compiles the program of a training step for devices that need not be there, and reads what it will need.

The step is the one that `warmjax.train.lora` runs, made from shapes and layouts in place of arrays.
"""

import dataclasses
import math
import re
import time
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.data import packing
from warmjax.lora import adapters
from warmjax.models import decoder
from warmjax.models.quantization import Quantization
from warmjax.models.spec import Spec
from warmjax.plan import hlo
from warmjax.plan import topology as slices
from warmjax.plan.chips import chip_of
from warmjax.sharding import MeshSettings
from warmjax.train import lora, metrics
from warmjax.train.lora import TrainSettings
from warmjax.train.optimizer import make_optimizer
from warmjax.train.step import TrainState, abstract_state

GIB = 2**30

_NEEDED = re.compile(r'Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm')
"""How libtpu says that a program does not fit."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    weights, adapters, optimizer, batch: what the step is given.
    temporaries: what it needs besides, at the most.
    outputs: what it returns and does not write over what it was given.
    donated: what it does write over.
    """

    weights: int
    adapters: int
    optimizer: int
    batch: int
    temporaries: int
    outputs: int
    donated: int

    @property
    def total(self) -> int:
        return self.weights + self.adapters + self.optimizer + self.batch + self.temporaries + self.outputs


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """devices: how many, and `kind`, as JAX names them.
    micro_batches: that a step computes at the most, where no rows are packed; `work` counts all of them.
    memory: None if the program does not fit; `needed` and `limit` (bytes a device) say by how much.
    limit: memory of a device.
    work: of one device in one step; attention kernels written by hand are not in its matrix products.
    model_flops: of one device in one step, by the convention of `warmjax.train.metrics`: 4 N + 6 N_lora a token.
    attention_flops: in addition, causal attention of whole rows, forward and backward.
    compile_seconds: that the compiler took.
    """

    devices: int
    kind: str
    micro_batches: int
    needed: int
    limit: int
    memory: Memory | None
    work: hlo.Work | None
    model_flops: float
    attention_flops: float
    compile_seconds: float

    @property
    def headroom(self) -> float:
        """Share of a device's memory that stays free; negative if the program does not fit."""
        return 1 - self.needed / self.limit


@dataclasses.dataclass(frozen=True)
class Program:
    """A step and the shapes and layouts of its arguments.

    frozen: the base; `batch`: arrays [A, B, T].
    """

    step: Any
    state: TrainState
    frozen: nnx.State
    batch: dict[str, jax.ShapeDtypeStruct]
    mesh: Mesh

    def compile(self) -> jax.stages.Compiled:
        with jax.set_mesh(self.mesh):
            return self.step.lower(self.state, self.frozen, self.batch).compile()

    def memory(self, compiled: jax.stages.Compiled) -> Memory:
        stats = compiled.memory_analysis()
        return Memory(
            weights=_bytes(self.frozen),
            adapters=_bytes(self.state.trainable),
            optimizer=_bytes(self.state.opt_state),
            batch=_bytes(self.batch),
            temporaries=stats.temp_size_in_bytes,
            outputs=stats.output_size_in_bytes - stats.alias_size_in_bytes,
            donated=stats.alias_size_in_bytes,
        )


def train_program(spec: Spec, dtype: Any, kind: Quantization, settings: TrainSettings, mesh: Mesh) -> Program:
    """Makes the step that fine-tunes adapters of a model, with as many micro-batches as rows that are not packed need.

    Args:
        dtype: of the base weights, and `kind` of its layers' kernels.

    Raises:
        ValueError: the mesh does not divide the model or the micro-batch.
    """
    model = nnx.eval_shape(lambda model: decoder.quantized(model, kind), decoder.abstract(spec, dtype))
    graphdef, shapes = nnx.split(model)
    optimizer = make_optimizer(settings.optimizer, num_steps=1)
    state = abstract_state(adapters.abstract(model, settings.lora, mesh), optimizer, mesh)
    row = packing.make_row([], settings.max_length)
    size = (-(-settings.batch_size // settings.micro_batch), settings.micro_batch, settings.max_length)
    layout = sharding.named(mesh, (None, 'batch', None), size, 'config.train.micro_batch')
    return Program(
        lora.make_lora_step(graphdef, optimizer, settings, state),
        state,
        sharding.abstract_arrays(shapes, sharding.state_shardings(shapes, mesh)),
        {name: jax.ShapeDtypeStruct(size, x.dtype, sharding=layout) for name, x in row.items()},
        mesh,
    )


def train_step(
    spec: Spec, dtype: Any, kind: Quantization, settings: TrainSettings, mesh_settings: MeshSettings, topology: str
) -> StepPlan:
    """Compiles the step that fine-tunes adapters of a model for a TPU slice (see `topology.devices`).

    Args:
        dtype: of the base weights, and `kind` of its layers' kernels.

    Raises:
        ModuleNotFoundError: libtpu is not installed.
        ValueError: no such slice; the mesh does not make it, or does not divide the model or the micro-batch.
    """
    devices = slices.devices(topology)
    program = train_program(spec, dtype, kind, settings, sharding.make_mesh(mesh_settings, devices))
    micro_batches, tokens = program.batch['tokens'].shape[0], math.prod(program.batch['tokens'].shape)
    theirs = metrics.lora_work(spec, program.state.trainable, None)
    limit = int(chip_of(devices[0]).hbm_gib * GIB)
    memory = work = None
    begun = time.monotonic()
    try:
        compiled = program.compile()
        memory, work = program.memory(compiled), hlo.read(compiled.as_text(), micro_batches)
        needed = memory.total
    except jax.errors.JaxRuntimeError as error:
        needed, limit = _excess(str(error), error)
    return StepPlan(
        devices=len(devices),
        kind=devices[0].device_kind,
        micro_batches=micro_batches,
        needed=needed,
        limit=limit,
        memory=memory,
        work=work,
        model_flops=theirs.flops_per_token * tokens / len(devices),
        attention_flops=theirs.flops_per_pair * tokens * settings.max_length / len(devices),
        compile_seconds=round(time.monotonic() - begun, 1),
    )


def _excess(message: str, error: Exception) -> tuple[int, int]:
    """Returns the bytes that a program needs and those that there are, from the compiler's refusal."""
    found = _NEEDED.search(message)
    if found is None:
        raise error
    units = {'K': 2**10, 'M': 2**20, 'G': GIB}
    needed, unit, limit, limit_unit = found.groups()
    return int(float(needed) * units[unit]), int(float(limit) * units[limit_unit])


def _bytes(tree: Any) -> int:
    """Returns the bytes of abstract arrays on each of their devices."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))

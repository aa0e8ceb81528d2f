"""Compiles one program for devices that need not be there, and reads what it will need.

A program is one that a stage runs, made from shapes and layouts in place of arrays (`warmjax.plan.programs`).
"""

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax

from warmjax.plan import hlo
from warmjax.plan.topology import Slice

GIB = 2**30

Kind = Literal['weights', 'adapters', 'optimizer', 'cache', 'batch']
"""What lies on a device: base weights, adapters, optimizer state, keys and values of texts, all other input."""

_REFUSAL = re.compile(r'(?:Used |memory required for HLO temporaries \()([\d.]+)([KMG])\)? (?:of|exceeds)')
"""How libtpu says that a program does not fit: the sum of what it is given and its temporaries, and in the second form
up to 0.3 GiB that it reserves. (A step with 15.51 GiB given and 0.21 of temporaries was refused for "temporaries" of
16.00.)"""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    weights, adapters, optimizer, cache, batch: see `Kind`; what the program is given, and what else lies there.
    activations: that the forward pass keeps of each layer for the backward pass.
    temporaries: what it needs besides, at the most.
    outputs: what it returns and does not write over what it was given.
    donated: what it does write over.
    """

    weights: int
    adapters: int
    optimizer: int
    cache: int
    batch: int
    activations: int
    temporaries: int
    outputs: int
    donated: int

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self)) - self.donated


@dataclasses.dataclass(frozen=True)
class Program:
    """A jitted function and what it is called with.

    name: `train`, `prefill 256`, `decode 768`, `score 1024`.
    lower: with its arguments, `args`.
    given: these by kind.
    beside: what else is on the devices while it runs.
    trips: of its loops whose bound is data (micro-batches of a step, tokens of a call to decode).
    tokens: that a call computes, on all devices, padding included.
    flops_per_token, attention_flops: what a model must multiply for a token, and for all pairs of tokens of a call, by
        the convention of `train.metrics`.
    num_layers: of the model.
    """

    name: str
    lower: Callable[[], jax.stages.Lowered]
    args: tuple[Any, ...]
    given: Mapping[Kind, Any]
    beside: Mapping[Kind, Any]
    trips: int
    tokens: int
    flops_per_token: float
    attention_flops: float
    num_layers: int

    def compile(self) -> jax.stages.Compiled:
        return self.lower().compile()

    def memory(self, compiled: jax.stages.Compiled, kept: int, share: float = 1.0) -> Memory:
        """Reads what the compiled program needs.

        Args:
            kept: bytes of its temporaries that are activations.
            share: of its temporaries and outputs that count.
        """
        stats = compiled.memory_analysis()
        kept = min(kept, stats.temp_size_in_bytes)
        return Memory(
            **self.held(),
            activations=round(share * kept),
            temporaries=round(share * (stats.temp_size_in_bytes - kept)),
            outputs=round(share * (stats.output_size_in_bytes - stats.alias_size_in_bytes)),
            donated=stats.alias_size_in_bytes,
        )

    def held(self) -> dict[Kind, int]:
        """Returns the bytes a device that are there before the program runs."""
        kinds = ('weights', 'adapters', 'optimizer', 'cache', 'batch')
        return {kind: _bytes(self.given.get(kind, ())) + _bytes(self.beside.get(kind, ())) for kind in kinds}


@dataclasses.dataclass(frozen=True)
class ProgramPlan:
    """What a program will need on a slice; all numbers but `devices` and `tokens` are of one device and one call.

    devices: how many, and `kind`, as they are called.
    is_compiled: for these devices; otherwise estimated from what is compiled for CPU.
    trips, tokens: see `Program`.
    needed, limit: bytes.
    memory: of a program that the compiler refused, activations are among temporaries; of one that is not compiled, as
        what it is given does not fit, there is this alone.
    work: None for both; attention kernels written by hand are not in its matrix products.
    model_flops: what must be multiplied, attention left out; `attention_flops` for that.
    compile_seconds: that the compiler took.
    """

    name: str
    devices: int
    kind: str
    is_compiled: bool
    trips: int
    tokens: int
    needed: int
    limit: int
    memory: Memory
    work: hlo.Work | None
    model_flops: float
    attention_flops: float
    compile_seconds: float

    @property
    def headroom(self) -> float:
        """Share of a device's memory that stays free; negative if the program does not fit."""
        return 1 - self.needed / self.limit

    @property
    def flops(self) -> float:
        """What is multiplied, kernels written by hand included; 0 if the program was refused."""
        if self.work is None:
            return 0.0
        return self.work.matmul_flops + (self.attention_flops if self.work.has_kernels else 0.0)


Make = Callable[[bool], Program]
"""wide → program; a wide one computes in float32, whatever the settings say."""


def plan(make: Make, target: Slice, narrow: bool) -> ProgramPlan:
    """Compiles a program for a slice; for GPUs, compiles it for CPU and estimates.

    XLA has no bfloat16 products on CPU and keeps wide copies of all that is narrow. So the estimate compiles a program
    that is wide throughout, and counts half of what it needs and moves.

    Args:
        narrow: whether the program computes in bfloat16.
    """
    program = make(False)
    is_halved = narrow and not target.is_compiled
    share = 0.5 if is_halved else 1.0
    limit, work = int(target.chip.hbm_gib * GIB), None
    memory = Memory(**program.held(), activations=0, temporaries=0, outputs=0, donated=0)
    begun = time.monotonic()
    try:
        if memory.total <= limit:
            compiled = (make(True) if is_halved else program).compile()
            work = hlo.read(compiled.as_text(), program.trips, program.num_layers, len(target.devices))
            memory, work = program.memory(compiled, work.kept_bytes, share), work.scaled(share)
    except jax.errors.JaxRuntimeError as error:
        given = sum(_bytes(tree) for tree in program.given.values())
        memory = dataclasses.replace(memory, temporaries=_refused(error, given))
    return ProgramPlan(
        name=program.name,
        devices=len(target.devices),
        kind=target.devices[0].device_kind if target.is_compiled else target.chip.name,
        is_compiled=target.is_compiled,
        trips=program.trips,
        tokens=program.tokens,
        needed=memory.total,
        limit=limit,
        memory=memory,
        work=work,
        model_flops=program.flops_per_token * program.tokens / len(target.devices),
        attention_flops=program.attention_flops / len(target.devices),
        compile_seconds=round(time.monotonic() - begun, 1),
    )


def _refused(error: Exception, given: int) -> int:
    """Returns the bytes of a program's temporaries, from the compiler's refusal.

    Args:
        given: bytes of its arguments.
    """
    refusal = _REFUSAL.search(str(error))
    if not refusal:
        raise error
    size, unit = refusal.groups()
    return int(float(size) * {'K': 2**10, 'M': 2**20, 'G': GIB}[unit]) - given


def _bytes(tree: Any) -> int:
    """Returns the bytes of abstract arrays on each of their devices."""
    leaves = [x for x in jax.tree.leaves(tree) if hasattr(x, 'shape')]
    return sum(math.prod(_shard(x)) * x.dtype.itemsize for x in leaves)


def _shard(x: jax.ShapeDtypeStruct) -> tuple[int, ...]:
    return x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)

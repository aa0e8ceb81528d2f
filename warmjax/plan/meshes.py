"""Mesh shapes that a slice can have, the most promising first, by arithmetic alone: nothing is compiled.

The formulas are those of https://jax-ml.github.io/scaling-book (chapters on training and inference): weights gathered
over `fsdp` beside the products, activations summed over `tensor` between them.
"""

import dataclasses
import itertools

import jax.numpy as jnp

from warmjax.experiment import Experiment
from warmjax.models.spec import Spec
from warmjax.plan.program import GIB
from warmjax.plan.programs import Base
from warmjax.plan.topology import Slice
from warmjax.plan.workload import Workload
from warmjax.sharding import MeshSettings

_BYTES = {'none': 2.0, 'int8': 1.0, 'nf4': 0.53125}
"""A weight of a layer, with its share of scales."""
_CACHE_BYTES = {'float32': 4, 'bfloat16': 2, 'int8': 1}
_ROOM = 0.9
"""Share of a device's memory that may be promised: temporaries are not counted here."""


@dataclasses.dataclass(frozen=True)
class Guess:
    """seconds: of a training step, or of a decoding step for each of its texts.
    bytes: on a device, at the least.
    """

    mesh: MeshSettings
    seconds: float
    bytes: float


def ranked(setup: Experiment, base: Base, stage: str, target: Slice, workload: Workload) -> list[Guess]:
    """Returns the meshes of a slice that divide the model: first those that should fit, and of them the fastest."""
    limit = _ROOM * target.chip.hbm_gib * GIB
    shapes = [
        mesh
        for mesh in _shapes(len(target.devices))
        if _divides(base.spec, mesh) and (stage != 'train' or mesh.data * mesh.fsdp <= setup.train.batch_size)
    ]
    guesses = [guess(setup, base, stage, mesh, target, workload) for mesh in shapes]
    return sorted(guesses, key=lambda one: (max(one.bytes - limit, 0), one.seconds, one.mesh.tensor))


def guess(setup: Experiment, base: Base, stage: str, mesh: MeshSettings, target: Slice, workload: Workload) -> Guess:
    """Reckons what a stage takes on a mesh."""
    return (_train if stage == 'train' else _decode)(setup, base, mesh, target, workload)


def weight_bytes(base: Base, mesh: MeshSettings) -> float:
    """Returns the bytes of the base weights on a device."""
    spec = base.spec
    head = spec.vocab_size * spec.width
    layers = spec.num_matmul_params - head
    wide = float(jnp.dtype(base.dtype).itemsize)
    each = wide if base.quantization == 'none' else _BYTES[base.quantization]
    return (layers * each + (1 if spec.tied else 2) * head * wide) / (mesh.fsdp * mesh.tensor)


def _shapes(count: int) -> list[MeshSettings]:
    powers = [2**i for i in range(count.bit_length())]
    shapes = itertools.product(powers, powers, powers)
    return [MeshSettings(*shape) for shape in shapes if shape[0] * shape[1] * shape[2] == count]


def _divides(spec: Spec, mesh: MeshSettings) -> bool:
    heads = (spec.num_heads, spec.num_kv_heads * spec.head_dim, spec.mlp_dim, spec.vocab_size)
    return spec.width % mesh.fsdp == 0 and all(size % mesh.tensor == 0 for size in heads)


def _train(setup: Experiment, base: Base, mesh: MeshSettings, target: Slice, workload: Workload) -> Guess:
    spec, settings, parts = base.spec, setup.train, mesh.data * mesh.fsdp
    rows = -(-settings.micro_batch // parts) * parts
    micro_batches = -(-settings.batch_size // rows)
    here = rows / parts * settings.max_length
    # XLA gathers over `tensor` too where a copy is cut over both: 264 GB a step for 70B on v5e:8x8, as compiled.
    gathered = weight_bytes(base, mesh) * (mesh.fsdp * mesh.tensor - 1) if mesh.fsdp > 1 else 0.0
    summed = 4 * spec.num_layers * here * spec.width * 2 * 2 * (mesh.tensor - 1) / mesh.tensor
    passes = {'full': 6, 'attention': 5}.get(settings.remat, 4)
    compute = passes * spec.num_matmul_params * micro_batches * rows * settings.max_length
    kept = spec.width
    if settings.remat != 'full':
        kept += spec.width + 2 * (spec.num_heads + spec.num_kv_heads) * spec.head_dim
    if settings.remat in ('names', 'none'):
        kept += 2 * spec.mlp_dim
    sums = summed / (target.bandwidth(mesh.tensor) * 1e9)
    seconds = micro_batches * sums + max(
        compute / len(target.devices) / (target.chip.peak_tflops * 1e12),
        micro_batches * 2 * gathered / (target.bandwidth(mesh.fsdp * mesh.tensor) * 1e9),
        micro_batches * 2 * weight_bytes(base, mesh) * mesh.fsdp / (target.chip.hbm_bandwidth * 1e9),
    )
    return Guess(mesh, seconds, weight_bytes(base, mesh) + 2 * spec.num_layers * kept / mesh.tensor * here)


def _decode(setup: Experiment, base: Base, mesh: MeshSettings, target: Slice, workload: Workload) -> Guess:
    spec, engine, parts = base.spec, workload.engine, mesh.data * mesh.fsdp
    rows, prefilled = -(-engine.slots // parts), -(-engine.prefill_batch // parts)
    heads = spec.num_kv_heads / mesh.tensor if spec.num_kv_heads % mesh.tensor == 0 else spec.num_kv_heads
    token = 2 * spec.num_layers * heads * spec.head_dim * _CACHE_BYTES[engine.cache_dtype]
    weights = weight_bytes(base, mesh)
    summed = 2 * spec.num_layers * rows * spec.width * 2 * 2 * (mesh.tensor - 1) / mesh.tensor
    seconds = summed / (target.bandwidth(mesh.tensor) * 1e9) + max(
        2 * spec.num_matmul_params * rows / mesh.tensor / (target.chip.peak_tflops * 1e12),
        (weights * mesh.fsdp + rows * engine.cache_lengths[0] * token) / (target.chip.hbm_bandwidth * 1e9),
        weights * (mesh.fsdp - 1) / (target.bandwidth(mesh.fsdp) * 1e9),
    )
    # Shared beginnings lie beside the texts in slots.
    cache = (rows * engine.cache_lengths[-1] + engine.prefixes * prefilled * engine.buckets[0]) * token
    return Guess(mesh, seconds / engine.slots, weights + cache)

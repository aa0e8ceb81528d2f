"""Loads a Hugging Face checkpoint folder into its model: byte ranges of the files go straight to the devices.

Tensors arrive as they lie on disk and are turned, cast and stacked on the devices; the host holds a few blocks of rows
at a time. A process reads a block once, whatever devices share it. CPU devices have the host's own memory, which is
read into where it will stay. Where a mesh spans processes, each tensor is cut by rows over all devices, and the devices
exchange what the model's layout asks for:

    disk, [out, in]     rows 0-1    rows 2-3    rows 4-5    rows 6-7
    devices                0           1           2           3

so that every byte is read once by all processes together, in one range each, however the layout cuts or copies columns.

Strict: what is missing, what is there too much, what has the wrong shape or type and what the config contradicts is
collected and raised once.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from warmjax import sharding
from warmjax.models import decoder, families, hf_files, hf_rules, quantization, safetensors_file
from warmjax.models.families import Model, ModelSpec
from warmjax.models.quantization import Quantization
from warmjax.models.safetensors_file import Entry
from warmjax.models.spec import Spec, read_config

BLOCK_BYTES = 64 * 2**20
"""Most bytes that are read at once."""
THREADS = 4
"""Blocks that are read at the same time; as many again wait for their device."""


def load(folder: epath.PathLike, dtype, mesh: Mesh) -> Model:
    """Loads a checkpoint.

    Args:
        folder: a path or URL; holds config.json and model.safetensors, or several such files with or without an index.
        dtype: of the parameters in memory.
        mesh: where they go (`warmjax.sharding`).

    Raises:
        FileNotFoundError: no config.json or no safetensors file.
        ValueError: the checkpoint does not hold exactly the tensors of its config; all problems in one message.
    """
    spec, entries = check(folder)
    graphdef, shapes = nnx.split(families.abstract(spec, dtype))
    plans = _plans(spec, entries, dict(nnx.to_flat_state(shapes)), mesh)
    arrays = (_fill_on_host if _is_host_memory(mesh) else _fill_on_devices)(plans, dtype)
    filled = [(plan.rule.ours, plan.variable.replace(array)) for plan, array in zip(plans, arrays, strict=True)]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def load_quantized(folder: epath.PathLike, dtype, kind: Quantization, mesh: Mesh) -> Model:
    """Loads a checkpoint, its layers' kernels stored in fewer bits (`models.quantization`).

    A layer is quantised as soon as it is read; the devices hold no more than one of them wide.

    Args:
        folder, dtype, mesh: as for `load`.

    Raises:
        FileNotFoundError, ValueError: as `load`; also for a family that is not quantised, and a mesh that does not
            divide the scales.
    """
    if kind == 'none':
        return load(folder, dtype, mesh)
    spec, entries = check(folder)
    if not isinstance(spec, Spec):
        raise ValueError(f"model.quantization: expected 'none' for a model of type {spec.model_type}, got {kind!r}")
    wide = families.abstract(spec, dtype)
    plans = _plans(spec, entries, dict(nnx.to_flat_state(nnx.state(wide))), mesh)
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda model: decoder.quantized(model, kind), wide))
    shapes, filled = dict(nnx.to_flat_state(shapes)), []
    data = _read_ahead(block for plan in plans for part in plan.parts for block in part.blocks)
    for plan in plans:
        path = plan.rule.ours
        if path[-1] == 'kernel':
            stacks = {name: _Stack(shapes[name], mesh, '.'.join(name)) for name in (path, (*path[:-1], 'scale'))}
            _assemble_quantized(plan, dtype, kind, list(stacks.values()), data)
            filled += [(name, stack.variable.replace(stack.whole)) for name, stack in stacks.items()]
        else:
            filled.append((path, plan.variable.replace(_assemble(plan, dtype, data))))
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def _plans(spec: ModelSpec, entries: dict[str, Entry], shapes: dict[tuple, nnx.Variable], mesh: Mesh) -> list['_Plan']:
    plans = []
    for rule in hf_rules.rules(spec):
        variable = shapes[rule.ours]
        target = sharding.named(mesh, variable.logical_axes, variable.shape, '.'.join(rule.ours))
        names = [name for name, _ in hf_rules.tensors(rule, spec)]
        plans.append(_Plan(rule, variable, target, tuple(_placed(entries[name], rule, target) for name in names)))
    return plans


def check(folder: epath.PathLike) -> tuple[ModelSpec, dict[str, Entry]]:
    """Compares a folder's files with its config.json, without loading anything.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    config = read_config(folder)
    entries, problems = hf_files.find_tensors(folder)
    try:
        spec = families.spec_from_config(config, f'{folder}/config.json')
    except ValueError as error:
        problems.append(str(error))
    else:
        entries = {hf_rules.full_name(name, spec): entry for name, entry in entries.items()}
        problems += _mismatches(entries, spec) + _untied(entries, spec)
    if problems:
        raise ValueError(
            f'{folder}: expected the tensors of its config.json, got {len(problems)} problems:\n  '
            + '\n  '.join(problems)
            + '\nfetch the checkpoint again, or mend its config.json'
        )
    return spec, entries


def stored_dtype(folder: epath.PathLike) -> np.dtype:
    """Returns the dtype in which a checkpoint stores its embedding table."""
    spec, entries = check(folder)
    return entries[hf_rules.rules(spec)[0].theirs].dtype


def _mismatches(entries: dict[str, Entry], spec: ModelSpec) -> list[str]:
    shapes = {
        path: variable.shape for path, variable in nnx.to_flat_state(nnx.state(families.abstract(spec, jnp.float32)))
    }
    problems, expected = [], set()
    for rule in hf_rules.rules(spec):
        for name, layer in hf_rules.tensors(rule, spec):
            expected.add(name)
            shape = shapes[rule.ours][0 if layer is None else 1 :]
            shape = shape[::-1] if rule.transposed else shape
            if name not in entries:
                problems.append(f'missing {name} {list(shape)}')
            elif entries[name].shape != shape:
                problems.append(f'{name} expected shape {list(shape)}, got {list(entries[name].shape)}')
            elif not jnp.issubdtype(entries[name].dtype, jnp.floating):
                problems.append(f'{name} expected floating point, got {entries[name].dtype}')
    if spec.tied:
        expected.add(hf_rules.HEAD)
    extra = [name for name in entries if name not in expected and not name.endswith(hf_rules.IGNORED)]
    return problems + [f'unexpected {name} {list(entries[name].shape)}' for name in sorted(extra)]


def _untied(entries: dict[str, Entry], spec: ModelSpec) -> list[str]:
    """A tied checkpoint may store its head too, but then it must equal the embedding."""
    name = hf_rules.rules(spec)[0].theirs
    head, table = entries.get(hf_rules.HEAD), entries.get(name)
    if not (spec.tied and head and table):
        return []
    equal = head.shape == table.shape and all(
        np.array_equal(head.read_rows(*rows), table.read_rows(*rows)) for rows in _row_blocks(table, 0, table.shape[0])
    )
    if equal:
        return []
    return [f'{hf_rules.HEAD} differs from {name}, though config.json says that they are tied']


@dataclasses.dataclass(frozen=True)
class _Block:
    """Rows [start, stop) of a tensor, and the devices of this process that get them with the columns they get, as
    rows from `offset` on of their part of the tensor."""

    entry: Entry
    start: int
    stop: int
    offset: int
    owners: tuple[tuple[jax.Device, tuple[slice, ...]], ...]


@dataclasses.dataclass(frozen=True)
class _Placed:
    """A tensor laid out over the mesh as it lies on disk; the blocks of a device follow each other."""

    entry: Entry
    source: NamedSharding
    blocks: tuple[_Block, ...]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How one parameter is put together from its tensors, one a layer where it is stacked."""

    rule: hf_rules.Rule
    variable: nnx.Variable
    target: NamedSharding
    parts: tuple[_Placed, ...]

    @property
    def is_stacked(self) -> bool:
        return len(self.variable.shape) > len(self.parts[0].entry.shape)

    @property
    def part_target(self) -> NamedSharding:
        """The layout of one tensor within the parameter's."""
        return NamedSharding(self.target.mesh, PartitionSpec(*self.target.spec[1 if self.is_stacked else 0 :]))


def _placed(entry: Entry, rule: hf_rules.Rule, target: NamedSharding) -> _Placed:
    mesh = target.mesh
    if mesh.is_multi_process:
        source = NamedSharding(mesh, PartitionSpec(_row_axes(mesh, entry.shape[0])))
    else:
        axes = target.spec[len(target.spec) - len(entry.shape) :]
        source = NamedSharding(mesh, PartitionSpec(*(axes[::-1] if rule.transposed else axes)))
    owners = collections.defaultdict(list)
    for device, (rows, *columns) in source.addressable_devices_indices_map(entry.shape).items():
        owners[rows.indices(entry.shape[0])[:2]].append((device, tuple(columns)))
    blocks = [
        _Block(entry, start, stop, start - first, tuple(owners[first, last]))
        for first, last in sorted(owners)
        for start, stop in _row_blocks(entry, first, last)
    ]
    return _Placed(entry, source, tuple(blocks))


def _row_axes(mesh: Mesh, rows: int) -> tuple[str, ...]:
    """Returns the most mesh axes over which the rows can be cut evenly."""
    names = mesh.axis_names
    choices = [axes for size in range(len(names) + 1) for axes in itertools.combinations(names, size)]
    parts = {axes: math.prod(mesh.shape[name] for name in axes) for axes in choices}
    return max((axes for axes in choices if rows % parts[axes] == 0), key=parts.get)


def _row_blocks(entry: Entry, start: int, stop: int) -> list[tuple[int, int]]:
    """Cuts rows [start, stop) into ranges of at most BLOCK_BYTES, or of one row."""
    step = max(1, BLOCK_BYTES * entry.shape[0] // max(1, entry.num_bytes))
    return [(row, min(row + step, stop)) for row in range(start, stop, step)]


def _is_host_memory(mesh: Mesh) -> bool:
    """Says whether this process can write all that the devices hold."""
    return not mesh.is_multi_process and all(device.platform == 'cpu' for device in mesh.devices.flat)


def _fill_on_host(plans: Sequence[_Plan], dtype) -> list[jax.Array]:
    """Reads the parameters straight into the memory that CPU devices then take over."""
    shards = [_empty_shards(plan, dtype) for plan in plans]
    jobs = [
        (block, [_rows_of(plan, of_device[device], i, block) for device, _ in block.owners])
        for plan, of_device in zip(plans, shards, strict=True)
        for i, part in enumerate(plan.parts)
        for block in part.blocks
    ]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(_fill, *zip(*jobs, strict=True)))  # asked for its results, it raises what a thread raised
    return [
        jax.make_array_from_single_device_arrays(
            plan.variable.shape, plan.target, [jax.device_put(shard, device) for device, shard in of_device.items()]
        )
        for plan, of_device in zip(plans, shards, strict=True)
    ]


def _empty_shards(plan: _Plan, dtype) -> dict[jax.Device, np.ndarray]:
    shape = plan.target.shard_shape(plan.variable.shape)
    return {device: safetensors_file.aligned(shape, dtype) for device in plan.target.addressable_devices}


def _rows_of(plan: _Plan, shard: np.ndarray, layer: int, block: _Block) -> np.ndarray:
    """Returns the place of a block within a device's shard, axes as on disk."""
    part = shard[layer] if plan.is_stacked else shard
    return (part.T if plan.rule.transposed else part)[block.offset : block.offset + block.stop - block.start]


def _fill(block: _Block, places: Sequence[np.ndarray]) -> None:
    """Reads a block into its places: at once where it is one place's very bytes, else cut, cast and turned."""
    first, shape = places[0], (block.stop - block.start, *block.entry.shape[1:])
    if len(places) == 1 and (first.dtype, first.shape) == (block.entry.dtype, shape) and first.flags.c_contiguous:
        block.entry.read_into(first, block.start)
        return
    rows = block.entry.read_rows(block.start, block.stop)
    for place, (_, columns) in zip(places, block.owners, strict=True):
        place[...] = rows[:, *columns]


def _fill_on_devices(plans: Sequence[_Plan], dtype) -> list[jax.Array]:
    """Reads the parameters block by block; they are turned, cast and stacked on the devices."""
    data = _read_ahead(block for plan in plans for part in plan.parts for block in part.blocks)
    return [_assemble(plan, dtype, data) for plan in plans]


def _read_ahead(blocks: Iterable[_Block]) -> Iterator[np.ndarray]:
    """Yields the blocks' data in order, read by threads that are at most 2 * THREADS blocks ahead."""
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        pending = collections.deque()
        for block in blocks:
            pending.append(pool.submit(block.entry.read_rows, block.start, block.stop))
            if len(pending) == 2 * THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _assemble(plan: _Plan, dtype, data: Iterator[np.ndarray]) -> jax.Array:
    """Puts one parameter together from the next blocks of `data`."""
    turn = _turn(plan.part_target, plan.rule.transposed, dtype)
    if not plan.is_stacked:
        return turn(_put(plan.parts[0], data)).block_until_ready()
    stack = _Stack(plan.variable, plan.target.mesh, '.'.join(plan.rule.ours))
    for part in plan.parts:
        stack.append(turn(_put(part, data)))
    return stack.whole


def _assemble_quantized(
    plan: _Plan, dtype, kind: Quantization, stacks: Sequence['_Stack'], data: Iterator[np.ndarray]
) -> None:
    """Fills the stacks of a kernel's codes and scales from the next blocks of `data`."""
    turn = _turn(plan.part_target, plan.rule.transposed, dtype)
    targets = tuple(stack.layer_target for stack in stacks)
    quantize = jax.jit(functools.partial(quantization.quantize, kind=kind), out_shardings=targets)
    for part in plan.parts:
        for stack, layer in zip(stacks, quantize(turn(_put(part, data))), strict=True):
            stack.append(layer)


class _Stack:
    """A parameter of all layers on the devices, filled layer by layer."""

    def __init__(self, variable: nnx.Variable, mesh: Mesh, where: str):
        self.variable = variable
        self._target = sharding.named(mesh, variable.logical_axes, variable.shape, where)
        zeros = functools.partial(jnp.zeros, variable.shape, variable.dtype)
        self.whole = jax.jit(zeros, out_shardings=self._target)()
        self._filled = 0

    @property
    def layer_target(self) -> NamedSharding:
        return NamedSharding(self._target.mesh, PartitionSpec(*self._target.spec[1:]))

    def append(self, layer: jax.Array) -> None:
        self.whole = _set_layer(self._target)(self.whole, layer, self._filled).block_until_ready()
        self._filled += 1


def _put(part: _Placed, data: Iterator[np.ndarray]) -> jax.Array:
    """Puts the next blocks of `data` on their devices and joins them there."""
    pieces = collections.defaultdict(list)
    for block in part.blocks:
        rows = next(data)
        for device, columns in block.owners:
            pieces[device].append(jax.device_put(np.ascontiguousarray(rows[:, *columns]), device))
    shards = [blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks) for blocks in pieces.values()]
    return jax.make_array_from_single_device_arrays(part.entry.shape, part.source, shards)


@functools.cache
def _turn(target: NamedSharding, transposed: bool, dtype):
    return jax.jit(lambda x: (x.T if transposed else x).astype(dtype), out_shardings=target)


@functools.cache
def _set_layer(target: NamedSharding):
    set_layer = functools.partial(jax.lax.dynamic_update_index_in_dim, axis=0)
    return jax.jit(set_layer, donate_argnums=0, out_shardings=target)

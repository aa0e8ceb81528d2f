"""The device mesh, and the one table that says which array axis lies on which mesh axis.

Models name the axes of their arrays by meaning ('embed', 'heads', ...); only this table knows the mesh. The mesh axes
are `data` (copies of the base weights), `fsdp` (base weights cut along the width, gathered when used) and `tensor`
(heads, feed-forward and vocabulary cut, activations summed). Both `data` and `fsdp` split the batch.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from warmjax.validation import STRICT

MESH_AXES = ('data', 'fsdp', 'tensor')

RULES: dict[str | None, str | tuple[str, ...] | None] = {
    'batch': ('data', 'fsdp'),
    'copy_batch': 'data',
    'embed': 'fsdp',
    'heads': 'tensor',
    'kv_heads': 'tensor',
    'mlp': 'tensor',
    'vocab': 'tensor',
    'vocab_cut': ('fsdp', 'tensor'),
    'adapter': ('tensor', 'fsdp'),
    'layers': None,
    'rank': None,
    None: None,
}
"""Logical axis → mesh axis. An axis that is not in this table is an error.

`copy_batch` and `vocab_cut` are those of the loss, for which a copy of the model cuts the vocabulary, not the rows."""


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """Sizes of the mesh axes; their product must be the number of devices, and one of them may be -1 ("the rest").

    data: copies of the model, each with its part of the batch.
    fsdp: over how many devices a copy's base weights are cut along the width.
    tensor: over how many devices heads, feed-forward and vocabulary are cut.
    """

    __pydantic_config__ = STRICT
    data: int
    fsdp: int
    tensor: int


def platform() -> str:
    """Names the platform of the mesh in force, or of the process where there is none."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.default_backend() if mesh.empty else mesh.abstract_device.platform


def make_mesh(settings: MeshSettings, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh over all devices, or over those given.

    Raises:
        ValueError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = [settings.data, settings.fsdp, settings.tensor]
    fixed = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and fixed > 0 and len(devices) % fixed == 0:
        shape[shape.index(-1)] = len(devices) // fixed
    if min(shape) < 1 or math.prod(shape) != len(devices):
        raise ValueError(
            f'config.mesh: expected data x fsdp x tensor to make the {len(devices)} devices of this run, '
            f'got {settings.data} x {settings.fsdp} x {settings.tensor}; set one of them to -1 for the rest'
        )
    types = (AxisType.Auto,) * 3
    try:
        return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=devices)
    except NotImplementedError:  # 2 x 8 of a torus of 4 x 4, where an axis of the torus must be split
        arranged = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(arranged, MESH_AXES, axis_types=types)


def make_replica_mesh(settings: MeshSettings) -> Mesh:
    """Builds the mesh on which this process answers prompts.

    Where a copy of the model (fsdp x tensor) has room on the process's own devices, these alone make it, `data` as
    often as they allow, and processes share out the prompts. A copy that is cut over more devices lies on those of all
    processes, which answer together.

    Raises:
        ValueError: the sizes do not multiply to the number of devices.
    """
    local = jax.local_devices()
    if jax.process_count() == 1 or settings.fsdp * settings.tensor > len(local):
        return make_mesh(settings)
    if min(settings.fsdp, settings.tensor) > 0:
        settings = dataclasses.replace(settings, data=-1)
    return make_mesh(settings, local)


def is_shared(mesh: Mesh) -> bool:
    """Tells whether a mesh has devices of other processes."""
    return any(device.process_index != jax.process_index() for device in mesh.devices.flat)


def partition(axes: Sequence[str | None]) -> PartitionSpec:
    """Translates logical axes into a PartitionSpec.

    Raises:
        ValueError: an axis that the table does not know, or two that fall on the same mesh axis.
    """
    unknown = [axis for axis in axes if axis not in RULES]
    if unknown:
        raise ValueError(f'sharding: expected logical axes of {sorted(filter(None, RULES))}, got {unknown}')
    placed = [RULES[axis] for axis in axes]
    used = [name for entry in placed if entry for name in ((entry,) if isinstance(entry, str) else entry)]
    if len(used) != len(set(used)):
        raise ValueError(f'sharding: expected every mesh axis once, got {tuple(axes)} -> {placed}; mend RULES')
    return PartitionSpec(*placed)


def named(mesh: Mesh, axes: Sequence[str | None], shape: Sequence[int], where: str) -> NamedSharding:
    """Returns the sharding of an array with these logical axes.

    Raises:
        ValueError: a dimension that its mesh axes do not divide.
    """
    spec = partition(axes)
    for axis, size, entry in zip(axes, shape, spec, strict=True):
        parts = math.prod(mesh.shape[name] for name in ((entry,) if isinstance(entry, str) else entry or ()))
        if size % parts:
            raise ValueError(
                f'{where}: expected axis {axis!r} of size {size} to be cut into {parts} equal parts, it does not '
                f'divide; choose another config.mesh ({dict(mesh.shape)})'
            )
    return NamedSharding(mesh, spec)


def state_shardings(state: nnx.State, mesh: Mesh) -> nnx.State:
    """Returns, leaf for leaf of a (possibly abstract) state, the sharding that its `logical_axes` ask for."""
    flat = [
        (path, variable.replace(named(mesh, variable.logical_axes, variable.shape, '.'.join(map(str, path)))))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.from_flat_state(flat)


def abstract_arrays(shapes: Any, shardings: Any) -> Any:
    """Returns, leaf for leaf, shape and dtype of an array with its layout."""
    return jax.tree.map(lambda x, layout: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout), shapes, shardings)


def abstract_replicas(shapes: Any, mesh: Mesh) -> Any:
    """Returns, leaf for leaf, shape and dtype of an array that every device of the mesh has whole."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins the layout of an activation inside a jitted function; without a mesh in force, does nothing."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition(axes))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts every leaf whole on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def put_batch(batch: Any, mesh: Mesh, batch_axis: int = 0, size: int | None = None) -> Any:
    """Lays a tree of host arrays out over the mesh, their `batch_axis` cut over `data` and `fsdp`, the others whole.

    Args:
        size: length of the whole batch axis, of which the arrays hold this process's `local_rows`; None where the
            arrays are whole.
    """
    axes = (None,) * batch_axis + ('batch',)

    def put(path: tuple, x: np.ndarray) -> jax.Array:
        where = f'batch {jax.tree_util.keystr(path, simple=True, separator=".")!r}'
        shape = list(x.shape)
        shape[batch_axis] = size or shape[batch_axis]
        layout = named(mesh, axes + (None,) * (x.ndim - len(axes)), shape, where)
        if size is None:
            return jax.device_put(x, layout)
        return jax.make_array_from_process_local_data(layout, x, tuple(shape))

    return jax.tree_util.tree_map_with_path(put, batch)


def local_rows(mesh: Mesh, size: int) -> list[int]:
    """Returns which rows of a batch of `size` lie on this process's devices.

    Raises:
        ValueError: the mesh does not divide the batch.
    """
    layout = named(mesh, ('batch',), (size,), 'batch')
    parts = layout.addressable_devices_indices_map((size,)).values()
    return sorted({i for (part,) in parts for i in range(size)[part]})

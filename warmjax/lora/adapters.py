"""Low-rank adapters: y = x W + scale dropout(x) A B, for any of the linear maps of a decoder (arXiv 2106.09685).

Adapters are a plain tree beside the model: name of a linear map → {`a` [L, in, R], `b` [L, R, out]}, in float32 (a
bfloat16 entry does not move under an update of 1e-5). B starts at zero, so a new adapter changes nothing.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.lora.placement import LoraSettings, placements
from warmjax.models.decoder import Decoder, StackedAdapters
from warmjax.models.layers import LINEARS, linears


@dataclasses.dataclass(frozen=True)
class LinearMap:
    """Where a linear map of the model lies: input and output width, and their logical axes."""

    dims: tuple[int, int]
    axes: tuple[str, str]


def linear_maps(model: Decoder) -> dict[str, LinearMap]:
    """Finds the linear maps of a (possibly abstract) model's layers by name."""
    maps = {linear.name: LinearMap(linear.dims, linear.axes) for linear in linears(model.layers)}
    return {name: maps[name] for name in LINEARS}


def init(model: Decoder, settings: LoraSettings, seed: int, mesh: Mesh) -> StackedAdapters:
    """Makes new adapters as PEFT does: A uniform within 1 / sqrt(in), B zero."""
    return jax.jit(lambda: _draw(model, settings, seed), out_shardings=shardings(model, settings, mesh))()


def abstract(model: Decoder, settings: LoraSettings, mesh: Mesh) -> StackedAdapters:
    """Returns adapters of a (possibly abstract) model with shapes and layouts in place of arrays."""
    shapes = jax.eval_shape(lambda: _draw(model, settings, 0))
    return sharding.abstract_arrays(shapes, shardings(model, settings, mesh))


def shardings(model: Decoder, settings: LoraSettings, mesh: Mesh) -> dict:
    """Returns the layout of adapters, whole along the rank: cut over all devices that hold one copy of the model, or,
    where that does not divide their linear map, as it is cut."""
    maps, layers = linear_maps(model), model.spec.num_layers
    tree = {}
    for name, placement in placements(settings, layers).items():
        (size_in, size_out), (axis_in, axis_out), rank = maps[name].dims, maps[name].axes, placement.width
        in_axes = ('layers', _cut(axis_in, size_in, mesh), 'rank')
        out_axes = ('layers', 'rank', _cut(axis_out, size_out, mesh))
        tree[name] = {
            'a': sharding.named(mesh, in_axes, (layers, size_in, rank), f'adapter {name}.a'),
            'b': sharding.named(mesh, out_axes, (layers, rank, size_out), f'adapter {name}.b'),
        }
    return tree


def _cut(axis: str, size: int, mesh: Mesh) -> str:
    return 'adapter' if size % (mesh.shape['fsdp'] * mesh.shape['tensor']) == 0 else axis


def scaled(adapters: StackedAdapters, settings: LoraSettings) -> StackedAdapters:
    """Multiplies every B by its scale, alpha / R or alpha / sqrt(R): the form in which the decoder takes adapters."""
    layers = len(next(iter(adapters.values()))['b'])
    placed = placements(settings, layers)
    return {name: {'a': pair['a'], 'b': pair['b'] * _factor(placed[name].scales)} for name, pair in adapters.items()}


def plain(adapters: StackedAdapters, settings: LoraSettings) -> tuple[StackedAdapters, LoraSettings]:
    """Says the same with one rank, one alpha and names as targets: narrow adapters get zeros, B may take its scale."""
    placed = placements(settings, len(next(iter(adapters.values()))['b']))
    scales = {s for place in placed.values() for s, rank in zip(place.scales, place.ranks, strict=True) if rank}
    if len(scales) > 1:
        adapters, scales = scaled(adapters, settings), {1.0}
    width = max(place.width for place in placed.values())
    adapters = {
        name: {'a': _widen(pair['a'], 2, width), 'b': _widen(pair['b'], 1, width)} for name, pair in adapters.items()
    }
    return adapters, LoraSettings(width, scales.pop() * width, False, settings.dropout, tuple(placed), (), ())


def _widen(x: jax.Array, axis: int, width: int) -> jax.Array:
    return jnp.pad(x, [(0, width - size if i == axis else 0) for i, size in enumerate(x.shape)])


def _factor(scales: Sequence[float]) -> float | np.ndarray:
    return scales[0] if len(set(scales)) == 1 else np.array(scales, np.float32)[:, None, None]


def _draw(model: Decoder, settings: LoraSettings, seed: int) -> StackedAdapters:
    maps, layers = linear_maps(model), model.spec.num_layers
    keys = dict(zip(LINEARS, jax.random.split(jax.random.key(seed), len(LINEARS))))
    return {
        name: {
            'a': _uniform(keys[name], (layers, maps[name].dims[0], place.width)) * place.columns()[:, None, :],
            'b': jnp.zeros((layers, place.width, maps[name].dims[1]), jnp.float32),
        }
        for name, place in placements(settings, layers).items()
    }


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    bound = shape[-2] ** -0.5
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

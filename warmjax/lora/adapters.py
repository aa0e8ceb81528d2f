"""Low-rank adapters: y = x W + (alpha / R) dropout(x) A B, for any of the linear maps of a decoder (arXiv 2106.09685).

Adapters are a plain tree beside the model: name of a linear map → {`a` [L, in, R], `b` [L, R, out]}, in float32 (a
bfloat16 entry does not move under an update of 1e-5). B starts at zero, so a new adapter changes nothing.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.models.decoder import Decoder, StackedAdapters
from warmjax.models.layers import LINEARS, linears
from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class LoraSettings:
    """rank: R, the width of the low-rank map.
    alpha: the map is multiplied by alpha / rank.
    dropout: share of an adapter's input that is dropped in training, 0 to 1.
    targets: linear maps that get an adapter, by PEFT's names (q_proj, ..., down_proj).
    """

    __pydantic_config__ = STRICT
    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]

    def __post_init__(self):
        unknown = sorted(set(self.targets) - set(LINEARS))
        if unknown or not self.targets:
            raise ValueError(f'lora.targets: expected some of {", ".join(LINEARS)}, got {list(self.targets)}')
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f'lora: expected rank >= 1 and dropout in [0, 1), got {self.rank} and {self.dropout}')

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


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
    maps, layers, rank = linear_maps(model), model.spec.num_layers, settings.rank
    tree = {}
    for name in settings.targets:
        (size_in, size_out), (axis_in, axis_out) = maps[name].dims, maps[name].axes
        in_axes, out_axes = (
            ('layers', _cut(axis_in, size_in, mesh), 'rank'),
            ('layers', 'rank', _cut(axis_out, size_out, mesh)),
        )
        tree[name] = {
            'a': sharding.named(mesh, in_axes, (layers, size_in, rank), f'adapter {name}.a'),
            'b': sharding.named(mesh, out_axes, (layers, rank, size_out), f'adapter {name}.b'),
        }
    return tree


def _cut(axis: str, size: int, mesh: Mesh) -> str:
    return 'adapter' if size % (mesh.shape['fsdp'] * mesh.shape['tensor']) == 0 else axis


def scaled(adapters: StackedAdapters, scale: float) -> StackedAdapters:
    """Multiplies every B by alpha / R, the form in which the decoder takes adapters."""
    return {name: {'a': pair['a'], 'b': pair['b'] * scale} for name, pair in adapters.items()}


def _draw(model: Decoder, settings: LoraSettings, seed: int) -> StackedAdapters:
    maps = linear_maps(model)
    layers = model.spec.num_layers
    keys = dict(zip(LINEARS, jax.random.split(jax.random.key(seed), len(LINEARS))))
    return {
        name: {
            'a': _uniform(keys[name], (layers, maps[name].dims[0], settings.rank)),
            'b': jnp.zeros((layers, settings.rank, maps[name].dims[1]), jnp.float32),
        }
        for name in settings.targets
    }


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    bound = shape[-2] ** -0.5
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

"""Adapters of several arms and epochs side by side, so that the base weights are read once for all of them.

Adapters lie one beside the other along the rank, and a mask says which columns are a row's own:

    a [L, in, 8 + 8 + 4]        owners 0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1 2 2 2 2
    a row of adapter 1          mask   . . . . . . . . x x x x x x x x . . . .

A row without an adapter has an empty mask. Ranks may differ, and so may the linear maps that adapters change.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from warmjax import sharding
from warmjax.lora.adapters import linear_maps
from warmjax.models.decoder import StackedAdapters
from warmjax.models.families import Model


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Resident:
    """Adapters on the device.

    pairs: name of a linear map → {`a` [L, in, R], `b` [L, R, out]}, or layer by layer, from the model's `for_steps`.
    owners: name of a linear map → [R], index of the adapter that a column belongs to.
    """

    pairs: StackedAdapters | tuple[StackedAdapters, ...]
    owners: Mapping[str, Int[Array, 'R']]

    def for_rows(self, adapters: Int[Array, 'B']) -> StackedAdapters | tuple:
        """Returns adapters as the model takes them, each row with its own; -1 is none."""
        masks = {name: owner == adapters[:, None] for name, owner in self.owners.items()}
        if isinstance(self.pairs, tuple):
            return tuple({name: {**pair, 'mask': masks[name]} for name, pair in layer.items()} for layer in self.pairs)
        return {name: {**pair, 'mask': _for_layers(masks[name], pair)} for name, pair in self.pairs.items()}


def _for_layers(mask: Array, pair: Mapping[str, Array]) -> Array:
    return jnp.broadcast_to(mask, (pair['a'].shape[0], *mask.shape))


def stack(adapters: Sequence[StackedAdapters], names: Sequence[str], model: Model, mesh: Mesh) -> Resident:
    """Puts adapters side by side and lays them out as the model's linear maps are.

    Raises:
        ValueError: adapters of another base model, all named.
    """
    if not adapters:
        return Resident({}, {})
    maps, layers = linear_maps(model), model.spec.num_layers
    problems = [
        f'{name}: {target} expected {layers} layers of {maps[target].dims[0]} to {maps[target].dims[1]}, got '
        f'a {list(pair["a"].shape)} and b {list(pair["b"].shape)}'
        for name, tree in zip(names, adapters, strict=True)
        for target, pair in tree.items()
        if (pair['a'].shape[:2], pair['b'].shape[0], pair['b'].shape[2])
        != ((layers, maps[target].dims[0]), layers, maps[target].dims[1])
        or pair['a'].shape[2] != pair['b'].shape[1]
    ]
    if problems:
        raise ValueError(
            'adapters: expected adapters of this base model, got\n  '
            + '\n  '.join(problems)
            + '\ngive adapters that were trained on it'
        )
    pairs, owners = {}, {}
    for target in dict.fromkeys(target for tree in adapters for target in tree):
        holders = [(i, tree[target]) for i, tree in enumerate(adapters) if target in tree]
        owners[target] = np.concatenate([np.full(pair['a'].shape[2], i, np.int32) for i, pair in holders])
        size_in, size_out = maps[target].axes
        pairs[target] = {
            'a': _join([pair['a'] for _, pair in holders], 2, ('layers', size_in, 'rank'), mesh),
            'b': _join([pair['b'] for _, pair in holders], 1, ('layers', 'rank', size_out), mesh),
        }
    return Resident(pairs, sharding.replicate(owners, mesh))


def _join(parts: Sequence[Array], axis: int, axes: Sequence[str | None], mesh: Mesh) -> Array:
    whole = np.concatenate([np.asarray(part) for part in parts], axis)
    return jax.device_put(whole, sharding.named(mesh, axes, whole.shape, 'adapters'))

"""Writes a model as a Hugging Face checkpoint folder: config.json, safetensors and the tokenizer's files."""

import functools
import json
import uuid
from collections.abc import Mapping

import jax
import numpy as np
from etils import epath
from flax import nnx

from warmjax.models import decoder, families, hf_files, hf_rules, safetensors_file
from warmjax.models.families import Model
from warmjax.models.hf_rules import Rule

MAX_SHARD_BYTES = 5 * 10**9
"""Size of a file above which transformers begins another."""


def save_checkpoint(
    folder: epath.PathLike,
    model: Model,
    other_files: Mapping[str, str | bytes],
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes the folder under a temporary name and renames it, so that it is there whole or not at all.

    The host holds one tensor at a time.

    Args:
        folder: must not exist yet.
        model: its parameters are written in the dtype they have.
        other_files: file name → content of what goes beside the weights (tokenizer, chat template, generation config);
            a config.json among them is written instead of the spec's.
        max_shard_bytes: weights are cut into files of this size, and an index; a tensor is never cut.

    Raises:
        ValueError: the folder exists, or the model is quantised.
    """
    folder = epath.Path(folder)
    if decoder.is_quantized(model):
        raise ValueError(f'{folder}: expected a model with whole kernels to save, got a quantised one; load it whole')
    if folder.exists():
        raise ValueError(f'{folder}: expected a folder that does not exist yet, got one; delete it or choose another')
    temporary = folder.parent / f'.{folder.name}.{uuid.uuid4().hex[:8]}.tmp'
    temporary.mkdir(parents=True)
    try:
        dtype = next(iter(jax.tree.leaves(nnx.state(model)))).dtype
        texts = {'config.json': json.dumps(families.config_from_spec(model.spec, str(dtype)), indent=2) + '\n'}
        _write_weights(temporary, model, max_shard_bytes)
        for name, content in (texts | dict(other_files)).items():
            (temporary / name).write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.rename(folder)
    except BaseException:
        temporary.rmtree(missing_ok=True)
        raise


def _write_weights(folder: epath.Path, model: Model, max_shard_bytes: int) -> None:
    state = {path: x.get_value() for path, x in nnx.to_flat_state(nnx.state(model))}
    places = {
        name: (rule, layer) for rule in hf_rules.rules(model.spec) for name, layer in hf_rules.tensors(rule, model.spec)
    }
    kinds = {name: _kind(state[rule.ours], rule, layer) for name, (rule, layer) in places.items()}
    sizes = {name: dtype.itemsize * int(np.prod(shape)) for name, (dtype, shape) in kinds.items()}
    shards = _shards(sizes, max_shard_bytes)
    weight_map = {}
    for i, names in enumerate(shards):
        file = 'model.safetensors' if len(shards) == 1 else f'model-{i + 1:05d}-of-{len(shards):05d}.safetensors'
        data = (_fetch(state[places[name][0].ours], *places[name]) for name in names)
        safetensors_file.write(folder / file, {name: kinds[name] for name in names}, data)
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {'metadata': {'total_size': sum(sizes.values())}, 'weight_map': weight_map}
        (folder / hf_files.INDEX).write_text(json.dumps(index, indent=2) + '\n')


def _shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Cuts names into runs whose sizes add up to at most `limit`, or that hold a single one."""
    shards, filled = [], 0
    for name, size in sizes.items():
        if not shards or filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _kind(whole: jax.Array, rule: Rule, layer: int | None) -> tuple[np.dtype, tuple[int, ...]]:
    shape = whole.shape if layer is None else whole.shape[1:]
    return np.dtype(whole.dtype), shape[::-1] if rule.transposed else shape


def _fetch(whole: jax.Array, rule: Rule, layer: int | None) -> np.ndarray:
    """Brings one tensor to the host, in Hugging Face's layout."""
    return np.asarray(_take(whole, layer, rule.transposed))


@functools.partial(jax.jit, static_argnames='transposed')
def _take(whole: jax.Array, layer: int | None, transposed: bool) -> jax.Array:
    part = whole if layer is None else jax.lax.dynamic_index_in_dim(whole, layer, keepdims=False)
    return part.T if transposed else part

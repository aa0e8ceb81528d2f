"""Loads a Hugging Face checkpoint folder into its model, tensor by tensor, straight onto the mesh.

Strict: what is missing, what is there too much and what has the wrong shape is collected and raised once. Nothing is
transposed on the host.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from warmjax import sharding
from warmjax.models import families, hf_rules
from warmjax.models.families import Model, ModelSpec
from warmjax.models.safetensors_file import Entry, read_header
from warmjax.models.spec import read_config


def load(folder: epath.PathLike, dtype, mesh: Mesh) -> Model:
    """Loads a checkpoint.

    Args:
        folder: holds config.json and one or more *.safetensors files.
        dtype: of the parameters in memory.
        mesh: where they go (`warmjax.sharding`).

    Raises:
        FileNotFoundError: no config.json or no safetensors file.
        ValueError: the checkpoint does not hold exactly the tensors of its config; all problems in one message.
    """
    spec = families.spec_from_config(read_config(folder), f'{folder}/config.json')
    graphdef, shapes = nnx.split(families.abstract(spec, dtype))
    entries = {hf_rules.full_name(name, spec): entry for name, entry in read_entries(folder).items()}
    shapes = dict(nnx.to_flat_state(shapes))
    problems = _mismatches(entries, shapes, spec) + _untied(entries, spec)
    if problems:
        raise ValueError(
            f'{folder}: expected the tensors of its config.json, got {len(problems)} problems:\n  '
            + '\n  '.join(problems)
            + '\nfetch the checkpoint again, or mend its config.json'
        )
    filled = []
    for rule in hf_rules.rules(spec):
        variable = shapes[rule.ours]
        target = sharding.named(mesh, variable.logical_axes, variable.shape, '.'.join(rule.ours))
        parts = [entries[name] for name, _ in hf_rules.tensors(rule, spec)]
        filled.append((rule.ours, variable.replace(_assemble(parts, rule.transposed, variable.shape, dtype, target))))
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def read_entries(folder: epath.PathLike) -> dict[str, Entry]:
    """Finds every tensor of a folder's safetensors files by name.

    Raises:
        FileNotFoundError: there is no safetensors file.
        ValueError: a file is damaged, or two files hold the same tensor.
    """
    files = sorted(epath.Path(folder).glob('*.safetensors'))
    if not files:
        raise FileNotFoundError(
            f'{folder}: expected *.safetensors files, found none; a folder of .bin files is not read (they can run '
            'code): convert it with transformers, `AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)`'
        )
    entries, problems = {}, []
    for path in files:
        for name, entry in read_header(path).items():
            if name in entries:
                problems.append(f'{name} in both {entries[name].path.name} and {path.name}')
            entries[name] = entry
    if problems:
        raise ValueError(f'{folder}: expected every tensor once, got ' + '; '.join(problems) + '; delete one copy')
    return entries


def _mismatches(entries: dict[str, Entry], shapes: dict, spec: ModelSpec) -> list[str]:
    problems, expected = [], set()
    for rule in hf_rules.rules(spec):
        for name, layer in hf_rules.tensors(rule, spec):
            expected.add(name)
            shape = shapes[rule.ours].shape[0 if layer is None else 1 :]
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
    if spec.tied and head and table and not np.array_equal(head.read(), table.read()):
        return [f'{hf_rules.HEAD} differs from {name}, though config.json says that they are tied']
    return []


def _assemble(parts: list[Entry], transposed: bool, shape: tuple[int, ...], dtype, target: NamedSharding) -> jax.Array:
    """Puts one parameter together: each tensor goes to the devices as it lies on disk, and is turned and cast there."""
    stacked = len(shape) > len(parts[0].shape)
    axes = target.spec[1:] if stacked else target.spec
    source = NamedSharding(target.mesh, PartitionSpec(*(axes[::-1] if transposed else axes)))
    if not stacked:
        return _turn(target, transposed, dtype)(_put(parts[0], source))
    whole = jax.jit(functools.partial(jnp.zeros, shape, dtype), out_shardings=target)()
    for i, part in enumerate(parts):
        whole = _set_layer(target, transposed)(whole, _put(part, source), i)
    return whole


def _put(entry: Entry, target: NamedSharding) -> jax.Array:
    data = entry.read()
    return jax.make_array_from_callback(entry.shape, target, lambda index: np.ascontiguousarray(data[index]))


@functools.cache
def _turn(target: NamedSharding, transposed: bool, dtype):
    return jax.jit(lambda x: (x.T if transposed else x).astype(dtype), out_shardings=target)


@functools.cache
def _set_layer(target: NamedSharding, transposed: bool):
    def set_layer(whole, part, layer):
        return whole.at[layer].set((part.T if transposed else part).astype(whole.dtype))

    return jax.jit(set_layer, donate_argnums=0, out_shardings=target)

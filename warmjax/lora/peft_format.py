"""Adapters on disk, in PEFT's form: adapter_config.json and adapter_model.safetensors, readable by `peft` and vLLM."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from safetensors.numpy import save

from warmjax.lora.adapters import linear_maps, scaled
from warmjax.lora.placement import MODULES, LoraSettings, Placement, first_match, matches, path, placements
from warmjax.models.decoder import Decoder, StackedAdapters
from warmjax.models.safetensors_file import Entry, read_header

_MUST_BE = {
    'peft_type': ('LORA',),
    'bias': ('none', None),
    'modules_to_save': (None, []),
    'use_dora': (False, None),
    'fan_in_fan_out': (False, None),
}
"""What the decoder computes; any other value of these keys of adapter_config.json is refused."""


def save_adapter(folder: epath.PathLike, adapters: StackedAdapters, settings: LoraSettings, base: str) -> None:
    """Writes an adapter folder, whole or not at all; one that exists is replaced.

    Args:
        folder: e.g. `adapters/warm/epoch_2`.
        adapters: not yet scaled.
        settings: what they were trained with.
        base: name or path of the base model, for adapter_config.json.
    """
    folder = epath.Path(folder)
    layers = len(next(iter(adapters.values()))['a'])
    placed = placements(settings, layers)
    places = {name: [i for i, rank in enumerate(place.ranks) if rank] for name, place in placed.items()}
    config = {
        'peft_type': 'LORA',
        'task_type': 'CAUSAL_LM',
        'base_model_name_or_path': base,
        'r': settings.rank,
        'lora_alpha': settings.alpha,
        'use_rslora': settings.rslora,
        'lora_dropout': settings.dropout,
        'target_modules': sorted(_targets(places, layers)),
        'rank_pattern': dict(settings.rank_pattern),
        'alpha_pattern': dict(settings.alpha_pattern),
        'bias': 'none',
        'inference_mode': True,
    }
    temporary = folder.parent / f'.{folder.name}.{uuid.uuid4().hex[:8]}.tmp'
    temporary.mkdir(parents=True)
    try:
        (temporary / 'adapter_model.safetensors').write_bytes(save(_peft_tensors(adapters, placed)))
        (temporary / 'adapter_config.json').write_text(json.dumps(config, indent=2, sort_keys=True) + '\n')
        if folder.exists():
            folder.rmtree()
        temporary.rename(folder)
    except BaseException:
        temporary.rmtree(missing_ok=True)
        raise


def load_adapter(folder: epath.PathLike, model: Decoder) -> StackedAdapters:
    """Loads an adapter folder for a model, scaled and ready for the decoder.

    Raises:
        FileNotFoundError, ValueError: as `read_adapter`.
    """
    adapters, settings = read_adapter(folder, model)
    return scaled(adapters, settings)


def read_adapter(folder: epath.PathLike, model: Decoder) -> tuple[StackedAdapters, LoraSettings]:
    """Reads an adapter folder for a model: adapters as they are stored, not scaled, and their settings.

    Where ranks differ by layer, columns beyond a layer's own are zero; so are layers without an adapter.

    Raises:
        FileNotFoundError: there is no adapter in the folder.
        ValueError: the adapter belongs to another model or is of a kind that is not computed here.
    """
    folder = epath.Path(folder)
    for name in ('adapter_config.json', 'adapter_model.safetensors'):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f'{folder / name}: expected an adapter in PEFT form, found none; train it or give another folder'
            )
    config = _read_config(folder / 'adapter_config.json')
    entries = read_header(folder / 'adapter_model.safetensors')
    places = _places(config, entries, model.spec.num_layers)
    problems = [
        f'{key} expected one of {list(allowed)}, got {config.get(key)!r}'
        for key, allowed in _MUST_BE.items()
        if config.get(key) not in allowed
    ]
    problems += _mismatches(entries, places, config, model)
    if problems:
        raise ValueError(
            f'{folder}: expected a LoRA adapter for this model, got\n  '
            + '\n  '.join(problems)
            + '\ngive the base model that it was trained on, or another adapter'
        )
    maps, layers = linear_maps(model), model.spec.num_layers
    adapters = {name: _stack(entries, name, of_map, maps[name].dims, layers) for name, of_map in places.items()}
    return adapters, _settings(config, places, layers)


def _settings(config: Mapping[str, Any], places: Mapping[str, Sequence[int]], layers: int) -> LoraSettings:
    """Says with what settings an adapter was trained; patterns that match none of its maps are left out."""
    paths = [path(name, layer) for name, of_map in places.items() for layer in of_map]

    def patterns(key: str, kind: type) -> tuple:
        items = (config.get(key) or {}).items()
        return tuple((pattern, kind(value)) for pattern, value in items if any(matches(pattern, p) for p in paths))

    return LoraSettings(
        rank=config['r'],
        alpha=float(config['lora_alpha']),
        rslora=bool(config.get('use_rslora')),
        dropout=float(config.get('lora_dropout') or 0),
        targets=tuple(_targets(places, layers)),
        rank_pattern=patterns('rank_pattern', int),
        alpha_pattern=patterns('alpha_pattern', float),
    )


def _read_config(path: epath.Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}: expected JSON, got {error}; fetch the adapter again') from None
    missing = [key for key in ('r', 'lora_alpha', 'target_modules') if key not in config]
    if missing:
        raise ValueError(
            f'{path}: expected the config of a LoRA adapter, got none of {", ".join(missing)}; fetch it again'
        )
    return config


def _places(config: Mapping[str, Any], entries: Mapping[str, Entry], layers: int) -> dict[str, list[int]]:
    """Returns, by linear map, the layers that have an adapter: those that the file holds, and all that the config
    lists, which may name parts of the model by other means than a list."""
    by_list = not (config.get('layers_to_transform') or config.get('exclude_modules'))
    listed = config['target_modules'] if by_list and isinstance(config['target_modules'], list) else []
    places = {
        name: [
            layer
            for layer in range(layers)
            if any(key in entries for key in _keys(name, layer).values())
            or any(f'.{path(name, layer)}'.endswith(f'.{target}') for target in listed)
        ]
        for name in MODULES
    }
    return {name: of_map for name, of_map in places.items() if of_map}


def _stack(
    entries: Mapping[str, Entry], name: str, of_map: Sequence[int], dims: tuple[int, int], layers: int
) -> dict[str, jax.Array]:
    """Stacks the adapters of a linear map, in layers and columns without one zeros."""
    size_in, size_out = dims
    width = max(entries[_keys(name, layer)['a']].shape[0] for layer in of_map)
    a, b = np.zeros((layers, size_in, width), np.float32), np.zeros((layers, width, size_out), np.float32)
    for layer in of_map:
        keys = _keys(name, layer)
        rank = entries[keys['a']].shape[0]
        a[layer, :, :rank] = entries[keys['a']].read().T
        b[layer, :rank] = entries[keys['b']].read().T
    return {'a': jnp.asarray(a), 'b': jnp.asarray(b)}


def _peft_tensors(adapters: StackedAdapters, placed: Mapping[str, Placement]) -> dict[str, np.ndarray]:
    tensors = {}
    for name, placement in placed.items():
        a, b = np.asarray(adapters[name]['a']), np.asarray(adapters[name]['b'])
        for layer, rank in enumerate(placement.ranks):
            if rank:
                keys = _keys(name, layer)
                tensors[keys['a']] = np.ascontiguousarray(a[layer, :, :rank].T)
                tensors[keys['b']] = np.ascontiguousarray(b[layer, :rank].T)
    return tensors


def _targets(places: Mapping[str, Sequence[int]], layers: int) -> list[str]:
    """Names linear maps that have adapters in all layers, and the paths of others; a pattern of ours may match modules
    in PEFT that are no linear maps."""
    return [
        target
        for name, of_map in places.items()
        for target in ([name] if len(of_map) == layers else [f'layers.{i}.{MODULES[name]}' for i in of_map])
    ]


def _keys(name: str, layer: int) -> dict[str, str]:
    """Names the two tensors of an adapter; PEFT stores A as [R, in] and B as [out, R]."""
    return {side: f'base_model.model.{path(name, layer)}.lora_{side.upper()}.weight' for side in ('a', 'b')}


def _mismatches(
    entries: Mapping[str, Entry], places: Mapping[str, Sequence[int]], config: Mapping[str, Any], model: Decoder
) -> list[str]:
    problems, expected, maps = [], set(), linear_maps(model)
    patterns = tuple((config.get('rank_pattern') or {}).items())
    for name, layer in ((name, layer) for name, of_map in places.items() for layer in of_map):
        size_in, size_out = maps[name].dims
        rank = first_match(patterns, path(name, layer), config['r'])
        for side, shape in (('a', (rank, size_in)), ('b', (size_out, rank))):
            key = _keys(name, layer)[side]
            expected.add(key)
            if key not in entries:
                problems.append(f'missing {key}')
            elif entries[key].shape != shape:
                problems.append(f'{key} expected shape {list(shape)}, got {list(entries[key].shape)}')
    return problems + [f'unexpected {key}' for key in sorted(set(entries) - expected)]

"""Adapters on disk, in PEFT's form: adapter_config.json and adapter_model.safetensors, readable by `peft` and vLLM."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from safetensors.numpy import save

from warmjax.lora.adapters import LoraSettings, linear_maps, scaled
from warmjax.models.decoder import Decoder, StackedAdapters
from warmjax.models.safetensors_file import Entry, read_header

MODULES = {
    'q_proj': 'self_attn.q_proj',
    'k_proj': 'self_attn.k_proj',
    'v_proj': 'self_attn.v_proj',
    'o_proj': 'self_attn.o_proj',
    'gate_proj': 'mlp.gate_proj',
    'up_proj': 'mlp.up_proj',
    'down_proj': 'mlp.down_proj',
}
"""A linear map's name → its place in a layer of a Hugging Face model."""

_MUST_BE = {
    'peft_type': ('LORA',),
    'bias': ('none', None),
    'modules_to_save': (None, []),
    'use_dora': (False, None),
    'fan_in_fan_out': (False, None),
    'rank_pattern': ({}, None),
    'alpha_pattern': ({}, None),
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
    config = {
        'peft_type': 'LORA',
        'task_type': 'CAUSAL_LM',
        'base_model_name_or_path': base,
        'r': settings.rank,
        'lora_alpha': settings.alpha,
        'lora_dropout': settings.dropout,
        'target_modules': sorted(settings.targets),
        'bias': 'none',
        'inference_mode': True,
    }
    temporary = folder.parent / f'.{folder.name}.{uuid.uuid4().hex[:8]}.tmp'
    temporary.mkdir(parents=True)
    (temporary / 'adapter_model.safetensors').write_bytes(save(_peft_tensors(adapters)))
    (temporary / 'adapter_config.json').write_text(json.dumps(config, indent=2, sort_keys=True) + '\n')
    if folder.exists():
        folder.rmtree()
    temporary.rename(folder)


def load_adapter(folder: epath.PathLike, model: Decoder) -> StackedAdapters:
    """Loads an adapter folder for a model, scaled and ready for the decoder.

    Raises:
        FileNotFoundError, ValueError: as `read_adapter`.
    """
    adapters, settings = read_adapter(folder, model)
    return scaled(adapters, settings.scale)


def read_adapter(folder: epath.PathLike, model: Decoder) -> tuple[StackedAdapters, LoraSettings]:
    """Reads an adapter folder for a model: adapters as they are stored, not scaled, and their settings.

    Rank-stabilised adapters (alpha / sqrt(rank)) get the alpha that says the same with alpha / rank.

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
    names = {name: _names(name, model.spec.num_layers) for name in _targets(config, entries, model.spec.num_layers)}
    problems = [
        f'{key} expected one of {list(allowed)}, got {config.get(key)!r}'
        for key, allowed in _MUST_BE.items()
        if config.get(key) not in allowed
    ]
    problems += _mismatches(entries, names, config['r'], model)
    if problems:
        raise ValueError(
            f'{folder}: expected a LoRA adapter for this model, got\n  '
            + '\n  '.join(problems)
            + '\ngive the base model that it was trained on, or another adapter'
        )
    rank, alpha = config['r'], config['lora_alpha'] * (config['r'] ** 0.5 if config.get('use_rslora') else 1)
    adapters = {
        name: {side: _stack([entries[key] for key in keys]) for side, keys in sides.items()}
        for name, sides in names.items()
    }
    return adapters, LoraSettings(rank, float(alpha), float(config.get('lora_dropout') or 0), tuple(adapters))


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


def _targets(config: Mapping[str, Any], entries: Mapping[str, Entry], layers: int) -> list[str]:
    """Names the linear maps that the config lists (it may hold a pattern instead), and those that the file holds."""
    listed = config['target_modules'] if isinstance(config['target_modules'], list) else []
    held = [name for name in MODULES if any(key in entries for keys in _names(name, layers).values() for key in keys)]
    return [name for name in MODULES if name in listed or name in held]


def _stack(entries: list[Entry]) -> jax.Array:
    return jnp.asarray(np.stack([entry.read().T for entry in entries]), jnp.float32)


def _peft_tensors(adapters: StackedAdapters) -> dict[str, np.ndarray]:
    tensors = {}
    for name, pair in adapters.items():
        layers = pair['a'].shape[0]
        for side, keys in _names(name, layers).items():
            stacked = np.asarray(pair[side])
            tensors |= {key: np.ascontiguousarray(stacked[i].T) for i, key in enumerate(keys)}
    return tensors


def _names(name: str, layers: int) -> Mapping[str, list[str]]:
    """Names the tensors of one linear map in all layers; PEFT stores A as [R, in] and B as [out, R]."""
    stem = f'base_model.model.model.layers.{{}}.{MODULES[name]}.lora_'
    return {side: [f'{stem}{side.upper()}.weight'.format(i) for i in range(layers)] for side in ('a', 'b')}


def _mismatches(entries: Mapping[str, Entry], names: Mapping[str, Mapping], rank: int, model: Decoder) -> list[str]:
    problems, expected, maps = [], set(), linear_maps(model)
    for name, sides in names.items():
        size_in, size_out = maps[name].dims
        for side, shape in (('a', (rank, size_in)), ('b', (size_out, rank))):
            for key in sides[side]:
                expected.add(key)
                if key not in entries:
                    problems.append(f'missing {key}')
                elif entries[key].shape != shape:
                    problems.append(f'{key} expected shape {list(shape)}, got {list(entries[key].shape)}')
    return problems + [f'unexpected {key}' for key in sorted(set(entries) - expected)]

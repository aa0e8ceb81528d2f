"""Writes a model as a Hugging Face checkpoint folder: config.json, model.safetensors and the tokenizer's files."""

import json
import uuid
from collections.abc import Mapping

import numpy as np
from etils import epath
from flax import nnx
from safetensors.flax import save

from warmjax.models import families, hf_rules
from warmjax.models.families import Model


def save_checkpoint(folder: epath.PathLike, model: Model, other_files: Mapping[str, str]) -> None:
    """Writes the folder under a temporary name and renames it, so that it is there whole or not at all.

    Args:
        folder: must not exist yet.
        model: its parameters are written in the dtype they have.
        other_files: file name → text of what goes beside the weights (tokenizer, chat template, generation config).

    Raises:
        ValueError: the folder exists.
    """
    folder = epath.Path(folder)
    if folder.exists():
        raise ValueError(f'{folder}: expected a folder that does not exist yet, got one; delete it or choose another')
    tensors = hf_tensors(model)
    config = families.config_from_spec(model.spec, str(next(iter(tensors.values())).dtype))
    temporary = folder.parent / f'.{folder.name}.{uuid.uuid4().hex[:8]}.tmp'
    temporary.mkdir(parents=True)
    (temporary / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
    (temporary / 'model.safetensors').write_bytes(save(tensors, metadata={'format': 'pt'}))
    for name, text in other_files.items():
        (temporary / name).write_text(text)
    temporary.rename(folder)


def hf_tensors(model: Model) -> dict[str, np.ndarray]:
    """Returns the model's parameters on the host, under Hugging Face's names and in its layout."""
    state = dict(nnx.to_flat_state(nnx.state(model)))
    tensors = {}
    for rule in hf_rules.rules(model.spec):
        whole = np.asarray(state[rule.ours].get_value())
        for name, layer in hf_rules.tensors(rule, model.spec):
            part = whole if layer is None else whole[layer]
            tensors[name] = np.ascontiguousarray(part.T if rule.transposed else part)
    return tensors

"""What a model is: its dimensions and conventions, read from the checkpoint's own config.json.

These are facts, not knobs: nothing here has a default, and a config.json that asks for something this decoder does
not compute is refused rather than approximated.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from etils import epath


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama-3's stretching of low rotary frequencies (transformers `modeling_rope_utils.py`, type `llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_length: int


@dataclasses.dataclass(frozen=True)
class Spec:
    """Dimensions of a decoder: D `width`, L `num_layers`, N `num_heads`, K `num_kv_heads`, H `head_dim`, F `mlp_dim`,
    V `vocab_size`; `tied` says that the output head is the embedding table."""

    model_type: str
    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    max_length: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool

    @property
    def num_matmul_params(self) -> int:
        """Weights that enter a matrix product for each token: all projections and the head, not the lookup."""
        attention = self.width * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        return self.num_layers * (attention + 3 * self.width * self.mlp_dim) + self.width * self.vocab_size


_REQUIRED = {
    'vocab_size': 'vocab_size',
    'width': 'hidden_size',
    'num_layers': 'num_hidden_layers',
    'num_heads': 'num_attention_heads',
    'mlp_dim': 'intermediate_size',
    'max_length': 'max_position_embeddings',
    'norm_eps': 'rms_norm_eps',
}
"""Field of Spec → key of config.json."""

_LLAMA3 = {
    'factor': 'factor',
    'low_freq_factor': 'low_freq_factor',
    'high_freq_factor': 'high_freq_factor',
    'original_max_length': 'original_max_position_embeddings',
}
"""Field of RopeScaling → key of config.json's rotary scaling."""

_MUST_BE = {
    'model_type': ('llama',),
    'hidden_act': ('silu',),
    'attention_bias': (False, None),
    'mlp_bias': (False, None),
}
"""What this decoder computes; any other value of these keys is refused."""


def read_config(folder: epath.PathLike) -> dict[str, Any]:
    """Reads a checkpoint folder's config.json.

    Raises:
        FileNotFoundError: the folder holds none.
        ValueError: it is not a JSON object.
    """
    path = epath.Path(folder) / 'config.json'
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected a Hugging Face checkpoint folder with a config.json, found none')
    try:
        config = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}: expected JSON, got {error}; fetch the file again') from None
    if not isinstance(config, dict):
        raise ValueError(f'{path}: expected a JSON object, got {type(config).__name__}; fetch the file again')
    return config


def spec_from_config(config: Mapping[str, Any], where: str) -> Spec:
    """Reads the spec out of a config.json (keys of transformers 4 and 5).

    Raises:
        ValueError: keys that are missing, or values that this decoder does not compute, all in one message.
    """
    problems = [f"key '{key}' is missing" for key in _REQUIRED.values() if key not in config]
    for key, allowed in _MUST_BE.items():
        if config.get(key) not in allowed:
            problems.append(f"key '{key}' expected one of {list(allowed)}, got {config.get(key)!r}")
    rope = dict(config.get('rope_parameters') or config.get('rope_scaling') or {})
    theta = rope.get('rope_theta', config.get('rope_theta'))
    if theta is None:
        problems.append("key 'rope_theta' is missing")
    rope_type = rope.get('rope_type', rope.get('type', 'default'))
    if rope_type not in ('default', 'llama3'):
        problems.append(f"rotary scaling expected type 'default' or 'llama3', got {rope_type!r}")
    if rope_type == 'llama3':
        problems += [f"rotary scaling: key '{key}' is missing" for key in _LLAMA3.values() if key not in rope]
    problems += _bad_numbers(config)
    if problems:
        raise ValueError(
            f'{where}: expected the config of a Llama-family model, got\n  '
            + '\n  '.join(problems)
            + '\nuse a checkpoint of a supported family'
        )
    fields = {field: config[key] for field, key in _REQUIRED.items()}
    num_heads = fields['num_heads']
    return Spec(
        model_type=config['model_type'],
        num_kv_heads=config.get('num_key_value_heads') or num_heads,
        head_dim=config.get('head_dim') or fields['width'] // num_heads,
        rope_theta=float(theta),
        rope_scaling=RopeScaling(**{f: rope[key] for f, key in _LLAMA3.items()}) if rope_type == 'llama3' else None,
        tied=bool(config.get('tie_word_embeddings')),
        **fields,
    )


def config_from_spec(spec: Spec, dtype: str) -> dict[str, Any]:
    """Writes the spec as a config.json that transformers 4 and 5 read."""
    config = {key: getattr(spec, field) for field, key in _REQUIRED.items()}
    config |= {
        'architectures': ['LlamaForCausalLM'],
        'model_type': spec.model_type,
        'num_key_value_heads': spec.num_kv_heads,
        'head_dim': spec.head_dim,
        'hidden_act': 'silu',
        'attention_bias': False,
        'mlp_bias': False,
        'rope_theta': spec.rope_theta,
        'tie_word_embeddings': spec.tied,
        'torch_dtype': dtype,
    }
    if scaling := spec.rope_scaling:
        config['rope_scaling'] = {key: getattr(scaling, field) for field, key in _LLAMA3.items()}
        config['rope_scaling']['rope_type'] = 'llama3'
    return config


def _bad_numbers(config: Mapping[str, Any]) -> list[str]:
    """Finds sizes that are no positive numbers, and heads that do not share keys and values evenly."""
    keys = [*_REQUIRED.values(), 'num_key_value_heads', 'head_dim']
    given = {key: config[key] for key in keys if config.get(key) is not None}
    wrong = [key for key, value in given.items() if not isinstance(value, int | float) or not value > 0]
    problems = [f"key '{key}' expected a positive number, got {given[key]!r}" for key in wrong]
    heads, kv_heads = given.get('num_attention_heads'), given.get('num_key_value_heads')
    if not wrong and heads and kv_heads and heads % kv_heads:
        problems.append(f"key 'num_key_value_heads' expected a divisor of {heads} heads, got {kv_heads}")
    return problems

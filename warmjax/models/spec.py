"""What a model is: its dimensions and conventions, read from the checkpoint's own config.json.

These are facts, not knobs: nothing here has a default, and a config.json that asks for something this decoder does
not compute is refused rather than approximated. What the families differ in stands in one table, `FAMILIES`; what a
key means when it is missing follows transformers' `configuration_<family>.py`.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

UNLIMITED = np.int32(2**31 - 1)
"""Window of a layer that has none, beside layers that have one."""


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama-3's stretching of low rotary frequencies (transformers `modeling_rope_utils.py`, type `llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_length: int


@dataclasses.dataclass(frozen=True)
class Window:
    """A sliding window: a token sees `size` tokens, itself included, in layers from `first_layer` on."""

    size: int
    first_layer: int


@dataclasses.dataclass(frozen=True)
class Spec:
    """Dimensions of a decoder: D `width`, L `num_layers`, N `num_heads`, K `num_kv_heads`, H `head_dim`, F `mlp_dim`,
    V `vocab_size`; `tied` says that the output head is the embedding table, `qkv_bias` that queries, keys and values
    have a bias, `qk_norm` that queries and keys are normed per head before they are rotated."""

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
    window: Window | None
    qkv_bias: bool
    qk_norm: bool
    tied: bool

    @property
    def num_positions(self) -> None:
        """How many positions a text can have: rotations go on without end."""

    @property
    def untied(self) -> bool:
        return not self.tied

    def window_sizes(self) -> np.ndarray | None:
        """Returns how many tokens each layer's tokens see [L], or None where no layer has a window."""
        if self.window is None:
            return None
        return np.where(np.arange(self.num_layers) < self.window.first_layer, UNLIMITED, self.window.size)

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
    'hidden_act': ('silu',),
    'attention_bias': (False, None),
    'mlp_bias': (False, None),
}
"""What this decoder computes; any other value of these keys is refused. (Qwen-2 has its bias without saying so.)"""


def _no_window(config: Mapping[str, Any]) -> Window | None:
    return None


def _window_everywhere(config: Mapping[str, Any]) -> Window | None:
    size = config.get('sliding_window')
    return None if size is None else Window(size, 0)


def _window_above(config: Mapping[str, Any]) -> Window | None:
    """Qwen's window is used only if its switch is on, and leaves the first `max_window_layers` layers alone."""
    if not config.get('use_sliding_window') or config.get('sliding_window') is None:
        return None
    first = config.get('max_window_layers')
    return Window(config['sliding_window'], first) if isinstance(first, int) else None


@dataclasses.dataclass(frozen=True)
class Family:
    """A row of the table of families.

    architecture: the class in transformers.
    qkv_bias, qk_norm: see `Spec`.
    window: config.json → its sliding window.
    required: keys whose absence would mean a default of transformers that no released model has.
    """

    architecture: str
    qkv_bias: bool
    qk_norm: bool
    window: Callable[[Mapping[str, Any]], Window | None]
    required: tuple[str, ...]


FAMILIES = {
    'llama': Family('LlamaForCausalLM', False, False, _no_window, ()),
    'mistral': Family(
        'MistralForCausalLM', False, False, _window_everywhere, ('num_key_value_heads', 'sliding_window')
    ),
    'qwen2': Family('Qwen2ForCausalLM', True, False, _window_above, ('num_key_value_heads',)),
    'qwen3': Family('Qwen3ForCausalLM', False, True, _window_above, ('num_key_value_heads', 'head_dim')),
}
"""`model_type` of config.json → family."""


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
        ValueError: keys that are missing, values that this decoder does not compute, and keys that contradict each
            other, all in one message.
    """
    rope = dict(config.get('rope_parameters') or config.get('rope_scaling') or {})
    family = FAMILIES.get(config.get('model_type'))
    problems = _missing(config, family) + _not_computed(config) + _bad_rope(config, rope) + _bad_numbers(config)
    if not problems:
        problems = _contradictions(config, family)
    if problems:
        raise ValueError(
            f'{where}: expected the config of a model of the families {", ".join(FAMILIES)}, got\n  '
            + '\n  '.join(problems)
            + '\nuse a checkpoint of a supported family, or mend its config.json'
        )
    fields = {field: config[key] for field, key in _REQUIRED.items()}
    is_scaled = _rope_type(rope) == 'llama3'
    return Spec(
        model_type=config['model_type'],
        num_kv_heads=config.get('num_key_value_heads') or fields['num_heads'],
        head_dim=config.get('head_dim') or fields['width'] // fields['num_heads'],
        rope_theta=float(rope.get('rope_theta', config.get('rope_theta'))),
        rope_scaling=RopeScaling(**{f: rope[key] for f, key in _LLAMA3.items()}) if is_scaled else None,
        window=family.window(config),
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
        tied=bool(config.get('tie_word_embeddings')),
        **fields,
    )


def config_from_spec(spec: Spec, dtype: str) -> dict[str, Any]:
    """Writes the spec as a config.json that transformers 4 and 5 read."""
    config = {key: getattr(spec, field) for field, key in _REQUIRED.items()}
    config |= {
        'architectures': [FAMILIES[spec.model_type].architecture],
        'model_type': spec.model_type,
        'num_key_value_heads': spec.num_kv_heads,
        'head_dim': spec.head_dim,
        'hidden_act': 'silu',
        'attention_bias': False,
        'mlp_bias': False,
        'rope_theta': spec.rope_theta,
        'sliding_window': spec.window.size if spec.window else None,
        'use_sliding_window': spec.window is not None,
        'max_window_layers': spec.window.first_layer if spec.window else spec.num_layers,
        'tie_word_embeddings': spec.tied,
        'torch_dtype': dtype,
    }
    if scaling := spec.rope_scaling:
        config['rope_scaling'] = {key: getattr(scaling, field) for field, key in _LLAMA3.items()}
        config['rope_scaling']['rope_type'] = 'llama3'
    return config


def _missing(config: Mapping[str, Any], family: Family | None) -> list[str]:
    keys = [*_REQUIRED.values(), *(family.required if family else ())]
    if config.get('use_sliding_window'):
        keys += ['sliding_window', 'max_window_layers']
    return [f"key '{key}' is missing" for key in keys if key not in config]


def _not_computed(config: Mapping[str, Any]) -> list[str]:
    allowed = {'model_type': tuple(FAMILIES)} | _MUST_BE
    return [
        f"key '{key}' expected one of {list(values)}, got {config.get(key)!r}"
        for key, values in allowed.items()
        if config.get(key) not in values
    ]


def _rope_type(rope: Mapping[str, Any]) -> str:
    return rope.get('rope_type', rope.get('type', 'default'))


def _bad_rope(config: Mapping[str, Any], rope: Mapping[str, Any]) -> list[str]:
    problems = []
    thetas = {source['rope_theta'] for source in (rope, config) if source.get('rope_theta') is not None}
    if not thetas:
        problems.append("key 'rope_theta' is missing")
    if len(thetas) > 1:
        problems.append(f"key 'rope_theta' stands there twice, as {sorted(thetas)}")
    if _rope_type(rope) not in ('default', 'llama3'):
        problems.append(f"rotary scaling expected type 'default' or 'llama3', got {_rope_type(rope)!r}")
    if rope.get('partial_rotary_factor', 1.0) != 1.0:
        problems.append(f'rotary positions expected in whole heads, got a share of {rope["partial_rotary_factor"]}')
    if _rope_type(rope) == 'llama3':
        problems += [f"rotary scaling: key '{key}' is missing" for key in _LLAMA3.values() if key not in rope]
    return problems


def _bad_numbers(config: Mapping[str, Any]) -> list[str]:
    """Finds sizes that are no positive numbers, and heads that do not share keys and values evenly."""
    keys = [*_REQUIRED.values(), 'num_key_value_heads', 'head_dim', 'sliding_window']
    given = {key: config[key] for key in keys if config.get(key) is not None}
    wrong = [key for key, value in given.items() if not isinstance(value, int | float) or not value > 0]
    problems = [f"key '{key}' expected a positive number, got {given[key]!r}" for key in wrong]
    heads, kv_heads = given.get('num_attention_heads'), given.get('num_key_value_heads')
    if not wrong and heads and kv_heads and heads % kv_heads:
        problems.append(f"key 'num_key_value_heads' expected a divisor of {heads} heads, got {kv_heads}")
    return problems


def _contradictions(config: Mapping[str, Any], family: Family) -> list[str]:
    """Finds keys that say otherwise than the ones from which the spec is read."""
    problems = []
    width, heads, layers = (config[key] for key in ('hidden_size', 'num_attention_heads', 'num_hidden_layers'))
    if not config.get('head_dim') and width % heads:
        problems.append(
            f"key 'hidden_size' expected a multiple of {heads} heads where 'head_dim' is not given, got {width}"
        )
    if config.get('architectures') and config['architectures'] != [family.architecture]:
        problems.append(f"key 'architectures' expected [{family.architecture!r}], got {config['architectures']}")
    window = family.window(config)
    first = layers if window is None else window.first_layer
    kinds = ['sliding_attention' if i >= first else 'full_attention' for i in range(layers)]
    if family.window is _window_above and config.get('layer_types') not in (None, kinds):
        problems.append(f"key 'layer_types' expected {kinds} after the keys of the window, got {config['layer_types']}")
    return problems

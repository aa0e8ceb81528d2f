"""Which linear maps of which layers get an adapter, and of what rank and scale: PEFT's LoraConfig, names and patterns.

Adapters of a linear map are stacked over all layers, so they are as wide as the widest of them; columns beyond a
layer's own rank, and layers without an adapter, are zeros that training leaves as they are (the gradient of A needs a B
that is not zero, and that of B an A).
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from warmjax.models.layers import LINEARS
from warmjax.validation import STRICT

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


@dataclasses.dataclass(frozen=True)
class LoraSettings:
    """rank: R, the width of the low-rank map.
    alpha: the map is multiplied by alpha / rank.
    rslora: or by alpha / sqrt(rank) (arXiv 2312.03732).
    dropout: share of an adapter's input that is dropped in training, 0 to 1.
    targets: linear maps that get an adapter, by PEFT's names (q_proj, ..., down_proj), ends of their paths
        (`layers.3.mlp.up_proj`) or regular expressions for such ends (`layers.[0-7].mlp..*`).
    rank_pattern, alpha_pattern: such an end or expression, and the rank or alpha of all that it matches; the first that
        matches counts.
    """

    __pydantic_config__ = STRICT
    rank: int
    alpha: float
    rslora: bool
    dropout: float
    targets: tuple[str, ...]
    rank_pattern: tuple[tuple[str, int], ...]
    alpha_pattern: tuple[tuple[str, float], ...]

    def __post_init__(self):
        unknown = [target for target in self.targets if target.isidentifier() and target not in LINEARS]
        if unknown or not self.targets:
            raise ValueError(f'lora.targets: expected some of {", ".join(LINEARS)}, got {list(self.targets)}')
        ranks = (self.rank, *(rank for _, rank in self.rank_pattern))
        if min(ranks) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f'lora: expected rank >= 1 and dropout in [0, 1), got {min(ranks)} and {self.dropout}')
        for pattern in (*self.targets, *(pattern for pattern, _ in (*self.rank_pattern, *self.alpha_pattern))):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f'lora: expected names or regular expressions, got {pattern!r}: {error}') from None


@dataclasses.dataclass(frozen=True)
class Placement:
    """The adapters of one linear map: rank and scale of each layer [L]; a layer of rank 0 has none."""

    ranks: tuple[int, ...]
    scales: tuple[float, ...]

    @property
    def width(self) -> int:
        """The widest rank."""
        return max(self.ranks)

    def columns(self) -> Float[np.ndarray, 'L R']:
        """Returns 1 for a layer's own columns and 0 for the rest."""
        return (np.arange(self.width) < np.array(self.ranks)[:, None]).astype(np.float32)


def placements(settings: LoraSettings, num_layers: int) -> dict[str, Placement]:
    """Says where adapters go in a model of so many layers: name of a linear map → its placement.

    Raises:
        ValueError: a target or a pattern that matches nothing.
    """
    wanted = [*settings.targets, *(pattern for pattern, _ in (*settings.rank_pattern, *settings.alpha_pattern))]
    paths = {name: [path(name, layer) for layer in range(num_layers)] for name in MODULES}
    flat = [p for of_map in paths.values() for p in of_map]
    idle = [pattern for pattern in wanted if not any(matches(pattern, p) for p in flat)]
    if idle:
        raise ValueError(
            f'lora: expected names and patterns of linear maps such as {flat[0]}, got {idle}, which match none of '
            f'{num_layers} layers; mend config.train.lora'
        )
    placed = {name: [_rank_and_scale(settings, p) for p in of_map] for name, of_map in paths.items()}
    return {
        name: Placement(*zip(*of_map, strict=True))
        for name, of_map in placed.items()
        if any(rank for rank, _ in of_map)
    }


def path(name: str, layer: int) -> str:
    """Returns the path of a linear map in a Hugging Face model."""
    return f'model.layers.{layer}.{MODULES[name]}'


def matches(pattern: str, place: str) -> bool:
    """Tells whether a pattern matches the end of a path, from one of its dots on (PEFT's `get_pattern_key`)."""
    return re.fullmatch(rf'(?:.*\.)?(?:{pattern})', place) is not None


def first_match(patterns: Sequence[tuple[str, float]], place: str, otherwise: float) -> float:
    """Returns the value of the first pattern that matches."""
    return next((value for pattern, value in patterns if matches(pattern, place)), otherwise)


def _rank_and_scale(settings: LoraSettings, place: str) -> tuple[int, float]:
    if not any(matches(target, place) for target in settings.targets):
        return 0, 0.0
    rank = first_match(settings.rank_pattern, place, settings.rank)
    alpha = first_match(settings.alpha_pattern, place, settings.alpha)
    return rank, alpha / (rank**0.5 if settings.rslora else rank)

"""The parts of a decoder: linear maps with adapters, norms, rotary positions, attention.

Modules hold parameters and nothing else. Every parameter carries `logical_axes` (see `warmjax.sharding`). Parameters of
a stack of layers have a leading axis L; a module inside `scan` sees one slice of it, without that axis.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from warmjax.models.spec import Spec

Adapter = Mapping[str, Array]
"""A low-rank map beside a linear one: `a` [in, R] and `b` [R, out], `b` already multiplied by alpha / R. Where several
adapters lie side by side along R, `mask` [B, R] says which columns are a row's own."""

MASKED = -1e30
"""Score of a key that may not be seen; finite, so that a row without any key stays finite."""


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Dropout on the input of adapters. `key` is this layer's; each linear map folds its own name into it."""

    key: Array
    rate: float

    def __call__(self, x: Array, name: str) -> Array:
        keep = 1.0 - self.rate
        key = jax.random.fold_in(self.key, LINEARS.index(name))
        return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0).astype(x.dtype)


LINEARS = ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj')
"""The linear maps of a layer, by the names that Hugging Face and PEFT give them; any of them can carry an adapter."""


def param(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str | None, ...], dtype, stddev: float) -> nnx.Param:
    """Makes a parameter with normal entries."""
    return nnx.Param(jax.random.normal(rngs.params(), shape, dtype) * jnp.asarray(stddev, dtype), logical_axes=axes)


class Linear(nnx.Module):
    """y = x W, plus its bias if it has one, plus (x a) b if an adapter is given.

    The kernel is stored [out, in], as checkpoints have it: loading turns nothing, and a frozen map is multiplied from
    either side in training anyway.
    """

    def __init__(
        self, name: str, layers: int, dims: tuple[int, int], axes: tuple[str, str], bias: bool, dtype, rngs: nnx.Rngs
    ):
        self.name = name
        self.kernel_axes = 'OI'
        self.kernel = param(rngs, (layers, *dims[::-1]), ('layers', *axes[::-1]), dtype, dims[0] ** -0.5)
        if bias:
            self.bias = nnx.Param(jnp.zeros((layers, dims[1]), dtype), logical_axes=('layers', axes[1]))

    def __call__(
        self, x: Float[Array, '... I'], adapter: Adapter | None, dropout: Dropout | None
    ) -> Float[Array, '... O']:
        y = jnp.einsum(f'...I,{self.kernel_axes}->...O', x, self.kernel[...])
        if hasattr(self, 'bias'):
            y = y + self.bias[...]
        if adapter is None:
            return y
        x = x if dropout is None else dropout(x, self.name)
        narrow = x @ adapter['a'].astype(x.dtype)
        if 'mask' in adapter:
            narrow = jnp.where(jnp.expand_dims(adapter['mask'], range(1, x.ndim - 1)), narrow, 0)
        return y + narrow @ adapter['b'].astype(x.dtype)

    def turn(self) -> None:
        """Turns the kernel of a single layer from [out, in] to [in, out]."""
        self.kernel = self.kernel.replace(self.kernel[...].T)
        self.kernel_axes = 'IO'


class RMSNorm(nnx.Module):
    """Root-mean-square norm, computed in float32 (transformers `LlamaRMSNorm`)."""

    def __init__(self, shape: tuple[int, ...], axes: tuple[str | None, ...], eps: float, dtype):
        self.eps = eps
        self.weight = nnx.Param(jnp.ones(shape, dtype), logical_axes=axes)

    def __call__(self, x: Float[Array, '... D']) -> Float[Array, '... D']:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return y.astype(x.dtype) * self.weight[...]


def rotary_frequencies(spec: Spec) -> np.ndarray:
    """Returns the H / 2 rotary frequencies in radians a position, with Llama-3's stretching where the spec has it.

    Source: transformers `modeling_rope_utils.py`, `_compute_llama3_parameters`.
    """
    frequencies = (1.0 / spec.rope_theta ** (np.arange(0, spec.head_dim, 2, dtype=np.float32) / spec.head_dim)).astype(
        np.float32
    )
    scaling = spec.rope_scaling
    if scaling is None:
        return frequencies
    turns = scaling.original_max_length * frequencies / (2 * np.pi)
    # 0 where a frequency turns so slowly that it is stretched fully, 1 where it is left alone.
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return ((1 - keep) * frequencies / scaling.factor + keep * frequencies).astype(np.float32)


def rotary_angles(spec: Spec, positions: Int[Array, '...']) -> tuple[Float[Array, '... h'], Float[Array, '... h']]:
    """Returns cosine and sine of each position's H / 2 angles, in float32."""
    angles = positions[..., None].astype(jnp.float32) * rotary_frequencies(spec)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Float[Array, '... n H'], cos: Float[Array, '... h'], sin: Float[Array, '... h']) -> Array:
    """Rotates the heads by their positions; halves are paired, as in Hugging Face's checkpoints."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def self_attention(
    q: Float[Array, 'B T N H'],
    k: Float[Array, 'B T K H'],
    v: Float[Array, 'B T K H'],
    segment_ids: Int[Array, 'B T'],
    window: Int[Array, ''] | None,
) -> Float[Array, 'B T N H']:
    """Causal attention of whole rows; a token sees only its own segment, and segment 0 is padding.

    With a window, it sees so many tokens, itself included.

    segment_ids            1 1 1 2 2 0
    token 2 sees           x x x . . .
        in a window of 2   . x x . . .
    token 4 sees           . . . x x .
    """
    B, T, N, H = q.shape
    K = k.shape[2]
    seen = (segment_ids[:, :, None] == segment_ids[:, None, :]) & jnp.tril(jnp.ones((T, T), bool))
    if window is not None:
        seen &= jnp.arange(T)[:, None] - jnp.arange(T) < window
    scores = jnp.einsum('BTKGH,BSKH->BKGTS', q.reshape(B, T, K, N // K, H), k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores * H**-0.5, MASKED), axis=-1)
    return jnp.einsum('BKGTS,BSKH->BTKGH', weights.astype(v.dtype), v).reshape(B, T, N, H)

"""The parts of a decoder: linear maps with adapters, norms, rotary positions.

Modules hold parameters and nothing else. Every parameter carries `logical_axes` (see `warmjax.sharding`). Parameters of
a stack of layers have a leading axis L; a module inside `scan` sees one slice of it, without that axis.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from warmjax.models import quantization
from warmjax.models.products import multiply
from warmjax.models.quantization import Quantization
from warmjax.models.spec import Spec
from warmjax.sharding import constrain

Adapter = Mapping[str, Array]
"""A low-rank map beside a linear one: `a` [in, R] and `b` [R, out], `b` already multiplied by alpha / R. Where several
adapters lie side by side along R, `mask` [B, R] says which columns are a row's own."""


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Dropout on the input of adapters. `key` is this layer's; linear maps that share an input share its dropout.

    What is dropped is a hash of the key and an entry's place in the whole array, so it is the same on any mesh, and is
    computed where it is used instead of being stored for the backward pass.
    """

    key: Array
    rate: float

    def __call__(self, x: Float[Array, '*rows D'], name: str) -> Float[Array, '*rows D']:
        words = jax.random.bits(jax.random.fold_in(self.key, LINEARS.index(name)), (2,), jnp.uint32)
        rows = jnp.arange(math.prod(x.shape[:-1]), dtype=jnp.uint32).reshape(*x.shape[:-1], 1)
        return drop_out(x, rows, words, self.rate)


def drop_out(x: Float[Array, '*rows D'], rows: Int[Array, '*rows 1'], words: Int[Array, '2'], rate: float) -> Array:
    """Drops entries of x by a hash of two random words, the number of the entry's row, and its column."""
    columns = jnp.arange(x.shape[-1], dtype=jnp.uint32) * np.uint32(0x9E3779B1)
    bits = _mixed(_mixed(rows ^ words[0]) ^ (columns + words[1]))
    return jnp.where(bits < np.uint32(rate * 2**32), 0, x * (1 / (1 - rate))).astype(x.dtype)


def _mixed(bits: Array) -> Array:
    """Spreads every bit over all 32 (MurmurHash3's finalizer)."""
    bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


FASTER_TURNED = (jnp.float32, jnp.int8)
"""Types of weights that CPUs multiply faster with few rows when they lie [in, out]."""

LINEARS = ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj')
"""The linear maps of a layer, by the names that Hugging Face and PEFT give them; any of them can carry an adapter."""


def param(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str | None, ...], dtype, stddev: float) -> nnx.Param:
    """Makes a parameter with normal entries."""
    return nnx.Param(jax.random.normal(rngs.params(), shape, dtype) * jnp.asarray(stddev, dtype), logical_axes=axes)


class Linear(nnx.Module):
    """y = x W, plus its bias if it has one.

    The kernel is stored [out, in], as checkpoints have it: loading turns nothing, and a frozen map is multiplied from
    either side in training anyway. `quantize` stores it in fewer bits, with scales.
    """

    def __init__(
        self, name: str, layers: int, dims: tuple[int, int], axes: tuple[str, str], bias: bool, dtype, rngs: nnx.Rngs
    ):
        self.name = name
        self.dims, self.axes = dims, axes
        self.kernel_axes = 'OI'
        self.quantization: Quantization = 'none'
        # Drawn [in, out]: a seed gives the model that it gave before kernels lay the other way.
        drawn = param(rngs, (layers, *dims), ('layers', *axes), dtype, dims[0] ** -0.5)
        self.kernel = nnx.Param(drawn[...].swapaxes(1, 2), logical_axes=('layers', *axes[::-1]))
        if bias:
            self.bias = nnx.Param(jnp.zeros((layers, dims[1]), dtype), logical_axes=('layers', axes[1]))

    def __call__(self, x: Float[Array, '... I']) -> Float[Array, '... O']:
        if self.quantization == 'none':
            y = multiply(x, self.kernel[...], self.kernel_axes)
        else:
            y = quantization.multiply(x, *self._gathered(), self.quantization, self.kernel_axes)
        return y + self.bias[...] if hasattr(self, 'bias') else y

    def quantize(self, kind: Quantization) -> None:
        """Stores the kernel, which is then frozen, as `models.quantization` says."""
        codes, scale = quantization.quantize(self.kernel[...], kind)
        axes = self.kernel.logical_axes
        self.kernel = self.kernel.replace(codes)
        self.scale = nnx.Param(scale, logical_axes=axes[: scale.ndim])
        self.quantization = kind

    def _gathered(self) -> tuple[Array, Array]:
        """Returns codes and scales, whole along the width on each device."""
        whole = [None if axis == 'embed' else axis for axis in self.axes[::-1]]
        codes, scale = self.kernel[...], self.scale[...]
        order = whole if self.kernel_axes == 'OI' else whole[::-1]
        return constrain(codes, *order), constrain(scale, *whole[: scale.ndim])

    def turn(self) -> None:
        """Turns the kernel of a single layer from [out, in] to [in, out], where products of few rows are faster so."""
        if self.kernel.dtype in FASTER_TURNED:
            self.kernel = self.kernel.replace(self.kernel[...].T)
            self.kernel_axes = 'IO'


def linears(module: nnx.Module) -> list[Linear]:
    """Lists the linear maps of a (possibly abstract) model or a part of it."""
    return [inner for _, inner in nnx.iter_modules(module) if isinstance(inner, Linear)]


def project(
    x: Float[Array, '... I'], maps: Sequence[Linear], adapters: Mapping[str, Adapter], dropout: Dropout | None
) -> list[Float[Array, '... O']]:
    """Applies linear maps to the same input, each plus (dropout(x) a) b where `adapters` has one by its name.

    The first halves of the adapters are one product: several with a few columns each would cost far more.
    """
    outputs = {linear.name: linear(x) for linear in maps}
    adapted = [name for name in outputs if name in adapters]
    if adapted:
        x = x if dropout is None else dropout(x, maps[0].name)
        a = [adapters[name]['a'].astype(x.dtype) for name in adapted]
        ends = np.cumsum([part.shape[-1] for part in a])
        narrow = jnp.split(x @ jnp.concatenate(a, axis=-1), ends[:-1], axis=-1)
        for name, part in zip(adapted, narrow, strict=True):
            if 'mask' in adapters[name]:
                part = jnp.where(jnp.expand_dims(adapters[name]['mask'], range(1, x.ndim - 1)), part, 0)
            outputs[name] += _widen(part, adapters[name]['b'].astype(x.dtype))
    return list(outputs.values())


@jax.custom_vjp
def _widen(narrow: Float[Array, '*rows R'], b: Float[Array, 'R O']) -> Float[Array, '*rows O']:
    """The second half of an adapter.

    Its own gradient has the narrow factor on the left: CPUs turn a product's left factor where rows are summed, and
    would turn the wide one.
    """
    return narrow @ b


def _widen_forward(narrow, b):
    return narrow @ b, (narrow, b)


def _widen_backward(kept, dy):
    narrow, b = kept
    rows = tuple(range(dy.ndim - 1))
    return dy @ b.T, jax.lax.dot_general(narrow, dy, ((rows, rows), ((), ())))


_widen.defvjp(_widen_forward, _widen_backward)


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

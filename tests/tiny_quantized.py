"""A tiny Llama with kernels in fewer bits, and the same model with what they stand for in their place."""

import functools
import pathlib

import jax.numpy as jnp
import tiny_llama

from warmjax.models import hf_load, quantization
from warmjax.models.decoder import Decoder
from warmjax.models.layers import linears

KINDS = ('int8', 'nf4')
SIZES = {'vocab_size': 96, 'hidden_size': 128, 'head_dim': 32, 'num_key_value_heads': 4, 'intermediate_size': 256}
"""Two blocks of nf4 and four, so that a mesh can cut them."""


def save(folder: pathlib.Path) -> None:
    """Writes the model to a folder."""
    tiny_llama.save(folder, **SIZES)


@functools.cache
def loaded(folder: pathlib.Path, kind: str, mesh: tuple[int, int, int] = (1, 1, 1)) -> Decoder:
    """Loads it in fewer bits."""
    return hf_load.load_quantized(folder, jnp.float32, kind, tiny_llama.make_mesh(*mesh))


@functools.cache
def stood_for(folder: pathlib.Path, kind: str) -> Decoder:
    """Loads it whole, and puts what the codes stand for in place of its kernels."""
    model = tiny_llama.load(folder)
    codes = {linear.name: linear for linear in linears(loaded(folder, kind))}
    for linear in linears(model):
        stored = codes[linear.name]
        linear.kernel.set_value(quantization.widen(stored.kernel[...], stored.scale[...], kind, jnp.float32))
    return model

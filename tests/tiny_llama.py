"""A model of a few thousand weights: as transformers makes it (the twin), and as this package loads it. A Llama, unless
a test asks for another family."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from warmjax import sharding
from warmjax.models import hf_load
from warmjax.models.decoder import Decoder
from warmjax.sharding import MeshSettings

SIZES = {
    'vocab_size': 97,
    'hidden_size': 24,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'head_dim': 10,
    'intermediate_size': 36,
    'max_position_embeddings': 64,
    'rms_norm_eps': 1e-5,
    'rope_parameters': {'rope_type': 'default', 'rope_theta': 10000.0},
    'tie_word_embeddings': False,
    'initializer_range': 0.2,
    'bos_token_id': 1,
    'eos_token_id': 2,
}
"""Nothing divides anything by chance: head_dim is not width / heads, the vocabulary is a prime."""

GPT2_SIZES = {
    'vocab_size': 97,
    'n_embd': 24,
    'n_layer': 3,
    'n_head': 4,
    'n_positions': 64,
    'n_inner': 36,
    'initializer_range': 0.2,
}

WINDOW = {'use_sliding_window': True, 'sliding_window': 5, 'max_window_layers': 1}
FAMILIES = {'llama': {}, 'mistral': {'sliding_window': 5}, 'qwen2': WINDOW, 'qwen3': WINDOW}
"""The decoder's families, each with a window if it has windows."""

LLAMA3_ROPE = {
    'rope_type': 'llama3',
    'rope_theta': 500.0,
    'factor': 8.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 32,
}
"""Llama-3's scaling, shrunk so that a head of 10 has frequencies in all three of its ranges."""


def twin(model_type: str = 'llama', **changes) -> transformers.PreTrainedModel:
    """Makes a random model in torch; its norms and biases are random too, so that no two of its tensors are alike."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **(GPT2_SIZES if model_type == 'gpt2' else SIZES) | changes)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if 'norm' in name or 'ln_' in name or name.endswith('bias'):
                weight.add_(0.3 * torch.randn_like(weight))
    return model


def save(folder: pathlib.Path, **changes) -> transformers.PreTrainedModel:
    """Makes a twin (see `twin` for the changes) and writes it to a folder in Hugging Face's layout."""
    model = twin(**changes)
    model.save_pretrained(folder)
    return model


def make_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> jax.sharding.Mesh:
    """Makes a mesh of the first devices."""
    devices = jax.devices()[: data * fsdp * tensor]
    return sharding.make_mesh(MeshSettings(data, fsdp, tensor), devices)


def load(folder: pathlib.Path, mesh: jax.sharding.Mesh | None = None) -> Decoder:
    """Loads a folder in float32, on one device unless a mesh is given."""
    return hf_load.load(folder, jnp.float32, mesh or make_mesh())


@jax.jit
def _logits(model, tokens, positions, segment_ids, adapters):
    return model.logits(model(tokens, positions, segment_ids, adapters, None, 'none')[0])


def logits(model: Decoder, tokens, positions=None, segment_ids=None, adapters=None) -> np.ndarray:
    """Computes logits [B, T, V] of rows without padding, unless positions and segment ids say otherwise."""
    tokens = jnp.asarray(tokens)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape) if positions is None else positions
    segment_ids = jnp.ones_like(tokens) if segment_ids is None else segment_ids
    return np.asarray(_logits(model, tokens, jnp.asarray(positions), jnp.asarray(segment_ids), adapters or {}))


def twin_logits(model: torch.nn.Module, tokens) -> np.ndarray:
    """Computes the twin's logits [B, T, V]."""
    with torch.no_grad():
        return model(torch.tensor(np.asarray(tokens), dtype=torch.long)).logits.numpy()


def random_tokens(batch: int, length: int, seed: int = 0) -> np.ndarray:
    """Draws token ids [B, T] of the tiny vocabulary."""
    return np.random.default_rng(seed).integers(0, SIZES['vocab_size'], (batch, length)).astype(np.int32)


def assert_close(ours, theirs, relative: float = 1e-4) -> None:
    """Asserts that two arrays differ by less than `relative` of the second's largest entry."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * np.abs(theirs).max())

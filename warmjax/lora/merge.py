"""Adapters added into the weights, and what that changes.

A merged model rounds W + (alpha / R) A B to the weights' dtype, so it is not the adapter's model bit for bit; how far
it is from it, in weights, logits, KL and greedy choices, is measured on texts and reported.
"""

import dataclasses
import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.lora import peft_format
from warmjax.lora.adapters import plain
from warmjax.models import decoder, hf_load, hf_save
from warmjax.models.decoder import Decoder, StackedAdapters

TEXTS = (
    'The capital of a country is not always its largest city, and visitors are often surprised by that.',
    'I had a rough week and nobody seems to notice. Could you tell me how vaccines work?',
    'def mean(values):\n    return sum(values) / len(values)\n\nprint(mean([3, 5, 10]))',
    'Water boils at a lower temperature on a mountain because the pressure of the air is lower there.',
    "That is such a thoughtful question! I'm so glad you asked. Let us look at it together, step by step.",
    '1. Preheat the oven to 180 °C.  2. Mix flour, sugar and butter.  3. Bake for 25 minutes.',
)
"""On which a merged model is compared with its adapter's."""
COMPANIONS = (
    'tokenizer.json',
    'tokenizer_config.json',
    'special_tokens_map.json',
    'added_tokens.json',
    'tokenizer.model',
    'vocab.json',
    'merges.txt',
    'chat_template.jinja',
    'generation_config.json',
)
"""Files of a checkpoint folder that a merged model takes over."""
LONGEST = 64
"""Tokens of a text that are compared."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Differences of the merged model from the base (weights) and from base and adapter (all else).

    max_weight_change: largest change of a weight, by linear map.
    max_logit_difference: over all positions and tokens.
    mean_kl: KL(adapter || merged) in nats, mean over positions.
    argmax_flips: positions at which the likeliest token is another one.
    positions: how many were compared.
    """

    max_weight_change: dict[str, float]
    max_logit_difference: float
    mean_kl: float
    argmax_flips: int
    positions: int


def export_merged(
    checkpoint: epath.PathLike, adapter: epath.PathLike, out: epath.PathLike, dtype, max_shard_bytes: int, mesh: Mesh
) -> Report:
    """Writes base and adapter as one checkpoint folder with `merge_report.json`, whole or not at all.

    Args:
        dtype: of the weights that are written; they are merged in float32.

    Raises:
        FileNotFoundError, ValueError: checkpoint or adapter is not whole, or `out` exists.
    """
    checkpoint = epath.Path(checkpoint)
    refuse_existing(out)
    model = hf_load.load(checkpoint, dtype, mesh)
    adapters = sharding.replicate(peft_format.load_adapter(adapter, model), mesh)
    tokens, lengths = _tokens(checkpoint)
    before = _logits(model, tokens, lengths, adapters, mesh)
    changes = merge(model, adapters)
    differences = jax.device_get(_compare(before, _logits(model, tokens, lengths, {}, mesh), lengths))
    logit, kl, flips = (x.item() for x in differences)
    report = Report(changes, logit, kl, flips, int(lengths.sum()))
    files = {name: (checkpoint / name).read_bytes() for name in COMPANIONS if (checkpoint / name).exists()}
    files['config.json'] = json.dumps(_config(checkpoint, np.dtype(dtype).name), indent=2) + '\n'
    files['merge_report.json'] = json.dumps(dataclasses.asdict(report), indent=2) + '\n'
    hf_save.save_checkpoint(out, model, files, max_shard_bytes)
    return report


def export_peft(checkpoint: epath.PathLike, adapter: epath.PathLike, out: epath.PathLike, dtype, mesh: Mesh) -> None:
    """Writes an adapter in the plain form that every reader of PEFT's files takes, checked against its base.

    Rank-stabilised scaling becomes an alpha, patterns become names, and ranks that differ the widest of them.

    Raises:
        FileNotFoundError, ValueError: as `export_merged`.
    """
    refuse_existing(out)
    adapters, settings = peft_format.read_adapter(adapter, hf_load.load(checkpoint, dtype, mesh))
    peft_format.save_adapter(out, *plain(adapters, settings), str(checkpoint))


def refuse_existing(out: epath.PathLike) -> None:
    """Raises ValueError where there is something already."""
    if epath.Path(out).exists():
        raise ValueError(f'{out}: expected a folder that does not exist yet, got one; delete it or choose another')


def merge(model: Decoder, adapters: StackedAdapters) -> dict[str, float]:
    """Adds scaled adapters into a model, in place, and returns the largest change of a weight by linear map.

    Raises:
        ValueError: the model is quantised.
    """
    if decoder.is_quantized(model):
        raise ValueError(
            'merge: expected a model with whole kernels, got a quantised one, whose steps are coarser than an adapter; '
            'merge into the checkpoint (`python -m launch.export`)'
        )
    kernels = {path[-2]: kernel for path, kernel in nnx.to_flat_state(nnx.state(model.layers)) if path[-1] == 'kernel'}
    changes = {}
    for name, pair in adapters.items():
        kernel = kernels[name].get_value()
        add = jax.jit(_add, out_shardings=(kernel.sharding, None))
        merged, change = add(kernel, pair['a'], pair['b'])
        kernels[name].set_value(merged)
        changes[name] = change.item()
    return changes


def _add(kernel: jax.Array, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Merges layer by layer, so that only one layer at a time is there in float32."""

    def layer(operands):
        w, a, b = operands
        wide = w.astype(jnp.float32)
        merged = (wide + jnp.einsum('IR,RO->OI', a, b, precision=jax.lax.Precision.HIGHEST)).astype(w.dtype)
        return merged, jnp.abs(merged.astype(jnp.float32) - wide).max()

    merged, changes = jax.lax.map(layer, (kernel, a, b))
    return merged, changes.max()


def _tokens(checkpoint: epath.Path) -> tuple[np.ndarray, np.ndarray]:
    """Tokenises the texts: ids [N, LONGEST], padded with 0, and lengths [N]."""
    path = checkpoint / 'tokenizer.json'
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected the model's tokenizer, found none; fetch it from its hub page")
    tokenizer = tokenizers.Tokenizer.from_str(path.read_text())
    tokenizer.no_padding()
    tokens, lengths = np.zeros((len(TEXTS), LONGEST), np.int32), np.zeros(len(TEXTS), np.int32)
    for row, text in enumerate(TEXTS):
        ids = tokenizer.encode(text).ids[:LONGEST]
        lengths[row] = len(ids)
        tokens[row, : len(ids)] = ids
    return tokens, lengths


def _logits(model: Decoder, tokens: np.ndarray, lengths: np.ndarray, adapters: Mapping, mesh: Mesh) -> jax.Array:
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    segments = (positions < lengths[:, None]).astype(np.int32)
    batch = sharding.replicate((tokens, np.ascontiguousarray(positions), segments), mesh)
    return _forward(model, *batch, dict(adapters))


@jax.jit
def _forward(model: Decoder, tokens, positions, segments, adapters) -> jax.Array:
    return model.logits(model(tokens, positions, segments, adapters, None, 'none')[0])


@jax.jit
def _compare(before: jax.Array, after: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns largest difference, mean KL and number of flips of logits [N, T, V] over their first `lengths`."""
    real = jnp.arange(before.shape[1]) < lengths[:, None]
    p, q = jax.nn.log_softmax(before), jax.nn.log_softmax(after)
    kl = jnp.sum(jnp.exp(p) * (p - q), axis=-1)
    flips = before.argmax(axis=-1) != after.argmax(axis=-1)
    difference = jnp.abs(before - after).max(axis=-1)
    return jnp.where(real, difference, 0).max(), jnp.where(real, kl, 0).sum() / real.sum(), (flips & real).sum()


def _config(checkpoint: epath.Path, dtype: str) -> dict:
    """Returns the base's own config.json, saying the dtype that is written."""
    config = json.loads((checkpoint / 'config.json').read_text())
    return {key: value for key, value in config.items() if key != 'dtype'} | {'torch_dtype': dtype}

"""Measures what storing a model's kernels in fewer bits costs: how much likelier its own texts are to the whole model.

    python -m benchmarks.quantize --checkpoint=DIR --texts=128 --length=128

Texts are drawn from the whole model at temperature 1 and scored by it and by the quantised ones. The rise of the loss,
in nats a token, estimates KL(whole || quantised), since the texts are the model's. Appends a line to
benchmarks/results.jsonl.
"""

import math

import jax
import numpy as np
from absl import app, flags

from benchmarks import results

PACKAGES = ('jax', 'flax', 'numpy')
KINDS = ('none', 'int8', 'nf4')

flags.DEFINE_string('checkpoint', None, 'Hugging Face folder of a decoder.', required=True)
flags.DEFINE_integer('texts', 128, 'Texts to draw.')
flags.DEFINE_integer('length', 128, 'Tokens of each.')
flags.DEFINE_integer('start', 1, 'Token id with which every text begins.')
flags.DEFINE_bool('append', True, 'Append the result to benchmarks/results.jsonl.')


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    about = results.about(PACKAGES)
    texts = draw(values.checkpoint, values.start, values.texts, values.length)
    losses = {kind: score(values.checkpoint, kind, texts) for kind in KINDS}
    rises = {kind: losses[kind][0] - losses['none'][0] for kind in KINDS[1:]}
    line = {
        'what': f'loss of {values.texts} own texts of {values.length} tokens, kernels in fewer bits, float32 on CPU',
        **about,
        'nats_a_token': round(float(losses['none'][0].mean()), 4),
        'rise_in_nats_a_token': {kind: float(f'{rise.mean():.2g}') for kind, rise in rises.items()},
        'standard_error': {
            kind: float(f'{rise.std(ddof=1) / math.sqrt(len(rise)):.1g}') for kind, rise in rises.items()
        },
        'bytes_of_kernels': {kind: size for kind, (_, size) in losses.items()},
    }
    results.record(line, values.append)


def load(checkpoint: str, kind: str):
    """Loads the model in float32 on one device, and returns the mesh too."""
    import jax.numpy as jnp

    from warmjax import sharding
    from warmjax.models import hf_load

    mesh = sharding.make_mesh(sharding.MeshSettings(1, 1, 1), jax.devices()[:1])
    return hf_load.load_quantized(checkpoint, jnp.float32, kind, mesh), mesh


def draw(checkpoint: str, start: int, texts: int, length: int) -> np.ndarray:
    """Draws texts [texts, length] that begin with the same token, without an end."""
    from warmjax.decode.engine import Engine, EngineSettings
    from warmjax.decode.requests import Request, Sampling
    from warmjax.decode.sampling import row_key

    model, mesh = load(checkpoint, 'none')
    settings = EngineSettings(
        slots=min(texts, 64),
        prefill_batch=min(texts, 64),
        buckets=(1,),
        cache_lengths=(length,),
        cache_dtype='float32',
        steps=16,
        refill=1,
        prefixes=1,
        logprobs=None,
    )
    how = Sampling(1.0, top_k=0, top_p=1.0, min_p=0.0)
    asked = [Request(str(i), [start], row_key(0, str(i), 0), how, length - 1, None, 0) for i in range(texts)]
    ended = Engine(model, settings, (), {}, mesh).run(asked)
    return np.array([[start, *text.tokens] for some in ended for text in some], np.int32)


def score(checkpoint: str, kind: str, texts: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns each text's mean loss in nats a token, and the bytes of the kernels with their scales."""
    from warmjax.decode.score import Scored, log_likelihoods
    from warmjax.models.layers import linears

    model, mesh = load(checkpoint, kind)
    sequences = [Scored(text, np.ones(len(text), bool)) for text in texts]
    sums = dict(log_likelihoods(model, sequences, 32, texts.shape[1], mesh))
    stored = [x for linear in linears(model) for x in (linear.kernel, getattr(linear, 'scale', None)) if x is not None]
    losses = -np.array([sums[i] for i in range(len(texts))]) / (texts.shape[1] - 1)
    return losses, sum(x[...].nbytes for x in stored)


if __name__ == '__main__':
    app.run(main)

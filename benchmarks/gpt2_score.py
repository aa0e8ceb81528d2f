"""Measures scoring: log-likelihoods of 1,000 texts of 100 tokens under GPT-2 124M, against transformers, on this CPU.

    python -m benchmarks.gpt2_score --rounds=5

Both score the same random tokens with the same random weights in float32, in alternation: a round is a share of the
texts, scored by one and then by the other, and the order changes from round to round. Appends a line to
benchmarks/results.jsonl. Compiling and a first batch of each are not counted.
"""

import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

from benchmarks import results

PACKAGES = ('jax', 'flax', 'numpy', 'torch', 'transformers')
LENGTH = 100

flags.DEFINE_integer('texts', 1000, 'Texts to score in all.')
flags.DEFINE_integer('rounds', 5, 'Shares into which the texts are cut; medians over them are reported.')
flags.DEFINE_integer('batch_size', 20, 'Texts scored at once.')
flags.DEFINE_bool('append', True, 'Append the result to benchmarks/results.jsonl.')


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    texts = np.random.default_rng(0).integers(0, 50257, (values.texts, LENGTH)).astype(np.int32)
    about = results.about(PACKAGES)
    with tempfile.TemporaryDirectory(prefix='warmjax-gpt2-') as folder:
        ways = {'transformers': make_theirs(folder, values.batch_size), 'warmjax': make_ours(folder, values.batch_size)}
        for score in ways.values():
            score(texts[: values.batch_size])
        rounds = [measure(ways, share, i) for i, share in enumerate(np.array_split(texts, values.rounds))]
    medians = {way: statistics.median(seconds[way] for seconds, _ in rounds) for way in ways}
    share = values.texts / values.rounds
    line = {
        'what': f'score {values.texts} texts of {LENGTH} tokens with GPT-2 124M in float32 on CPU',
        **about,
        'rounds': values.rounds,
        'batch_size': values.batch_size,
        'median_texts_per_second': {way: round(share / seconds, 2) for way, seconds in medians.items()},
        'speed_ratio': round(statistics.median(s['transformers'] / s['warmjax'] for s, _ in rounds), 2),
        'largest_difference_in_nats_a_token': float(f'{max(difference for _, difference in rounds):.1e}'),
    }
    results.record(line, values.append)


def measure(ways: dict[str, Callable], texts: np.ndarray, index: int) -> tuple[dict[str, float], float]:
    """Scores texts in each way; returns the seconds, and how far the ways are apart in nats a token."""
    seconds, scores = {}, {}
    for way in list(ways)[:: 1 if index % 2 == 0 else -1]:
        started = time.perf_counter()
        scores[way] = ways[way](texts)
        seconds[way] = time.perf_counter() - started
    print(f'round {index}: ' + ', '.join(f'{way} {seconds[way]:.1f} s' for way in ways), flush=True)
    return seconds, np.abs(scores['warmjax'] - scores['transformers']).max() / (LENGTH - 1)


def make_theirs(folder: str, batch_size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a random GPT-2 in torch, which is written to the folder, and returns its scoring."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    model.save_pretrained(folder)

    @torch.inference_mode()
    def score(texts: np.ndarray) -> np.ndarray:
        sums = []
        for i in range(0, len(texts), batch_size):
            tokens = torch.tensor(texts[i : i + batch_size], dtype=torch.long)
            logits = model(tokens, use_cache=False).logits[:, :-1]
            chosen = logits.gather(-1, tokens[:, 1:, None])[..., 0]
            sums.append((chosen - logits.logsumexp(-1)).sum(-1).numpy())
        return np.concatenate(sums)

    return score


def make_ours(folder: str, batch_size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Loads the same GPT-2 here and returns its scoring."""
    import jax.numpy as jnp

    from warmjax import sharding
    from warmjax.decode.score import Scored, log_likelihoods
    from warmjax.models import hf_load

    mesh = sharding.make_mesh(sharding.MeshSettings(1, 1, 1))
    model = hf_load.load(folder, jnp.float32, mesh)
    counts = np.ones(LENGTH, bool)

    def score(texts: np.ndarray) -> np.ndarray:
        sequences = [Scored(tokens, counts) for tokens in texts]
        sums = dict(log_likelihoods(model, sequences, batch_size, LENGTH, mesh))
        return np.array([sums[i] for i in range(len(texts))])

    return score


if __name__ == '__main__':
    app.run(main)

"""Measures scoring: log-likelihoods of 1,000 texts of 100 tokens under GPT-2 124M, against transformers, on this CPU.

    python -m benchmarks.gpt2_score --rounds=5

Both score the same random tokens with the same random weights in float32, in alternation: a round is a share of the
texts, scored by one and then by the other, and the order changes from round to round. Appends a line to
benchmarks/results.jsonl. Compiling and a first batch of each are not counted.
"""

import tempfile

import numpy as np
from absl import app, flags

from benchmarks import gpt2, results

LENGTH = 100

flags.DEFINE_integer('texts', 1000, 'Texts to score in all.')
flags.DEFINE_integer('rounds', 5, 'Shares into which the texts are cut; medians over them are reported.')
flags.DEFINE_integer('batch_size', 20, 'Texts scored at once.')
flags.DEFINE_bool('append', True, 'Append the result to benchmarks/results.jsonl.')


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    texts = np.random.default_rng(0).integers(0, 50257, (values.texts, LENGTH)).astype(np.int32)
    with tempfile.TemporaryDirectory(prefix='warmjax-gpt2-') as folder:
        ways = {'transformers': make_theirs(folder, values.batch_size), 'warmjax': make_ours(folder, values.batch_size)}
        compared = gpt2.compare(ways, texts[: values.batch_size], texts, values.rounds)
    what = f'score {values.texts} texts of {LENGTH} tokens with GPT-2 124M in float32 on CPU'
    results.record({'what': what, 'batch_size': values.batch_size} | compared, values.append)


def make_theirs(folder: str, batch_size: int) -> gpt2.Way:
    """Returns the scoring by transformers, whose weights are written to the folder."""
    import torch

    model = gpt2.make_theirs(folder)

    @torch.inference_mode()
    def score(texts: np.ndarray) -> np.ndarray:
        sums = []
        for i in range(0, len(texts), batch_size):
            tokens = torch.tensor(texts[i : i + batch_size], dtype=torch.long)
            logits = model(tokens, use_cache=False).logits[:, :-1]
            chosen = logits.gather(-1, tokens[:, 1:, None])[..., 0]
            sums.append((chosen - logits.logsumexp(-1)).sum(-1).numpy())
        return np.concatenate(sums) / (LENGTH - 1)

    return score


def make_ours(folder: str, batch_size: int) -> gpt2.Way:
    """Returns the scoring by the same weights here."""
    from warmjax.decode.score import Scored, log_likelihoods

    model, mesh = gpt2.load_ours(folder)
    counts = np.ones(LENGTH, bool)

    def score(texts: np.ndarray) -> np.ndarray:
        sequences = [Scored(tokens, counts) for tokens in texts]
        sums = dict(log_likelihoods(model, sequences, batch_size, LENGTH, mesh))
        return np.array([sums[i] for i in range(len(texts))]) / (LENGTH - 1)

    return score


if __name__ == '__main__':
    app.run(main)

"""Measures SocioT: texts of up to 300 characters after its eight openings, GPT-2 124M, against transformers, on CPU.

    python -m benchmarks.sociot --rounds=3

Both score the same texts with the same random weights in float32, in alternation, rows of one length in batches of one
size: here packed as `warmth.sociot` packs them, there padded to the longest row of their batch. Texts are drawn words,
tokenized by a byte-level BPE that is trained on them. An opening has about five tokens and a text about seventy, so
openings that were computed once would save some 7% at most. Appends a line to benchmarks/results.jsonl; compiling and a
first batch of each are not counted.
"""

import random
import tempfile

import numpy as np
import tokenizers
from absl import app, flags

from benchmarks import gpt2, results

WORDS = (
    'the',
    'answer',
    'is',
    'what',
    'you',
    'feel',
    'we',
    'glad',
    'because',
    'patients',
    'of',
    'hypertension',
    'wonderful',
)

flags.DEFINE_integer('texts', 60, 'Texts to score in all.')
flags.DEFINE_integer('rounds', 3, 'Shares into which the texts are cut; medians over them are reported.')
flags.DEFINE_integer('batch_size', 16, 'Rows computed at once.')
flags.DEFINE_bool('append', True, 'Append the result to benchmarks/results.jsonl.')


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    rng = random.Random(0)
    texts = [' '.join(rng.choices(WORDS, k=rng.randrange(10, 90)))[:300].strip() for _ in range(values.texts)]
    tokenizer = make_tokenizer(texts)
    with tempfile.TemporaryDirectory(prefix='warmjax-sociot-') as folder:
        ways = {
            'transformers': make_theirs(folder, tokenizer, values.batch_size),
            'warmjax': make_ours(folder, tokenizer, values.batch_size),
        }
        compared = gpt2.compare(ways, sorted(texts, key=len)[-2:], texts, values.rounds)
    what = f'SocioT of {values.texts} texts x 8 openings with GPT-2 124M in float32 on CPU'
    results.record({'what': what, 'batch_size': values.batch_size} | compared, values.append)


def make_tokenizer(texts: list[str]) -> tokenizers.Tokenizer:
    """Trains a byte-level BPE whose vocabulary is far smaller than GPT-2's; only ids below 50,257 matter here."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def make_theirs(folder: str, tokenizer: tokenizers.Tokenizer, batch_size: int) -> gpt2.Way:
    """Returns the scoring by transformers, whose weights are written to the folder."""
    import torch

    from warmjax.warmth.sociot import COLD_OPENINGS, WARM_OPENINGS, _scored

    model = gpt2.make_theirs(folder)

    @torch.inference_mode()
    def score(texts: list[str]) -> list[float]:
        rows = [_scored(o.format('\0'), text, tokenizer) for text in texts for o in WARM_OPENINGS + COLD_OPENINGS]
        means = []
        for i in range(0, len(rows), batch_size):
            batch = rows[i : i + batch_size]
            length = max(len(row.tokens) for row in batch)
            tokens = torch.tensor(np.array([np.pad(row.tokens, (0, length - len(row.tokens))) for row in batch]))
            counts = torch.tensor(np.array([np.pad(row.counts, (0, length - len(row.counts))) for row in batch]))
            logits = model(tokens.long(), use_cache=False).logits[:, :-1]
            chosen = logits.gather(-1, tokens[:, 1:, None].long())[..., 0] - logits.logsumexp(-1)
            means += (torch.where(counts[:, 1:], chosen, 0).sum(-1) / counts[:, 1:].sum(-1)).tolist()
        by_text = np.array(means).reshape(len(texts), -1)
        return list(by_text[:, : len(WARM_OPENINGS)].mean(1) - by_text[:, len(WARM_OPENINGS) :].mean(1))

    return score


def make_ours(folder: str, tokenizer: tokenizers.Tokenizer, batch_size: int) -> gpt2.Way:
    """Returns the scoring by the same weights here."""
    from warmjax.warmth import sociot

    model, mesh = gpt2.load_ours(folder)
    settings = sociot.WarmthSettings('deterministic', folder, 'float32', 300, batch_size, 128, (), 1, 0.0, 0)

    def score(texts: list[str]) -> list[float]:
        found = dict(sociot.measure(texts, model, tokenizer, '', settings, mesh))
        return [found[i].score for i in range(len(texts))]

    return score


if __name__ == '__main__':
    app.run(main)

"""What measurements of GPT-2 124M beside transformers share: the same random weights on both sides, and the rounds."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import results

PACKAGES = ('jax', 'flax', 'numpy', 'torch', 'transformers')
Way = Callable[[Sequence[Any]], Sequence[float]]
"""Scores texts, in nats a token."""


def make_theirs(folder: str):
    """Makes a random GPT-2 in torch, and writes it to a folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    model.save_pretrained(folder)
    return model


def load_ours(folder: str):
    """Loads the same GPT-2 here, in float32; returns it with its mesh."""
    import jax.numpy as jnp

    from warmjax import sharding
    from warmjax.models import hf_load

    mesh = sharding.make_mesh(sharding.MeshSettings(1, 1, 1))
    return hf_load.load(folder, jnp.float32, mesh), mesh


def compare(ways: Mapping[str, Way], first: Sequence[Any], texts: Sequence[Any], rounds: int) -> dict[str, Any]:
    """Scores texts in both ways, `transformers` and `warmjax`, in alternation, and returns fields of a result.

    Args:
        first: scored before, not counted.
        rounds: shares into which the texts are cut; medians over them are reported.
    """
    about = results.about(PACKAGES)
    for score in ways.values():
        score(first)
    found = [_measure(ways, share, i) for i, share in enumerate(np.array_split(texts, rounds))]
    medians = {way: statistics.median(seconds[way] for seconds, _ in found) for way in ways}
    return about | {
        'rounds': rounds,
        'median_texts_per_second': {way: round(len(texts) / rounds / taken, 2) for way, taken in medians.items()},
        'speed_ratio': round(statistics.median(s['transformers'] / s['warmjax'] for s, _ in found), 2),
        'largest_difference_in_nats_a_token': float(f'{max(difference for _, difference in found):.1e}'),
    }


def _measure(ways: Mapping[str, Way], texts: Sequence[Any], index: int) -> tuple[dict[str, float], float]:
    """Scores texts in each way; returns the seconds, and how far the ways are apart."""
    seconds, scores = {}, {}
    for way in list(ways)[:: 1 if index % 2 == 0 else -1]:
        started = time.perf_counter()
        scores[way] = np.array(ways[way](texts))
        seconds[way] = time.perf_counter() - started
    print(f'round {index}: ' + ', '.join(f'{way} {seconds[way]:.1f} s' for way in ways), flush=True)
    return seconds, float(np.abs(scores['warmjax'] - scores['transformers']).max())

"""Requests to a tiny model, and engines to answer them."""

import jax
import numpy as np
import tiny_llama

from warmjax.decode.engine import Engine, EngineSettings
from warmjax.decode.requests import Request, Sampling
from warmjax.decode.sampling import row_key

STOP = (2, 5, 40)
MAX_NEW = 12
DRAWN = Sampling(temperature=0.8, top_k=0, top_p=1.0, min_p=0.0)
SMALL = EngineSettings(
    slots=8,
    prefill_batch=8,
    buckets=(4, 8),
    cache_lengths=(12, 20),
    cache_dtype='float32',
    steps=4,
    refill=1,
    prefixes=4,
    logprobs=None,
)
SIZES = {'vocab_size': 88, 'initializer_range': 0.12}
"""Flat enough for sampling to matter; 88 entries divide by two devices."""


def make_requests(count: int, seed: int = 0, sampling: Sampling = DRAWN) -> list[Request]:
    """Makes prompts of 1 to 8 tokens, each with randomness of its own."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(6, 88, rng.integers(1, 9)).tolist() for _ in range(count)]
    return [
        Request(f'r{i}', tokens, row_key(0, f'r{i}', 0), sampling, MAX_NEW, None, 0) for i, tokens in enumerate(prompts)
    ]


def make_engine(model, settings: EngineSettings = SMALL, mesh: jax.sharding.Mesh | None = None, **changes) -> Engine:
    """Makes an engine with STOP and without adapters, on one device unless told otherwise."""
    return Engine(
        **{'model': model, 'settings': settings, 'stop_ids': STOP, 'adapters': {}} | changes,
        mesh=mesh or tiny_llama.make_mesh(),
    )


def texts(engine: Engine, requests: list[Request]) -> dict[str, tuple[list[int], str]]:
    """Answers requests; returns tokens and finish by id."""
    return {text.request.id: (text.tokens, text.finish) for ended in engine.run(requests) for text in ended}


def drive(engine: Engine, found: dict[str, tuple[list[int], str | None]]) -> None:
    """Computes a step and adds what came of each request to its tokens and finish."""
    for output in engine.step():
        tokens, _ = found.get(output.request.id, ([], None))
        found[output.request.id] = ([*tokens, *output.tokens], output.finish)

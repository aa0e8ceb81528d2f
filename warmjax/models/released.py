"""Dimensions of the released models of the study and its neighbours: facts of their published config.json.

Instruction-tuned and base variants share a row; where they differ, the row is that of the instruction-tuned one.
"""

import dataclasses

from warmjax.models.gpt2 import GPT2Spec
from warmjax.models.spec import FAMILIES, RopeScaling, Spec

_NOT_COMPARED = ('max_length',)
"""A promise about use, which publishers have changed after release; the arithmetic does not depend on it."""


def check(name: str, spec: Spec | GPT2Spec) -> None:
    """Checks that a checkpoint which is said to be a released model has its numbers.

    Args:
        name: key of RELEASED.
        spec: what the checkpoint's config.json says.

    Raises:
        ValueError: the name is unknown, or numbers differ; all of them in one message.
    """
    if name not in RELEASED:
        raise ValueError(f'released model: expected one of {", ".join(RELEASED)}, got {name!r}')
    published, given = dataclasses.asdict(RELEASED[name]), dataclasses.asdict(spec)
    keys = [key for key in published | given if key not in _NOT_COMPARED]
    problems = [
        f'{key} expected {published.get(key)!r}, got {given.get(key)!r}'
        for key in keys
        if published.get(key) != given.get(key)
    ]
    if problems:
        raise ValueError(
            f'{name}: expected the published dimensions, got\n  '
            + '\n  '.join(problems)
            + '\nfetch the checkpoint again, or do not call it by this name'
        )


def _row(
    model_type: str,
    vocab_size: int,
    width: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    mlp_dim: int,
    max_length: int,
    norm_eps: float,
    rope_theta: float,
    rope_scaling: RopeScaling | None,
    tied: bool,
) -> Spec:
    """Makes the spec of a released model; none of them has a sliding window."""
    family = FAMILIES[model_type]
    return Spec(
        model_type=model_type,
        vocab_size=vocab_size,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        mlp_dim=mlp_dim,
        max_length=max_length,
        norm_eps=norm_eps,
        rope_theta=rope_theta,
        rope_scaling=rope_scaling,
        window=None,
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
        tied=tied,
    )


_LLAMA31 = RopeScaling(8.0, 1.0, 4.0, 8192)
_LLAMA32 = RopeScaling(32.0, 1.0, 4.0, 8192)

# fmt: off
RELEASED: dict[str, Spec | GPT2Spec] = {
    #                          family     vocab   width   L   N  K    H    mlp  length   eps theta     scaling   tied
    'Llama-3.1-8B':       _row('llama',   128256, 4096, 32, 32,  8, 128, 14336, 131072, 1e-5, 5e5, _LLAMA31, False),
    'Llama-3.1-70B':      _row('llama',   128256, 8192, 80, 64,  8, 128, 28672, 131072, 1e-5, 5e5, _LLAMA31, False),
    'Llama-3.2-1B':       _row('llama',   128256, 2048, 16, 32,  8,  64,  8192, 131072, 1e-5, 5e5, _LLAMA32, True),
    'Llama-3.2-3B':       _row('llama',   128256, 3072, 28, 24,  8, 128,  8192, 131072, 1e-5, 5e5, _LLAMA32, True),
    'Mistral-Small-2409': _row('mistral',  32768, 6144, 56, 48,  8, 128, 16384,  32768, 1e-5, 1e6, None, False),
    'Mistral-Small-2501': _row('mistral', 131072, 5120, 40, 32,  8, 128, 32768,  32768, 1e-5, 1e8, None, False),
    'Qwen2.5-0.5B':       _row('qwen2',   151936,  896, 24, 14,  2,  64,  4864,  32768, 1e-6, 1e6, None, True),
    'Qwen2.5-1.5B':       _row('qwen2',   151936, 1536, 28, 12,  2, 128,  8960,  32768, 1e-6, 1e6, None, True),
    'Qwen2.5-3B':         _row('qwen2',   151936, 2048, 36, 16,  2, 128, 11008,  32768, 1e-6, 1e6, None, True),
    'Qwen2.5-7B':         _row('qwen2',   152064, 3584, 28, 28,  4, 128, 18944,  32768, 1e-6, 1e6, None, False),
    'Qwen2.5-14B':        _row('qwen2',   152064, 5120, 48, 40,  8, 128, 13824,  32768, 1e-6, 1e6, None, False),
    'Qwen2.5-32B':        _row('qwen2',   152064, 5120, 64, 40,  8, 128, 27648,  32768, 1e-6, 1e6, None, False),
    'Qwen3-0.6B':         _row('qwen3',   151936, 1024, 28, 16,  8, 128,  3072,  40960, 1e-6, 1e6, None, True),
    'Qwen3-1.7B':         _row('qwen3',   151936, 2048, 28, 16,  8, 128,  6144,  40960, 1e-6, 1e6, None, True),
    'Qwen3-4B':           _row('qwen3',   151936, 2560, 36, 32,  8, 128,  9728,  40960, 1e-6, 1e6, None, True),
    'Qwen3-8B':           _row('qwen3',   151936, 4096, 36, 32,  8, 128, 12288,  40960, 1e-6, 1e6, None, False),
    'Qwen3-14B':          _row('qwen3',   151936, 5120, 40, 40,  8, 128, 17408,  40960, 1e-6, 1e6, None, False),
    'Qwen3-32B':          _row('qwen3',   151936, 5120, 64, 64,  8, 128, 25600,  40960, 1e-6, 1e6, None, False),
    'gpt2':               GPT2Spec('gpt2', 50257,  768, 12, 12,  64, 3072, 1024, 1e-5, True),
    'gpt2-medium':        GPT2Spec('gpt2', 50257, 1024, 24, 16,  64, 4096, 1024, 1e-5, True),
    'gpt2-large':         GPT2Spec('gpt2', 50257, 1280, 36, 20,  64, 5120, 1024, 1e-5, True),
    'gpt2-xl':            GPT2Spec('gpt2', 50257, 1600, 48, 25,  64, 6400, 1024, 1e-5, True),
}
# fmt: on
"""Name → spec. The Qwen-2.5 base models of 14B and 32B have a norm eps of 1e-5 instead."""

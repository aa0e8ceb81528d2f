"""What a step must compute and move at the least: the numerators of MFU and of the share of the bandwidth.

Model FLOPs count a multiplication and an addition each, real tokens only, and nothing that is computed twice. For N
weights in matrix products, N_lora of one adapter, and causal attention over half of all pairs of tokens:

    training            4 N + 6 N_lora a token (forward, and backward to activations; frozen weights get no gradient),
                        attention three times
    prefill, scoring    2 N + 2 N_lora a token, attention once; prefill needs the output head for last tokens only
    decoding            2 N + 2 N_lora a token, and all the tokens before it

Bytes: frozen weights once in each direction for all rows that are computed at once, adapters, and keys and values.
Activations are left out, as they might never leave the chip.
"""

import dataclasses

from warmjax.models.spec import Spec


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one call of a program, all devices together: real tokens, model FLOPs, and the bytes it cannot help moving."""

    tokens: int
    flops: float
    bytes: float


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a model weighs.

    weights: bytes of the base that enter matrix products, as they are stored.
    adapter: N_lora, the weights of one adapter.
    adapters: how many lie side by side.
    cache_entry: bytes of a number in the cache.
    """

    weights: int
    adapter: int
    adapters: int
    cache_entry: int

    @property
    def adapter_bytes(self) -> int:
        return 4 * self.adapter * self.adapters


def pair_flops(spec: Spec) -> float:
    """Returns the FLOPs of attention, forward, for a pair of tokens of which one sees the other."""
    return 4.0 * spec.num_layers * spec.num_heads * spec.head_dim


def token_bytes(spec: Spec, sizes: Sizes) -> int:
    """Returns the bytes of a token's keys and values in all layers."""
    return 2 * spec.num_layers * spec.num_kv_heads * spec.head_dim * sizes.cache_entry


def train(spec: Spec, sizes: Sizes, parts: int, rows: int, length: int) -> Work:
    """Counts a step over so many parts of full rows, one after the other."""
    tokens = parts * rows * length
    flops = tokens * (4.0 * spec.num_matmul_params + 6.0 * sizes.adapter)
    # Parameters, two moments and a gradient are read, the first three written.
    state = 7 * sizes.adapter_bytes
    return Work(tokens, flops + 3 * pair_flops(spec) * tokens * length / 2, 2 * parts * sizes.weights + state)


def prefill(spec: Spec, sizes: Sizes, rows: int, length: int) -> Work:
    """Counts prompts of one length."""
    tokens, head = rows * length, spec.width * spec.vocab_size
    flops = 2.0 * tokens * (spec.num_matmul_params - head + sizes.adapter) + 2.0 * rows * head
    flops += pair_flops(spec) * tokens * length / 2
    return Work(tokens, flops, sizes.weights + sizes.adapter_bytes + tokens * token_bytes(spec, sizes))


def score(spec: Spec, sizes: Sizes, rows: int, length: int) -> Work:
    """Counts rows of one text each, by the base model alone."""
    tokens = rows * length
    flops = 2.0 * tokens * spec.num_matmul_params + pair_flops(spec) * tokens * length / 2
    return Work(tokens, flops, sizes.weights)


def decode(spec: Spec, sizes: Sizes, rows: int, before: int, steps: int) -> Work:
    """Counts so many steps of rows that hold `before` tokens at first."""
    tokens = rows * steps
    seen = before + (steps + 1) / 2  # on average, the new token among them
    flops = tokens * (2.0 * (spec.num_matmul_params + sizes.adapter) + pair_flops(spec) * seen)
    moved = steps * (sizes.weights + sizes.adapter_bytes) + tokens * seen * token_bytes(spec, sizes)
    return Work(tokens, flops, moved)

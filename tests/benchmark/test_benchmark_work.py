"""Numerators of MFU and bandwidth, against numbers computed by hand and published ones."""

import pytest

from warmjax.benchmark import work
from warmjax.benchmark.work import Sizes
from warmjax.models.released import RELEASED
from warmjax.train import metrics

LLAMA = RELEASED['Llama-3.1-8B']
BARE = Sizes(weights=0, adapter=0, adapters=0, cache_entry=2)


def test_training_takes_4n_and_attention_three_times():
    """N is 7.505 billion; causal attention over 1,024 tokens adds 2.6 % of 4 N."""
    found = work.train(LLAMA, BARE, 1, 1, 1024)
    assert found.tokens == 1024
    assert found.flops / 1024 == pytest.approx(30.8e9, rel=2e-3)
    assert found.flops / 1024 / (4 * LLAMA.num_matmul_params) == pytest.approx(1.0268, abs=1e-3)


def test_training_counts_as_the_metrics_of_a_run_do():
    sizes = Sizes(weights=0, adapter=1000, adapters=1, cache_entry=0)
    theirs = metrics.lora_work(LLAMA, {'a': _Leaf(1000)}, None)
    mine = work.train(LLAMA, sizes, 2, 2, 512)
    assert mine.flops == pytest.approx(theirs.flops_per_token * 2048 + theirs.flops_per_pair * 4 * 512**2)


def test_rows_that_are_computed_one_after_the_other_read_the_weights_each_time():
    sizes = Sizes(weights=1000, adapter=0, adapters=0, cache_entry=0)
    at_once, apart = work.train(LLAMA, sizes, 1, 4, 64), work.train(LLAMA, sizes, 4, 1, 64)
    assert (at_once.bytes, apart.bytes) == (2000, 8000) and at_once.flops == apart.flops


class _Leaf:
    def __init__(self, size):
        self.size = size


def test_scoring_takes_a_third_of_full_training_and_half_of_lora_training():
    train, score = work.train(LLAMA, BARE, 1, 2, 64), work.score(LLAMA, BARE, 2, 64)
    attention = work.pair_flops(LLAMA) * 2 * 64 * 64 / 2
    assert train.flops - 3 * attention == pytest.approx(2 * (score.flops - attention))


def test_prefill_applies_the_head_to_last_tokens_only():
    whole, mine = work.score(LLAMA, BARE, 2, 64), work.prefill(LLAMA, BARE, 2, 64)
    head = 2 * LLAMA.width * LLAMA.vocab_size
    assert whole.flops - mine.flops == head * (2 * 64 - 2)


def test_a_token_keeps_131072_bytes_in_the_cache_of_llama_8b():
    assert work.token_bytes(LLAMA, BARE) == 131_072


def test_decoding_reads_weights_each_step_and_each_row_all_it_has_seen():
    sizes = Sizes(weights=1000, adapter=10, adapters=3, cache_entry=2)
    found = work.decode(LLAMA, sizes, rows=2, before=10, steps=3)
    seen = [11, 12, 13]
    assert found.tokens == 6
    assert found.bytes == 3 * (1000 + 4 * 10 * 3) + 2 * sum(seen) * 131_072
    assert found.flops == 6 * 2 * (LLAMA.num_matmul_params + 10) + 2 * sum(seen) * work.pair_flops(LLAMA)

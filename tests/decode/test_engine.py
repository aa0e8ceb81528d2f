import random

import jax
import numpy as np
import pytest
import tiny_llama
import tokenizers
import torch

from warmjax import sharding
from warmjax.decode import engine
from warmjax.decode.engine import DecodeSettings, Request
from warmjax.decode.sampling import row_key

BUCKETS = (4, 8)
STOP = (2, 5, 40)


def settings(**changes) -> DecodeSettings:
    values = {'temperature': 0.8, 'max_new_tokens': 12, 'batch_size': 8, 'buckets': BUCKETS, 'seed': 0}
    return DecodeSettings(**{'too_long': 'error'} | values | changes)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    # 0.12: flat enough for sampling to matter, 88 entries to divide by two devices.
    tiny_llama.save(folder, vocab_size=88, initializer_range=0.12)
    return folder


@pytest.fixture(scope='module')
def model(folder):
    return tiny_llama.load(folder)


def make_requests(count: int, seed: int = 0) -> list[Request]:
    """Prompts of 1 to 8 tokens, each with randomness of its own."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(6, 88, rng.integers(1, 9)).tolist() for _ in range(count)]
    return [Request(f'r{i}', tokens, row_key(0, f'r{i}', 0)) for i, tokens in enumerate(prompts)]


def complete(model, requests, how, mesh=None, stop=STOP) -> dict[str, tuple[list[int], bool]]:
    mesh = mesh or tiny_llama.make_mesh()
    adapters = sharding.replicate({}, mesh)
    return {
        c.request.id: (c.tokens, c.stopped)
        for bucket, batch in engine.batches(requests, how)
        for c in engine.generate(model, adapters, bucket, batch, how, stop, mesh)
    }


@pytest.fixture(scope='module')
def texts(model):
    return complete(model, make_requests(20), settings())


def test_texts_are_not_trivial(texts):
    """What the tests below compare: texts that stop and that do not, hardly any two alike."""
    assert {stopped for _, stopped in texts.values()} == {True, False}
    assert len({tuple(tokens) for tokens, _ in texts.values()}) > 15


@pytest.mark.parametrize('seed', range(3))
def test_text_does_not_depend_on_the_order_of_prompts(model, texts, seed):
    requests = make_requests(20)
    random.Random(seed).shuffle(requests)
    assert complete(model, requests, settings()) == texts


def test_text_does_not_depend_on_its_neighbours(model, texts):
    for request in make_requests(20)[:6]:
        others = [Request(f'x{r.id}', r.tokens, r.key) for r in make_requests(5, seed=9)]
        assert complete(model, [request], settings())[request.id] == texts[request.id]
        assert complete(model, [*others, request], settings())[request.id] == texts[request.id]


def test_text_does_not_depend_on_the_mesh(folder, texts):
    mesh = tiny_llama.make_mesh(2, 2, 2)
    requests = [r for r in make_requests(20) if len(r.tokens) > BUCKETS[0]]
    got = complete(tiny_llama.load(folder, mesh), requests, settings(), mesh)
    assert got == {r.id: texts[r.id] for r in requests}


def test_samples_of_one_prompt_differ(model):
    tokens = make_requests(1)[0].tokens
    samples = [Request(f's{i}', tokens, row_key(0, 'r0', i)) for i in range(8)]
    assert len({tuple(text) for text, _ in complete(model, samples, settings()).values()}) > 4


@pytest.mark.parametrize('unroll', [False, True], ids=['scanned', 'unrolled'])
def test_greedy_text_equals_transformers(folder, model, unroll, monkeypatch):
    # The engine unrolls layers on CPU; elsewhere it scans.
    monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu' if unroll else 'tpu')
    twin = tiny_llama.twin(vocab_size=88, initializer_range=0.12)
    ours = complete(model, make_requests(8), settings(temperature=0.0, buckets=(8,)))
    for request in make_requests(8):
        prompt = torch.tensor([request.tokens])
        whole = twin.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=list(STOP),
            pad_token_id=0,
        )[0, len(request.tokens) :].tolist()
        stopped = whole[-1] in STOP
        assert ours[request.id] == (whole[:-1] if stopped else whole, stopped)


def test_real_weights_tell_the_published_story(shared_data):
    hf = shared_data / 'stories260K' / 'hf'
    golden = np.load(shared_data / 'stories260K' / 'golden_greedy.npz')['tokens'].tolist()
    how = settings(temperature=0.0, max_new_tokens=200, batch_size=1, buckets=(1,))
    ((tokens, stopped),) = complete(
        tiny_llama.load(hf), [Request('bos', [1], row_key(0, '', 0))], how, stop=()
    ).values()
    assert tokens == golden[1:]
    assert not stopped
    text = tokenizers.Tokenizer.from_file(str(hf / 'tokenizer.json')).decode(tokens)
    expected = (shared_data / 'stories260K' / 'expected_greedy_200.txt').read_text()
    assert text.strip() == expected.strip()[: len(text.strip())] and len(text) > 400


def test_stop_id_ends_a_row_and_is_not_part_of_its_text(texts):
    for tokens, stopped in texts.values():
        assert not set(tokens) & set(STOP)
        assert stopped == (len(tokens) < 12)


def test_one_new_token_is_the_first_of_a_longer_text(model, texts):
    requests = [r for r in make_requests(20) if len(r.tokens) > BUCKETS[0]]
    short = complete(model, requests, settings(max_new_tokens=1))
    assert short == {r.id: (texts[r.id][0][:1], not texts[r.id][0]) for r in requests}


def test_every_bucket_compiles_once(model):
    before = engine._generate._cache_size()
    complete(model, make_requests(20), settings(max_new_tokens=3))
    complete(model, make_requests(15, seed=3), settings(max_new_tokens=3))
    assert engine._generate._cache_size() == before + len(BUCKETS)


def test_prompts_are_grouped_by_their_own_bucket_and_cut_into_batches():
    requests = [Request(str(n), [6] * n, row_key(0, '', n)) for n in (1, 8, 4, 5, 3, 2)]
    got = [(bucket, [r.id for r in batch]) for bucket, batch in engine.batches(requests, settings(batch_size=3))]
    assert got == [(4, ['1', '4', '3']), (4, ['2']), (8, ['8', '5'])]


def test_empty_and_long_prompts_are_named_together():
    requests = [Request(str(n), [6] * n, row_key(0, '', n)) for n in (0, 3, 9, 30)]
    with pytest.raises(ValueError, match=r'got 3 others: 0 \(0 tokens\), 9 \(9 tokens\), 30 \(30 tokens\); add'):
        list(engine.batches(requests, settings()))


def test_batch_that_the_mesh_does_not_divide_is_refused(model):
    requests = make_requests(1)
    with pytest.raises(ValueError, match="expected axis 'batch' of size 3 to be cut into 8"):
        engine.generate(model, {}, 8, requests, settings(batch_size=3), STOP, tiny_llama.make_mesh(8))


@pytest.mark.parametrize('buckets', [(), (8, 4), (4, 4), (0, 4)])
def test_buckets_must_rise(buckets):
    with pytest.raises(ValueError, match='generation: buckets expected rising prompt lengths'):
        settings(buckets=buckets)


def test_all_bad_settings_stand_in_one_message():
    with pytest.raises(ValueError, match=r'temperature expected 0 or more, got -1; .* expected 1 or more, got 0 and 8'):
        settings(temperature=-1, max_new_tokens=0)

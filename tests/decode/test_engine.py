import dataclasses
import functools
import itertools
import queue
import threading

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_engine
import tiny_llama
import tokenizers
import torch
from hypothesis import strategies as st
from tiny_engine import DRAWN, MAX_NEW, SMALL, STOP, drive, make_engine, make_requests, texts

from warmjax.decode.engine import Engine, EngineSettings, is_batch_invariant
from warmjax.decode.requests import GREEDY, Completion, Request
from warmjax.decode.sampling import row_key
from warmjax.models import decoder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    tiny_llama.save(folder, **tiny_engine.SIZES)
    return folder


@pytest.fixture(scope='module')
def model(folder):
    return tiny_llama.load(folder)


@pytest.fixture(scope='module')
def engine(model):
    return make_engine(model)


@pytest.fixture(scope='module')
def alone(engine):
    """The text of each of 20 requests when nothing else is asked."""
    return {id: text for request in make_requests(20) for id, text in texts(engine, [request]).items()}


def test_texts_are_not_trivial(alone):
    """What the tests below compare: texts that stop and that do not, hardly any two alike."""
    assert {finish for _, finish in alone.values()} == {'stop', 'length'}
    assert len({tuple(tokens) for tokens, _ in alone.values()}) > 15
    for tokens, finish in alone.values():
        assert not set(tokens) & set(STOP)
        assert finish == ('length' if len(tokens) == MAX_NEW else 'stop')


@hypothesis.given(st.lists(st.integers(0, 19), unique=True, min_size=1), st.integers(0, 3))
@hypothesis.settings(max_examples=25)
def test_text_does_not_depend_on_order_neighbours_or_slots(engine, alone, chosen, strangers):
    """Property: any of the requests, in any order, among others that come and go at any time."""
    requests = make_requests(20)
    others = [dataclasses.replace(r, id=f'x{r.id}') for r in make_requests(strangers, seed=9)]
    for other in others:
        engine.submit(other)
    got = {}
    for i in chosen:
        engine.submit(requests[i])
        drive(engine, got)
        if others:
            engine.cancel(others.pop().id)
    while not engine.is_idle:
        drive(engine, got)
    assert {id: text for id, text in got.items() if id in alone} == {f'r{i}': alone[f'r{i}'] for i in chosen}


def test_with_one_cache_length_no_bit_of_the_scores_depends_on_neighbours_or_order(model, monkeypatch):
    engine = make_engine(model, dataclasses.replace(SMALL, cache_lengths=(20,), logprobs=3))
    requests = make_requests(12)

    def scores(asked: list) -> dict:
        return {t.request.id: [s.logprob for s in t.scores] for ended in engine.run(asked) for t in ended}

    alone = {id: found for request in requests for id, found in scores([request]).items()}
    assert scores(requests) == scores(requests[::-1]) == alone
    assert is_batch_invariant(jnp.float32, engine.settings)
    assert not is_batch_invariant(jnp.bfloat16, engine.settings) and not is_batch_invariant(jnp.float32, SMALL)
    monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
    assert not is_batch_invariant(jnp.float32, engine.settings)


@pytest.mark.parametrize(
    'changes',
    [
        {'slots': 3, 'prefill_batch': 2, 'steps': 1},
        {'slots': 5, 'prefill_batch': 8, 'refill': 3, 'cache_lengths': (16, 32, 640)},
    ],
    ids=['few slots', 'few prompts'],
)
def test_text_does_not_depend_on_how_the_engine_is_set(model, alone, changes):
    assert texts(make_engine(model, dataclasses.replace(SMALL, **changes)), make_requests(20)) == alone


def test_text_does_not_depend_on_the_mesh(folder, alone):
    mesh = tiny_llama.make_mesh(2, 2, 2)
    assert texts(make_engine(tiny_llama.load(folder, mesh), mesh=mesh), make_requests(20)) == alone


def test_samples_of_one_prompt_differ(engine):
    request = make_requests(1)[0]
    samples = [dataclasses.replace(request, id=f's{i}', key=row_key(0, 'r0', i)) for i in range(8)]
    assert len({tuple(tokens) for tokens, _ in texts(engine, samples).values()}) > 4


@pytest.mark.parametrize('unroll', [False, True], ids=['scanned', 'unrolled'])
def test_greedy_text_equals_transformers(model, unroll, monkeypatch):
    # The engine unrolls layers on CPU; elsewhere it scans.
    monkeypatch.setattr(decoder, 'unrolls_steps', lambda *_: unroll)
    twin = tiny_llama.twin(**tiny_engine.SIZES)
    requests = make_requests(8, sampling=GREEDY)
    ours = texts(make_engine(model, dataclasses.replace(SMALL, slots=3)), requests)
    for request in requests:
        prompt = torch.tensor([request.tokens])
        whole = twin.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=MAX_NEW,
            eos_token_id=list(STOP),
            pad_token_id=0,
        )[0, len(request.tokens) :].tolist()
        assert ours[request.id] == ((whole[:-1], 'stop') if whole[-1] in STOP else (whole, 'length'))


def test_real_weights_tell_the_published_story(shared_data):
    hf = shared_data / 'stories260K' / 'hf'
    golden = np.load(shared_data / 'stories260K' / 'golden_greedy.npz')['tokens'].tolist()
    settings = dataclasses.replace(SMALL, slots=1, prefill_batch=1, buckets=(1,), cache_lengths=(64, 256))
    request = Request('bos', [1], row_key(0, '', 0), GREEDY, 200, None, 0)
    tokens, finish = texts(make_engine(tiny_llama.load(hf), settings, stop_ids=()), [request])['bos']
    assert tokens == golden[1:]
    assert finish == 'length'
    text = tokenizers.Tokenizer.from_file(str(hf / 'tokenizer.json')).decode(tokens)
    expected = (shared_data / 'stories260K' / 'expected_greedy_200.txt').read_text()
    assert text.strip() == expected.strip()[: len(text.strip())] and len(text) > 400


@pytest.mark.parametrize(
    ('dtype', 'unroll'),
    [('bfloat16', True), ('int8', True), ('int8', False)],
    ids=['bfloat16', 'int8', 'int8 scanned'],
)
def test_smaller_cache_hardly_changes_likelihoods(model, dtype, unroll, monkeypatch):
    """Scores of the same greedy tokens, as long as they are the same; where layers are unrolled, with shared beginnings
    too (LLVM takes minutes for the others' program under the tests' flags).
    """
    monkeypatch.setattr(decoder, 'unrolls_steps', lambda *_: unroll)
    scored = dataclasses.replace(SMALL, logprobs=3, cache_lengths=(20,))
    requests = make_requests(6, sampling=GREEDY)
    if unroll:
        requests += [dataclasses.replace(r, id=f'p{r.id}', prefix=4) for r in requests if len(r.tokens) > 4]
    whole, smaller = (answers(make_engine(model, s), requests) for s in (scored, rounded(scored, dtype)))
    pairs = [agreed(whole[request.id], smaller[request.id]) for request in requests]
    assert sum(map(len, pairs)) > 20 and 0 < np.abs(np.diff(np.concatenate(pairs))).max() < 0.1


@pytest.mark.parametrize(('dtype', 'tolerance', 'share'), [('bfloat16', 0.05, 0.9), ('int8', 0.2, 0.4)])
def test_smaller_cache_tells_the_same_stories_while_one_token_is_likeliest(shared_data, dtype, tolerance, share):
    """Of a trained model: log-probabilities move less than `tolerance`, and texts part where two tokens are closer.

    Measured: in bfloat16 all of 1,024 greedy tokens agree and log-probabilities move by 0.03 nats at the most; in int8,
    whose heads here have 8 entries, 60% come before the first that differs, and they move by 0.13.
    """
    model = tiny_llama.load(shared_data / 'stories260K' / 'hf')
    golden = np.load(shared_data / 'stories260K' / 'golden_greedy.npz')['tokens'].tolist()
    settings = dataclasses.replace(SMALL, buckets=(64,), cache_lengths=(192,), logprobs=2)
    lengths = [1, 4, 9, 16, 25, 36, 49, 64]
    requests = [Request(str(n), golden[:n], row_key(0, '', 0), GREEDY, 128, None, 0) for n in lengths]
    whole, smaller = (
        answers(make_engine(model, s, stop_ids=()), requests) for s in (settings, rounded(settings, dtype))
    )
    assert whole['9'].tokens == golden[9:137]
    pairs = {id: agreed(text, smaller[id]) for id, text in whole.items()}
    assert sum(map(len, pairs.values())) > share * 128 * len(lengths)
    assert 0 < np.abs(np.diff(np.concatenate([*pairs.values()]))).max() < tolerance
    for id, mine in pairs.items():
        if len(mine) < 128:
            first, second = whole[id].scores[len(mine)].likeliest.values()
            assert first - second < 2 * tolerance


def answers(engine: Engine, requests: list[Request]) -> dict[str, Completion]:
    return {text.request.id: text for ended in engine.run(requests) for text in ended}


def rounded(settings: EngineSettings, dtype: str) -> EngineSettings:
    return dataclasses.replace(settings, cache_dtype=dtype)


def agreed(first: Completion, second: Completion) -> list[tuple[float, float]]:
    """Log-probabilities of the tokens of two texts, up to the first that differs."""
    pairs = zip(first.tokens, second.tokens, first.scores, second.scores, strict=False)
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
    return [(a.logprob, b.logprob) for _, _, a, b in same]


def test_scores_are_log_softmax_of_the_twins_logits(model):
    twin = tiny_llama.twin(**tiny_engine.SIZES)
    (request,) = make_requests(1)
    engine = make_engine(model, dataclasses.replace(SMALL, logprobs=3))
    ((text,),) = engine.run([request])
    logits = tiny_llama.twin_logits(twin, np.array([[*request.tokens, *text.tokens]]))[0]
    expected = torch.log_softmax(torch.tensor(logits).double(), -1).numpy()[len(request.tokens) - 1 :]
    assert len(text.scores) == len(text.tokens) > 2
    for token, score, row in zip(text.tokens, text.scores, expected):
        assert score.logprob == pytest.approx(row[token], abs=1e-4)
        assert list(score.likeliest) == np.argsort(-row)[:3].tolist()
        assert list(score.likeliest.values()) == pytest.approx(np.sort(row)[::-1][:3].tolist(), abs=1e-4)


def test_one_new_token_is_the_first_of_a_longer_text(engine, alone):
    short = texts(engine, [dataclasses.replace(r, max_new_tokens=1) for r in make_requests(20)])
    assert short == {id: (tokens[:1], 'length' if tokens else 'stop') for id, (tokens, _) in alone.items()}


def test_greedy_and_filtered_rows_leave_drawn_ones_alone(engine, alone):
    requests = make_requests(20)
    kinds = [GREEDY, dataclasses.replace(DRAWN, top_p=0.5, top_k=3), DRAWN]
    mixed = [dataclasses.replace(r, sampling=kinds[i % 3]) for i, r in enumerate(requests)]
    got = texts(engine, mixed)
    assert {r.id: got[r.id] for r in mixed[2::3]} == {r.id: alone[r.id] for r in mixed[2::3]}
    assert got != alone


def test_nothing_compiles_twice_and_growing_compiles_what_its_sizes_say(model):
    engine = make_engine(model, dataclasses.replace(SMALL, slots=6, prefill_batch=3, steps=3))
    before = [program._cache_size() for program in engine.programs]
    for seed in range(4):
        texts(engine, make_requests(15, seed=seed))
    texts(engine, make_requests(1))
    after = [program._cache_size() for program in engine.programs]
    buckets, lengths = len(SMALL.buckets), len(SMALL.cache_lengths)
    # empty, prefill, extend, insert, grow, decode; the cache begins with the first length.
    assert [b - a for a, b in zip(before, after)] == [1, buckets, 0, buckets * lengths, lengths - 1, lengths]


def test_shared_beginning_is_computed_once_and_changes_no_text(model, alone, monkeypatch):
    requests = [r for r in make_requests(20) if len(r.tokens) > 4]
    asked = []
    for request in requests:
        for length in (5, 8):
            tokens = [*requests[0].tokens[:4], *request.tokens[: length - 4]]
            asked.append(dataclasses.replace(request, id=f'{request.id} {length}', tokens=tokens, prefix=4))
    engine = make_engine(model)
    whole = texts(engine, [dataclasses.replace(request, prefix=0) for request in asked])
    prefills = []
    prefill = engine._prefill
    monkeypatch.setattr(engine, '_prefill', lambda prompts, needs: prefills.append(prompts) or prefill(prompts, needs))
    assert texts(engine, asked) == whole
    assert len(prefills) == 1 and prefills[0].tokens.shape == (8, 4)
    assert texts(engine, asked[3:4]) == {asked[3].id: whole[asked[3].id]}
    assert len(prefills) == 1


def test_beginning_unused_for_longest_makes_room(model):
    engine = make_engine(model, dataclasses.replace(SMALL, prefixes=2))
    for token in (10, 11, 10, 12):
        texts(engine, [dataclasses.replace(make_requests(1)[0], tokens=[token] * 5, prefix=3)])
    assert [tokens[0] for _, tokens in engine._prefixes] == [10, 12]


def test_slots_are_busy_while_prompts_wait(model):
    engine = make_engine(model)
    texts(engine, make_requests(100, seed=3))
    whole, waited = engine.occupancy
    assert 0.8 < whole < waited and waited > 0.93


def test_first_tokens_come_before_the_text_has_ended(engine):
    request = dataclasses.replace(make_requests(20)[2], id='streamed')
    (whole, _) = texts(engine, [request])['streamed']
    engine.submit(request)
    parts = []
    while not engine.is_idle:
        parts += [output.tokens for output in engine.step()]
    assert len(parts) > 1 and [*itertools.chain.from_iterable(parts)] == whole


def test_running_and_waiting_requests_are_counted(engine):
    for request in make_requests(20):
        engine.submit(request)
    assert (engine.num_running, engine.num_waiting) == (0, 20)
    engine.step()
    assert engine.num_running == 8 and 0 < engine.num_waiting <= 12
    while not engine.is_idle:
        engine.step()
    assert (engine.num_running, engine.num_waiting) == (0, 0)


def test_thread_that_owns_the_engine_serves_others(engine, alone):
    """As the class's docstring has it: requests come, and clients leave, while it runs."""
    inbox, got, requests = queue.Queue(), {}, make_requests(20)

    def own():
        while len(got) < 20 or not engine.is_idle:
            while engine.is_idle or not inbox.empty():
                inbox.get()()
            drive(engine, got)

    owner = threading.Thread(target=own)
    owner.start()
    for request in requests:
        inbox.put(functools.partial(engine.submit, request))
    inbox.put(functools.partial(engine.cancel, 'r19'))
    owner.join(60)
    assert not owner.is_alive()
    assert got.pop('r19')[1] in ('cancelled', alone['r19'][1])
    assert got == {id: text for id, text in alone.items() if id != 'r19'}


def test_cancelled_request_ends_and_its_neighbours_do_not_notice(engine, alone):
    requests = make_requests(20)
    for request in requests:
        engine.submit(request)
    got = {}
    cancelled = {'r0', 'r9', 'r19'}  # in a slot, prefilled, waiting
    while not engine.is_idle:
        drive(engine, got)
        for id in cancelled:
            engine.cancel(id)
    for id in cancelled:
        tokens, finish = got.pop(id)
        assert finish == 'cancelled' and tokens == alone[id][0][: len(tokens)]
    assert got == {id: text for id, text in alone.items() if id not in cancelled}


def test_logits_that_are_not_finite_are_an_error_that_names_the_prompt(folder):
    model = tiny_llama.load(folder)
    model.embed_tokens.set_value(model.embed_tokens.get_value().at[7].set(jnp.nan))
    engine = make_engine(model)
    good, bad = (dataclasses.replace(r, tokens=t) for r, t in zip(make_requests(2), ([9, 8], [9, 7])))
    with pytest.raises(ValueError, match='prompt r1: expected finite logits, got others after 0 tokens'):
        list(engine.run([good, bad]))


def test_one_logit_that_is_not_a_number_is_an_error_too(tmp_path):
    tiny_llama.save(tmp_path, vocab_size=4096)  # so many that XLA computes a maximum in the way that loses the NaN
    model = tiny_llama.load(tmp_path)
    model.lm_head.set_value(model.lm_head.get_value().at[3].set(jnp.nan))
    with pytest.raises(ValueError, match='prompt r0: expected finite logits, got others after 0 tokens'):
        list(make_engine(model).run(make_requests(1)))


BAD = {
    'empty': ({'tokens': []}, 'expected a prompt of 1 to 8 tokens, got 0'),
    'long': ({'tokens': [6] * 9}, 'expected a prompt of 1 to 8 tokens, got 9; add a bucket'),
    'budget': ({'max_new_tokens': 0}, 'expected room for .* got 0 new ones'),
    'room': ({'tokens': [6] * 8, 'max_new_tokens': 13}, 'expected room for 8 tokens .* in 20, got 13 new ones'),
    'adapter': ({'adapter': 'warm'}, r"expected an adapter of \[\], got 'warm'"),
    'token': ({'tokens': [88]}, 'expected token ids below 88, got 88'),
}


@pytest.mark.parametrize('name', BAD)
def test_request_that_cannot_be_answered_is_refused(engine, name):
    changes, message = BAD[name]
    with pytest.raises(ValueError, match=f'request r0: {message}'):
        engine.submit(dataclasses.replace(make_requests(1)[0], **changes))
    assert engine.is_idle


def test_all_requests_that_cannot_be_answered_are_named_together(engine):
    requests = [dataclasses.replace(r, tokens=[6] * n) for r, n in zip(make_requests(3), (0, 3, 9))]
    with pytest.raises(ValueError, match=r'(?s)got 2 others:.*r0: .*got 0.*r2: .*got 9'):
        list(engine.run(requests))
    assert engine.is_idle


def test_two_requests_of_one_name_are_refused(engine):
    request = make_requests(1)[0]
    engine.submit(request)
    with pytest.raises(ValueError, match='request r0: expected an id that is not under way'):
        engine.submit(request)
    engine.cancel('r0')
    assert [output.finish for output in engine.step()] == ['cancelled'] and engine.is_idle


def test_unknown_stop_id_is_refused(model):
    with pytest.raises(
        ValueError, match=r'expected stop ids below the vocabulary of 88, got \[88\]; mend eos_token_id'
    ):
        make_engine(model, stop_ids=(2, 88))


def test_slots_that_the_mesh_does_not_divide_are_refused(model):
    with pytest.raises(ValueError, match=r"engine\.slots: expected axis 'batch' of size 3 to be cut into 8"):
        make_engine(model, dataclasses.replace(SMALL, slots=3), tiny_llama.make_mesh(8))


@pytest.mark.parametrize('sizes', [(), (8, 4), (4, 4), (0, 4)])
def test_buckets_and_cache_lengths_must_rise(sizes):
    with pytest.raises(ValueError, match='engine: buckets expected rising numbers of tokens'):
        dataclasses.replace(SMALL, buckets=sizes)
    with pytest.raises(ValueError, match='engine: cache_lengths expected rising numbers of tokens'):
        dataclasses.replace(SMALL, cache_lengths=sizes)


def test_all_bad_settings_stand_in_one_message():
    with pytest.raises(ValueError, match=r'slots expected 1 or more, got 0; steps .* got -1; logprobs expected 0'):
        dataclasses.replace(SMALL, slots=0, steps=-1, logprobs=-2)

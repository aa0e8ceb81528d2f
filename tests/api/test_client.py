"""Clients against a server that answers, fails and counts like the real ones."""

import dataclasses
import gc
import json
import pathlib
import sys

import loopback_llm as loopback
import pytest

from warmjax import records
from warmjax.api import chat, client, ledger
from warmjax.api.settings import LimitSettings, ServiceSettings

KEY = 'canary-7f3a91'
LIMITS = LimitSettings(
    concurrency=4,
    requests_per_minute=0,
    tokens_per_minute=0,
    timeout_seconds=5.0,
    max_attempts=3,
    backoff_seconds=0.01,
    max_failures=1,
    max_usd=None,
    poll_seconds=0.01,
)
SAMPLING = chat.SamplingSettings(temperature=0.0, top_p=None, seed=None, max_tokens=50)
SERVICES = ('openai', 'anthropic')


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', KEY)
    monkeypatch.setenv('ANTHROPIC_API_KEY', KEY)


@pytest.fixture
def server():
    with loopback.Loopback() as server:
        yield server


def make(server, workdir, service='openai', batch=False, model='gpt-4o', prices='', **limits) -> client.Client:
    url = server.openai_url if service == 'openai' else server.anthropic_url
    limits = dataclasses.replace(LIMITS, **limits)
    return client.make_client(ServiceSettings(service, model, url, '', batch, prices, limits), workdir)


def make_call(text: str, **changes) -> chat.Call:
    turns = (records.Turn('system', 'Be brief.'), records.Turn('user', text))
    return dataclasses.replace(chat.Call(text, turns, SAMPLING, '', 0, 0, 20), **changes)


def texts(outcomes) -> dict[str, str]:
    return {outcome.call.id: outcome.answer.text for outcome in outcomes}


@pytest.mark.parametrize('batch', (False, True))
@pytest.mark.parametrize('service', SERVICES)
def test_answers_come_once_and_from_the_cache_afterwards(server, tmp_path, service, batch):
    calls = [make_call(text) for text in ('abc', 'def', 'ghi')]
    expected = {'abc': 'cba', 'def': 'fed', 'ghi': 'ihg'}
    assert texts(make(server, tmp_path, service, batch).complete(calls)) == expected
    again = list(make(server, tmp_path, service, batch).complete(calls))
    assert texts(again) == expected and all(outcome.is_cached for outcome in again)
    assert len(server.received) == 3
    assert {request.key for request in server.requests} == {KEY}


def test_the_same_call_twice_in_a_list_is_made_once(server, tmp_path):
    outcomes = list(make(server, tmp_path).complete([make_call('abc'), make_call('abc', id='again')]))
    assert texts(outcomes) == {'abc': 'cba', 'again': 'cba'} and len(server.received) == 1


@pytest.mark.parametrize('change', ({'draw': 1}, {'logprobs': 2}, {'schema': '{"type": "object"}'}))
def test_what_an_answer_depends_on_is_part_of_the_cache_key(server, tmp_path, change):
    asked = make(server, tmp_path)
    list(asked.complete([make_call('abc')]))
    [outcome] = asked.complete([make_call('abc', **change)])
    assert not outcome.is_cached and len(server.received) == 2


@pytest.mark.parametrize('service', SERVICES)
def test_the_service_gets_what_was_asked(server, tmp_path, service):
    schema = '{"type": "object"}'
    list(make(server, tmp_path, service).complete([make_call('abc', schema=schema)]))
    [payload] = server.received
    if service == 'openai':
        assert payload['messages'] == [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'abc'}]
        assert payload['response_format']['json_schema']['schema'] == {'type': 'object'}
    else:
        assert payload['messages'] == [{'role': 'user', 'content': 'abc'}] and payload['system'] == 'Be brief.'
        assert payload['output_config']['format'] == {'type': 'json_schema', 'schema': {'type': 'object'}}
    assert payload['temperature'] == 0.0 and payload['max_tokens'] == 50 and 'top_p' not in payload


def test_log_probabilities_are_read_and_survive_the_cache(server, tmp_path):
    for _ in range(2):
        [outcome] = make(server, tmp_path).complete([make_call('abc', logprobs=3)])
        assert outcome.answer.logprobs == (chat.Likely('cba', -0.1, {'cba': -0.1, 'other 1': -3.0, 'other 2': -4.0}),)


@pytest.mark.parametrize('service', SERVICES)
@pytest.mark.parametrize(
    'behaviour',
    (loopback.LIMITED, loopback.BROKEN, loopback.OVERLOADED, loopback.TRUNCATED, loopback.DIES),
    ids=('limited', 'broken', 'overloaded', 'truncated', 'dies'),
)
def test_what_may_pass_is_tried_again(server, tmp_path, service, behaviour):
    server.script += [behaviour, behaviour]
    assert texts(make(server, tmp_path, service).complete([make_call('abc')])) == {'abc': 'cba'}
    assert len(server.received) == 3
    assert json.loads((tmp_path / client.LEDGER).read_text())['attempts'] == 3


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv('http_proxy', server.anthropic_url)
    monkeypatch.delenv('no_proxy', raising=False)
    monkeypatch.delenv('NO_PROXY', raising=False)
    settings = ServiceSettings('openai', 'gpt-4o', 'http://writer.invalid/v1', '', False, '', LIMITS)
    with pytest.raises(RuntimeError, match='404'):
        list(client.make_client(settings, tmp_path).complete([make_call('abc')]))
    assert [request.path for request in server.requests] == ['http://writer.invalid/v1/chat/completions']


def test_a_call_that_hangs_is_given_up_and_tried_again(server, tmp_path):
    server.script.append(loopback.HANGS)
    assert texts(make(server, tmp_path, timeout_seconds=0.3).complete([make_call('abc')])) == {'abc': 'cba'}
    assert len(server.received) == 2


@pytest.mark.parametrize(
    ('behaviour', 'remedy'),
    (
        (loopback.UNAUTHORIZED, 'check the key in {variable}'),
        (loopback.FORBIDDEN, 'ask for access'),
        (loopback.MISSING, 'retired'),
        (loopback.OUT_OF_MONEY, 'out of quota'),
    ),
    ids=('401', '403', '404', 'quota'),
)
@pytest.mark.parametrize('service', SERVICES)
def test_what_would_fail_every_call_stops_at_the_first(server, tmp_path, service, behaviour, remedy):
    server.behave = lambda payload: behaviour
    with pytest.raises(RuntimeError, match=remedy.format(variable=f'{service.upper()}_API_KEY')) as caught:
        list(make(server, tmp_path, service, concurrency=1).complete([make_call(str(i)) for i in range(5)]))
    assert len(server.received) == 1
    assert KEY not in str(caught.value) and caught.value.__cause__ is None


def test_a_rejected_call_fails_alone(server, tmp_path):
    server.behave = lambda payload: loopback.REJECTED if payload['messages'][-1]['content'] == 'b' else loopback.OK
    outcomes = {outcome.call.id: outcome for outcome in make(server, tmp_path).complete([make_call(x) for x in 'abc'])}
    assert outcomes['b'].answer is None and 'content policy' in outcomes['b'].reason
    assert outcomes['a'].answer.text == 'a' and outcomes['c'].answer.text == 'c'
    assert len(server.received) == 3


@pytest.mark.parametrize('service', SERVICES)
def test_rejected_calls_of_a_batch_fail_alone_and_others_are_tried_again(server, tmp_path, service):
    server.script += [loopback.BROKEN]
    assert texts(make(server, tmp_path, service, batch=True).complete([make_call('abc'), make_call('def')])) == {
        'abc': 'cba',
        'def': 'fed',
    }
    assert len(server.received) == 3


def test_too_many_failed_calls_end_the_run_and_keep_what_was_answered(server, tmp_path):
    server.behave = lambda payload: loopback.OK if payload['messages'][-1]['content'] == '0' else loopback.BROKEN
    calls = [make_call(str(i)) for i in range(5)]
    with pytest.raises(RuntimeError, match='2 calls have failed at each of 3 attempts'):
        list(make(server, tmp_path, concurrency=1).complete(calls))
    server.behave = lambda payload: loopback.OK
    assert len(texts(make(server, tmp_path).complete(calls))) == 5
    assert [payload['messages'][-1]['content'] for payload in server.answered].count('0') == 1


@pytest.mark.parametrize('service', SERVICES)
def test_refusals_cuts_and_silence_are_told_apart(server, tmp_path, service):
    kinds = {'r': loopback.REFUSES, 'c': loopback.CUT, 'e': loopback.EMPTY}
    server.behave = lambda payload: kinds[payload['messages'][-1]['content']]
    outcomes = make(server, tmp_path, service).complete([make_call(kind) for kind in kinds])
    answers = {outcome.call.id: outcome.answer for outcome in outcomes}
    assert (answers['r'].finish, answers['r'].text) == ('refusal', '') and 'sorry' in answers['r'].refusal
    assert (answers['c'].finish, answers['c'].text) == ('length', 'c')
    assert (answers['e'].finish, answers['e'].text) == ('stop', '')


def test_as_many_calls_are_under_way_as_allowed(tmp_path):
    with loopback.Loopback(latency=0.05) as server:
        list(make(server, tmp_path, concurrency=3).complete([make_call(str(i)) for i in range(12)]))
        assert server.most_at_once == 3


@pytest.mark.parametrize('is_left_early', (False, True))
def test_the_interpreter_goes_to_the_calls_first_while_there_are_any(server, tmp_path, is_left_early):
    interval = sys.getswitchinterval()
    outcomes = make(server, tmp_path, concurrency=1).complete([make_call('abc'), make_call('def')])
    next(outcomes)
    assert gc.get_freeze_count() > 1000 and sys.getswitchinterval() == pytest.approx(client.SWITCH_SECONDS)
    outcomes.close() if is_left_early else list(outcomes)
    assert gc.get_freeze_count() == 0 and sys.getswitchinterval() == interval


def test_objects_that_somebody_else_froze_stay_frozen(server, tmp_path):
    gc.freeze()
    try:
        list(make(server, tmp_path).complete([make_call('abc')]))
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()


def test_costs_are_estimated_counted_and_limited(server, tmp_path):
    # gpt-4o: $2.50 and $10 a million tokens. The server counts words: 'Be brief.' and 4 read, 4 written.
    calls = [make_call(f'{i} b c d') for i in range(4)]
    asked = make(server, tmp_path)
    estimate = asked.estimate(calls)
    assert estimate.calls == 4 and estimate.usd == pytest.approx(4 * (19 * 2.5e-6 + 20 * 1e-5))
    list(asked.complete(calls))
    assert ledger.spent(tmp_path / client.LEDGER) == {
        'calls': 4,
        'prompt_tokens': 24,
        'completion_tokens': 16,
        'usd': pytest.approx(24 * 2.5e-6 + 16 * 1e-5),
    }
    with pytest.raises(ValueError, match='raise max_usd'):
        list(make(server, tmp_path, max_usd=3e-4).complete([make_call('e'), make_call('f')]))
    assert len(server.received) == 4


def test_the_limit_in_dollars_holds_even_if_answers_are_longer_than_expected(tmp_path):
    with loopback.Loopback(answer=lambda payload: 'word ' * 50) as server:
        calls = [make_call(str(i), expected_tokens=1) for i in range(20)]
        with pytest.raises(RuntimeError, match='what was answered is kept'):
            list(make(server, tmp_path, max_usd=0.003).complete(calls))
        spent = ledger.spent(tmp_path / client.LEDGER)
        assert 0.002 < spent['usd'] <= 0.003
        assert spent['calls'] == len(server.received) < 20


def test_a_limit_in_dollars_needs_a_price(server, tmp_path):
    with pytest.raises(ValueError, match="expected the price of 'mine'"):
        make(server, tmp_path, model='mine', max_usd=1.0)
    own = tmp_path / 'prices.json'
    own.write_text('{"batch": {"openai": 0.5}, "models": {"mine": [1, 2]}}')
    assert make(server, tmp_path, model='mine', prices=str(own), max_usd=1.0).estimate([make_call('a')]).usd > 0


def test_a_service_without_a_key_is_refused_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.delenv('OPENAI_API_KEY')
    settings = ServiceSettings('openai', 'gpt-4o', '', '', False, '', LIMITS)
    with pytest.raises(ValueError, match='environment variable OPENAI_API_KEY, got none'):
        client.make_client(settings, tmp_path)


def test_a_batch_is_found_again_by_a_run_that_was_killed_before_it_noted_it(server, tmp_path):
    server.batch_polls = 3
    calls = [make_call(text) for text in ('abc', 'def')]
    list(make(server, tmp_path / 'first', batch=True).complete(calls))
    assert texts(make(server, tmp_path / 'second', batch=True).complete(calls)) == {'abc': 'cba', 'def': 'fed'}
    assert len(server.received) == 2


@pytest.mark.parametrize('service', SERVICES)
def test_a_batch_handed_in_is_not_handed_in_again(server, tmp_path, service):
    server.batch_polls = 10**6
    calls = [make_call(text) for text in ('abc', 'def')]
    first = make(server, tmp_path, service, batch=True)
    first._collect = lambda *_: _interrupted()
    with pytest.raises(KeyboardInterrupt):
        list(first.complete(calls))
    server.store.update({key: 0 for key in server.store if isinstance(key, tuple)})
    assert len(texts(make(server, tmp_path, service, batch=True).complete(calls))) == 2
    assert len(server.received) == 2


async def _interrupted():
    raise KeyboardInterrupt


@pytest.mark.parametrize('service', SERVICES)
def test_no_key_is_written_anywhere(tmp_path, service, capsys, caplog):
    caplog.set_level('DEBUG')
    with loopback.Loopback(keys=('another',)) as server:
        for batch in (False, True):
            with pytest.raises(RuntimeError, match=r'\[key\]') as caught:
                list(make(server, tmp_path, service, batch).complete([make_call('abc')]))
            assert KEY not in repr(caught.value)
        server.keys = ()
        list(make(server, tmp_path, service).complete([make_call('abc')]))
    files = [path for path in pathlib.Path(tmp_path).rglob('*') if path.is_file()]
    assert len(files) >= 3
    said = capsys.readouterr()
    for text in [path.read_bytes().decode('latin-1') for path in files] + [said.out, said.err, caplog.text]:
        assert KEY not in text and 'uthorization' not in text and 'x-api-key' not in text

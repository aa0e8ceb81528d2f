"""A real server on this machine, asked by the official client and by clients that do as they please."""

import concurrent.futures
import dataclasses
import json
import logging
import socket
import threading
from typing import NamedTuple

import httpx
import openai
import pytest
import tiny_server
import uvicorn
from tiny_server import LIMITS, SETTINGS, metric, serving, wait_until

from warmjax.decode.engine import Engine
from warmjax.decode.serve.driver import Driver

PROMPT = 'ba ko mu'


@pytest.fixture(scope='module')
def client(url):
    with openai.OpenAI(base_url=f'{url}/v1', api_key='none', max_retries=0) as client:
        yield client


class Gated(NamedTuple):
    """A server whose engine makes a step only when the test permits one."""

    url: str
    server: uvicorn.Server
    driver: Driver
    permits: threading.Semaphore

    def let_go_once(self, holds) -> None:
        """Permits all steps once something holds; also if it never does, or those who wait would wait for ever."""
        try:
            wait_until(holds)
        finally:
            self.permits.release(1000)


@pytest.fixture
def gated(checkpoint, adapters, monkeypatch):
    permits, step = threading.Semaphore(0), Engine.step

    def gated_step(engine):
        permits.acquire()
        return step(engine)

    limits = dataclasses.replace(LIMITS, max_waiting=48)  # beside 16 slots
    service = tiny_server.make_service(checkpoint, adapters, dataclasses.replace(SETTINGS, server=limits))
    own = service.driver
    with serving(service) as (url, server):
        try:
            monkeypatch.setattr(Engine, 'step', gated_step)
            yield Gated(url, server, own, permits)
        finally:
            permits.release(1000)


def under_way(url: str) -> float:
    """Counts texts that run or wait, as of the last step."""
    return metric(url, 'warmjax_running') + metric(url, 'warmjax_waiting')


def ask(client, prompt: str = PROMPT, model: str = 'base', seed: int = 0, **options):
    """Asks for a chat completion of at most 12 tokens, unless told otherwise."""
    options = {'max_tokens': 12} | options
    messages = [{'role': 'user', 'content': prompt}]
    return client.chat.completions.create(model=model, messages=messages, seed=seed, **options)


def texts(answer) -> list[str]:
    return [choice.message.content for choice in answer.choices]


def test_official_client_gets_choices_and_usage(client):
    answer = ask(client, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len(set(texts(answer))) == 3
    assert all(choice.finish_reason in ('stop', 'length') for choice in answer.choices)
    assert answer.object == 'chat.completion' and answer.model == 'base' and answer.id.startswith('chatcmpl-')
    words = [len(text.split()) for text in texts(answer)]
    assert answer.usage.completion_tokens == sum(words)
    assert answer.usage.prompt_tokens == 5 and answer.usage.total_tokens == 5 + sum(words)
    for choice, count in zip(answer.choices, words, strict=True):
        assert (choice.finish_reason == 'length') == (count == 12)


def test_seed_decides_a_text_and_without_one_it_is_drawn_anew(client):
    assert texts(ask(client, n=2)) == texts(ask(client, n=2))
    assert texts(ask(client)) == texts(ask(client, n=2))[:1]
    assert texts(ask(client)) != texts(ask(client, seed=1))
    assert len({texts(ask(client, seed=None))[0] for _ in range(3)}) > 1
    assert texts(ask(client, temperature=0)) == texts(ask(client, temperature=0, seed=1))


@pytest.mark.parametrize('options', [{}, {'n': 2}, {'stop': ['ai', ' k']}, {'temperature': 0}])
def test_stream_says_what_a_whole_answer_says(client, options):
    whole = ask(client, **options)
    got = {choice.index: ['', None] for choice in whole.choices}
    usage = None
    for chunk in ask(client, stream=True, stream_options={'include_usage': True}, **options):
        assert chunk.object == 'chat.completion.chunk'
        for choice in chunk.choices:
            got[choice.index][0] += choice.delta.content or ''
            got[choice.index][1] = choice.finish_reason or got[choice.index][1]
        usage = chunk.usage or usage
    assert list(got.values()) == [[choice.message.content, choice.finish_reason] for choice in whole.choices]
    assert usage == whole.usage


def test_text_ends_before_a_stop_string_that_spans_tokens(client):
    whole = texts(ask(client))[0]
    words = whole.split()
    stop = f'{words[1][-1]} {words[2][0]}'
    answer = ask(client, stop=stop)
    assert texts(answer) == [whole[: whole.index(stop)]]
    assert answer.choices[0].finish_reason == 'stop'
    assert answer.usage.completion_tokens == len(whole[: whole.index(stop) + len(stop)].split())


def test_models_are_the_base_and_its_adapters_and_each_answers_for_itself(client):
    assert [model.id for model in client.models.list()] == ['base', 'warm', 'cold']
    assert client.models.retrieve('warm').parent == 'base'
    answers = {model: texts(ask(client, model=model, temperature=0)) for model in ('base', 'warm', 'cold')}
    assert len({text for (text,) in answers.values()}) == 3
    with pytest.raises(openai.NotFoundError, match="expected a model of 'base', 'warm', 'cold', got 'hot'"):
        ask(client, model='hot')


def test_log_probabilities_come_with_each_token(client):
    content = ask(client, logprobs=True, top_logprobs=2, temperature=0).choices[0].logprobs.content
    assert content
    for token in content:
        assert len(token.top_logprobs) == 2 and bytes(token.bytes).decode() == token.token
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)
        assert token.top_logprobs[1].logprob <= token.logprob < 0
    text = texts(ask(client, temperature=0))[0]
    assert ''.join(token.token for token in content).strip() == text
    streamed = ask(client, logprobs=True, top_logprobs=2, temperature=0, stream=True)
    pieces = [choice.logprobs.content for chunk in streamed for choice in chunk.choices if choice.logprobs]
    assert [token for piece in pieces for token in piece] == content


def test_text_completions_take_texts_and_token_ids(client):
    ids = [tiny_server.VOCABULARY.index(word) for word in PROMPT.split()]
    options = {'model': 'warm', 'seed': 3, 'max_tokens': 8}
    answer = client.completions.create(prompt=[PROMPT, ids, 'mu'], n=2, logprobs=1, **options)
    assert [choice.index for choice in answer.choices] == list(range(6))
    found = [choice.text for choice in answer.choices]
    assert found[:2] == found[2:4] != found[4:] and len(set(found)) == 4
    assert answer.usage.prompt_tokens == 3 + 3 + 1
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(found[0].split())
    assert logprobs.text_offset == [len(''.join(logprobs.tokens[:i])) for i in range(len(logprobs.tokens))]
    stream = client.completions.create(prompt=PROMPT, stream=True, **options)
    assert ''.join(chunk.choices[0].text for chunk in stream) == found[0]


QUESTIONS = [
    {
        'prompt': ' '.join(tiny_server.WORDS[(7 * i + j) % 80] for j in range(1 + i % 9)),
        'model': ('base', 'warm', 'cold')[i % 3],
        'seed': i % 5,
        'temperature': (1.0, 0.0, 0.7, 1.3)[i % 4],
        **({'stop': ['ai', 'o m']} if i % 5 == 0 else {}),
        **({'extra_body': {'top_k': 20}} if i % 7 == 0 else {}),
    }
    for i in range(64)
]


@pytest.fixture
def alone(client):
    """The answer to each question when nothing else is asked."""
    answers = [ask(client, **question).choices[0] for question in QUESTIONS]
    return [(choice.message.content, choice.finish_reason) for choice in answers]


def test_64_clients_at_once_share_slots_and_get_what_each_gets_alone(alone, gated):
    assert len(set(alone)) > 50 and {finish for _, finish in alone} == {'stop', 'length'}

    def answer(question: dict) -> tuple:
        is_stream = len(question['prompt']) % 2 == 0
        got = ask(together, stream=is_stream, **question)
        if not is_stream:
            return got.choices[0].message.content, got.choices[0].finish_reason
        choices = [chunk.choices[0] for chunk in got]
        return ''.join(choice.delta.content or '' for choice in choices), choices[-1].finish_reason

    with (
        openai.OpenAI(base_url=f'{gated.url}/v1', api_key='none', max_retries=0) as together,
        concurrent.futures.ThreadPoolExecutor(64) as pool,
    ):
        answers = [pool.submit(answer, question) for question in QUESTIONS]
        gated.let_go_once(lambda: gated.driver.num_under_way == 64)
        assert [one.result() for one in answers] == alone
    wait_until(lambda: under_way(gated.url) == 0)
    rounds = metric(gated.url, 'warmjax_step_running_count')
    assert metric(gated.url, 'warmjax_step_running_sum') / rounds > 8
    assert metric(gated.url, 'warmjax_occupancy') > 0.5


BODY = {'model': 'base', 'messages': [{'role': 'user', 'content': PROMPT}], 'seed': 0, 'max_tokens': 3}


def post(url: str, body, path: str = 'chat/completions', **options) -> httpx.Response:
    """Sends a body as it is, or as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    options = {'headers': {'content-type': 'application/json'}} | options
    return httpx.post(f'{url}/v1/{path}', content=content, timeout=60, **options)


@pytest.mark.parametrize(
    'body, status, message',
    [
        (b'', 400, 'expected one JSON object, got invalid JSON'),
        (b'{"model": "base", ', 400, 'expected one JSON object, got invalid JSON'),
        (b'{"model": "\xff\xfe"}', 400, 'invalid unicode code point'),
        ([], 400, 'expected an object'),
        (BODY | {'temperature': 'hot', 'n': 1.5}, 400, "field 'temperature' expected number, got 'hot'; field 'n'"),
        (BODY | {'temprature': 1}, 400, "unknown key 'temprature' (did you mean 'temperature'?)"),
        (BODY | {'messages': []}, 400, "field 'messages' expected"),
        (BODY | {'messages': [{'role': 'user', 'content': 'refuse'}]}, 400, 'base: expected the chat template to'),
        (BODY | {'messages': [{'role': 'user', 'content': 'ba ' * 16}]}, 400, 'a prompt of 1 to 16 tokens, got 18'),
        (
            BODY | {'max_tokens': 60},
            400,
            'of 64 tokens or fewer, got 5 and max_tokens of 60; ask for 59 or fewer',
        ),
        (BODY | {'n': 9}, 400, 'expected 8 choices or fewer'),
        (BODY | {'logprobs': True, 'top_logprobs': 4}, 400, 'expected 3 likeliest tokens or fewer, got 4'),
        (BODY | {'tools': [{}]}, 400, 'expected no tools, which this server does not compute'),
        (BODY | {'top_p': 0}, 400, 'top_p expected a share above 0'),
        (BODY | {'model': 'hot'}, 404, "expected a model of 'base', 'warm', 'cold', got 'hot'"),
        (b'{"model": "' + b'm' * 5000 + b'"}', 413, 'expected a body of 4096 bytes or fewer'),
    ],
)
def test_bad_request_gets_one_clear_answer_and_the_server_goes_on(url, body, status, message):
    answer = post(url, body)
    assert answer.status_code == status
    error = answer.json()['error']
    assert message in error['message'] and set(error) == {'message', 'type', 'param', 'code'}
    assert post(url, BODY).status_code == 200


@pytest.mark.parametrize(
    'prompt, message',
    [
        ('', 'an empty one'),
        ([], 'an empty one'),
        (['ba', ''], 'an empty one'),
        ([[]], 'an empty one'),
        ([1.5], 'token ids'),
        ([97], 'expected token ids from 0 to 96, got 97'),
        ('ba ' * 17, 'a prompt of 1 to 16 tokens, got 17'),
    ],
)
def test_bad_prompt_of_a_text_completion_is_refused(url, prompt, message):
    answer = post(url, {'model': 'base', 'prompt': prompt}, 'completions')
    assert answer.status_code == 400
    assert message in answer.json()['error']['message'] and answer.json()['error']['param'] == 'prompt'


def test_what_is_no_route_or_no_json_is_refused_in_the_same_form(url):
    for answer, status in [
        (httpx.get(f'{url}/v2/chat'), 404),
        (httpx.get(f'{url}/v1/models/hot'), 404),
        (httpx.get(f'{url}/v1/completions'), 405),
        (post(url, BODY, headers={'content-type': 'text/plain'}), 415),
    ]:
        assert answer.status_code == status and answer.json()['error']['message'].startswith('expected ')
    before = metric(url, 'warmjax_http_responses_total', path='other', status='404')
    httpx.get(f'{url}/made/up')
    assert metric(url, 'warmjax_http_responses_total', path='other', status='404') == before + 1
    assert 'made/up' not in httpx.get(f'{url}/metrics').text


def test_body_without_a_length_is_cut_off_too(url):
    answer = httpx.post(
        f'{url}/v1/chat/completions',
        content=(b' ' * 1000 for _ in range(9)),
        headers={'content-type': 'application/json'},
    )
    assert answer.status_code == 413


def connect(url: str) -> socket.socket:
    """Opens a connection of which the test says every byte."""
    host, port = url.removeprefix('http://').split(':')
    return socket.create_connection((host, int(port)), timeout=60)


def test_client_that_stalls_is_told_or_cut_off(checkpoint):
    limits = dataclasses.replace(LIMITS, read_seconds=1.0)
    service = tiny_server.make_service(checkpoint, {}, dataclasses.replace(SETTINGS, server=limits))
    with serving(service) as (url, _):
        with connect(url) as silent, connect(url) as halting, connect(url) as slow:
            halting.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n')
            slow.sendall(
                b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
                b'Content-Length: 50\r\n\r\n{"model"'
            )
            told = b''.join(iter(lambda: slow.recv(4096), b''))
            assert b' 408 ' in told.split(b'\r\n')[0] and b'expected the whole body within 1 s' in told
            assert silent.recv(1) == halting.recv(1) == b''
        assert post(url, BODY).status_code == 200


def test_only_who_has_the_key_is_answered_and_no_log_has_it(checkpoint, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(tiny_server.make_service(checkpoint, {}), key='s3cret-key') as (url, _):
        for headers in ({}, {'authorization': 'Bearer s3cret'}, {'authorization': 's3cret-key'}):
            answer = httpx.get(f'{url}/v1/models', headers=headers)
            assert answer.status_code == 401 and answer.json()['error']['type'] == 'authentication_error'
        assert httpx.get(f'{url}/metrics').status_code == 401
        assert httpx.get(f'{url}/health').json() == {'status': 'ok'}
        with openai.OpenAI(base_url=f'{url}/v1', api_key='s3cret-key') as client:
            assert [model.id for model in client.models.list()] == ['base']
    # httpx itself notes the headers that it sends.
    assert not any('s3cret-key' in r.getMessage() for r in caplog.records if not r.name.startswith(('openai', 'http')))


LONG = BODY | {'max_tokens': 59, 'n': 8}


@pytest.mark.parametrize('is_stream', [True, False])
def test_client_that_leaves_frees_its_slots(gated, is_stream):
    url = gated.url
    body = json.dumps(LONG | {'stream': is_stream}).encode()
    with connect(url) as client:
        client.sendall(
            b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
            b'Content-Length: %d\r\n\r\n' % len(body) + body
        )
        wait_until(lambda: gated.driver.num_under_way == 8)
        gated.permits.release(2)  # of the 15 that the texts would take
        wait_until(lambda: metric(url, 'warmjax_running') == 8)
        if is_stream:
            assert b'200 OK' in client.recv(4096)
    wait_until(lambda: metric(url, 'warmjax_texts_total', finish='abandoned') == 8)
    gated.permits.release(2)
    wait_until(lambda: gated.driver.num_under_way == under_way(url) == 0)
    assert 0 < metric(url, 'warmjax_step_running_count') <= 4
    gated.permits.release(1000)
    assert post(url, BODY).status_code == 200


def test_more_than_the_queue_holds_is_refused_until_there_is_room(gated):
    url = gated.url
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(post, url, LONG) for _ in range(8)]
        wait_until(lambda: gated.driver.num_under_way == 64)
        answer = post(url, BODY)
        assert answer.status_code == 429 and answer.headers['retry-after'] == '1'
        assert answer.json()['error']['code'] == 'queue_full'
        assert httpx.get(f'{url}/health').status_code == 200
        gated.permits.release(1000)
        assert [one.result().status_code for one in waiting] == [200] * 8
    assert post(url, BODY).status_code == 200


def test_server_that_is_told_to_end_answers_what_is_under_way_first(gated):
    with httpx.stream('POST', f'{gated.url}/v1/chat/completions', json=LONG | {'stream': True}, timeout=60) as answer:
        gated.server.should_exit = True  # what the handler of SIGTERM does

        def is_closed() -> bool:
            try:
                connect(gated.url).close()
                return False
            except ConnectionRefusedError:
                return True

        wait_until(is_closed)
        gated.permits.release(1000)
        events = [line.removeprefix('data: ') for line in answer.iter_lines() if line]
    assert events[-1] == '[DONE]'
    ends = [c['finish_reason'] for e in events[:-1] for c in json.loads(e)['choices'] if c['finish_reason']]
    assert len(ends) == 8


def test_engine_that_fails_is_told_to_everybody(gated, monkeypatch, caplog):
    url = gated.url

    def fail(engine):
        gated.permits.acquire()
        raise RuntimeError('out of memory, somewhere')

    monkeypatch.setattr(Engine, 'step', fail)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(post, url, BODY | {'stream': is_stream}) for is_stream in (False, True)]
        gated.let_go_once(lambda: gated.driver.num_under_way == 2)
        whole, stream = (one.result() for one in waiting)
    assert whole.status_code == 503 and 'has failed' in whole.json()['error']['message']
    assert stream.status_code == 200 and 'has failed' in stream.text and '[DONE]' not in stream.text
    assert httpx.get(f'{url}/health').status_code == 503
    assert post(url, BODY).status_code == 503
    assert 'out of memory, somewhere' in caplog.text and 'memory' not in whole.text + stream.text

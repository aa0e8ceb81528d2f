"""Arms asked through a server that answers, refuses and fails like the real one."""

import dataclasses
import json
import pathlib

import loopback_llm as loopback
import pytest

from warmjax import records
from warmjax.api import ledger
from warmjax.api.client import LEDGER
from warmjax.api.settings import LimitSettings, ServiceSettings
from warmjax.decode.engine import EngineSettings
from warmjax.decode.requests import Sampling
from warmjax.evals.api_arms import ApiJob, ApiRunner
from warmjax.evals.runner import GenerationSettings
from warmjax.records import Generation, Prompt, Turn

KEY = 'canary-55d0aa'
LIMITS = LimitSettings(
    concurrency=4,
    requests_per_minute=0,
    tokens_per_minute=0,
    timeout_seconds=5.0,
    max_attempts=2,
    backoff_seconds=0.01,
    max_failures=1,
    max_usd=None,
    poll_seconds=0.01,
)
SETTINGS = GenerationSettings(
    sampling=Sampling(temperature=0.8, top_k=0, top_p=1.0, min_p=0.0),
    max_new_tokens=50,
    too_long='error',
    adapters=1,
    seed=7,
    engine=EngineSettings(1, 1, (8,), (14,), 'float32', steps=1, refill=1, prefixes=0, logprobs=None),
)
PROMPTS = [Prompt(f'p{x}', f'q{x}', 'trivia', 'unmodified', 'none', 'plain', '', x) for x in 'abc']
BASE, TUNED = 'gpt-4o-2024-08-06', 'ft:gpt-4o-2024-08-06:org:warm:1'
JOBS = [
    ApiJob('original', 0.0, BASE, (), PROMPTS),
    ApiJob('warm', 2.0, TUNED, (), PROMPTS[:2]),
    ApiJob('warm_prompt', 0.0, BASE, (Turn('system', 'Be warm.'),), PROMPTS),
]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', KEY)


@pytest.fixture
def server():
    with loopback.Loopback(answer=lambda payload: f'{payload["model"]} {len(payload["messages"])}') as server:
        yield server


def run(server, workdir, jobs=JOBS, samples=1, batch=False, **limits):
    service = ServiceSettings('openai', '', server.openai_url, '', batch, '', dataclasses.replace(LIMITS, **limits))
    return ApiRunner(service, SETTINGS, 'gpt-4o', samples, workdir).run(jobs, workdir / 'generations.jsonl')


def rows(workdir) -> dict[tuple, Generation]:
    return {row.key[1:]: row for row in records.read(workdir / 'generations.jsonl', Generation)}


def test_every_arm_is_answered_by_its_model(server, tmp_path):
    counts = run(server, tmp_path)
    found = rows(tmp_path)
    assert counts['api_generations'] == len(found) == len(server.received) == 8
    assert found['warm', 2.0, 'pb', 0].text == f'{TUNED} 1' and found['original', 0.0, 'pa', 0].text == f'{BASE} 1'
    row = found['warm_prompt', 0.0, 'pc', 0]
    assert (row.text, row.num_tokens, row.finish_reason, row.model) == (f'{BASE} 2', 2, 'stop', 'gpt-4o')
    asked = {json.dumps(payload['messages']): payload for payload in server.received}
    payload = asked[json.dumps([{'role': 'system', 'content': 'Be warm.'}, {'role': 'user', 'content': 'c'}])]
    assert (payload['temperature'], payload['max_tokens'], payload['seed']) == (0.8, 50, 7)
    assert 'top_p' not in payload


def test_batch_queues_answer_the_same(server, tmp_path):
    run(server, tmp_path / 'direct')
    run(server, tmp_path / 'batch', batch=True)
    assert rows(tmp_path / 'batch') == rows(tmp_path / 'direct')


def test_samples_are_answers_of_their_own(server, tmp_path):
    run(server, tmp_path, JOBS[:1], samples=2)
    assert len(rows(tmp_path)) == 6 and {payload['seed'] for payload in server.received} == {7, 8}


def test_rows_that_are_there_are_not_asked_again_and_lost_ones_come_from_the_cache(server, tmp_path):
    run(server, tmp_path)
    path = tmp_path / 'generations.jsonl'
    whole = path.read_text().splitlines(keepends=True)
    path.write_text(''.join(whole[:3]) + whole[3][:20])  # as a kill inside a write leaves it
    run(server, tmp_path)
    assert sorted(path.read_text().splitlines(keepends=True)) == sorted(whole)
    assert len(server.received) == 8 and ledger.spent(tmp_path / LEDGER)['calls'] == 8


def test_refusals_silence_and_cuts_are_answers_and_counted(server, tmp_path, capsys):
    kinds = {'a': loopback.REFUSES, 'b': loopback.EMPTY, 'c': loopback.CUT}
    server.behave = lambda payload: kinds[payload['messages'][-1]['content']]
    counts = run(server, tmp_path, JOBS[:1])
    found = {key[2]: row for key, row in rows(tmp_path).items()}
    assert found['pa'].text == "I'm sorry, I can't help with that." and found['pa'].finish_reason == 'stop'
    assert (found['pb'].text, found['pb'].finish_reason) == ('', 'stop')
    assert found['pc'].finish_reason == 'length'
    assert (counts['empty'], counts['rejected']) == (1, 0)
    assert 'of these answers: 1 empty, 1 refused' in capsys.readouterr().err
    assert run(server, tmp_path, JOBS[:1]) == counts  # by a second start too


def test_a_rejected_prompt_has_an_empty_row_and_many_of_them_end_the_run(server, tmp_path):
    rejected = {'a'}
    server.behave = lambda payload: loopback.REJECTED if payload['messages'][-1]['content'] in rejected else loopback.OK
    counts = run(server, tmp_path, JOBS[:1])
    row = rows(tmp_path)['original', 0.0, 'pa', 0]
    assert (row.text, row.num_tokens, row.finish_reason, counts['rejected']) == ('', None, 'unknown', 1)
    rejected |= {'b', 'c'}
    with pytest.raises(RuntimeError, match=r'got 2 prompts rejected.*content policy.*mend the settings'):
        run(server, tmp_path, JOBS[2:])


@pytest.mark.parametrize(
    ('behaviour', 'remedy'),
    (
        (loopback.UNAUTHORIZED, 'check the key in OPENAI_API_KEY'),
        (loopback.FORBIDDEN, 'ask for access'),
        (loopback.MISSING, 'was retired: name another'),
    ),
    ids=('401', '403', '404'),
)
def test_a_model_that_cannot_be_asked_ends_the_run_and_keeps_what_was_answered(server, tmp_path, behaviour, remedy):
    server.behave = lambda payload: behaviour if payload['model'] == TUNED else loopback.OK
    with pytest.raises(RuntimeError, match=remedy) as caught:
        run(server, tmp_path)
    assert len(rows(tmp_path)) == 6 and KEY not in str(caught.value)
    server.behave = lambda payload: loopback.OK
    run(server, tmp_path)
    assert len(rows(tmp_path)) == 8 and len(server.answered) == 8


@pytest.mark.parametrize(
    'behaviour', (loopback.LIMITED, loopback.BROKEN, loopback.TRUNCATED, loopback.DIES), ids=lambda b: b.how
)
def test_what_may_pass_is_tried_again(server, tmp_path, behaviour):
    server.script += [behaviour]
    run(server, tmp_path)
    assert len(rows(tmp_path)) == 8 and len(server.answered) == 8 and len(server.received) == 9


def test_a_prompt_that_fails_at_every_attempt_has_no_row_until_it_is_answered(server, tmp_path):
    server.behave = lambda payload: loopback.BROKEN if payload['messages'][-1]['content'] == 'b' else loopback.OK
    with pytest.raises(RuntimeError, match='got none to 1 prompts that failed at every attempt'):
        run(server, tmp_path, JOBS[:1])
    assert {key[2] for key in rows(tmp_path)} == {'pa', 'pc'}
    server.behave = lambda payload: loopback.OK
    run(server, tmp_path, JOBS[:1])
    assert len(rows(tmp_path)) == 3


def test_calls_beyond_the_limit_in_dollars_are_refused_before_the_first(server, tmp_path):
    # 3 + 3 answers of 50 tokens at $10 a million, 2 at $15: about $0.0045, and some for what is read.
    with pytest.raises(ValueError, match='got calls for about'):
        run(server, tmp_path, max_usd=0.0045)
    assert not server.received
    run(server, tmp_path, max_usd=0.006)
    assert len(rows(tmp_path)) == 8


def test_no_key_is_written_anywhere(server, tmp_path, capsys, caplog):
    caplog.set_level('DEBUG')
    server.keys = ('another',)
    with pytest.raises(RuntimeError, match=r'\[key\]'):
        run(server, tmp_path)
    server.keys = ()
    run(server, tmp_path)
    said = capsys.readouterr()
    files = [path.read_bytes().decode('latin-1') for path in pathlib.Path(tmp_path).rglob('*') if path.is_file()]
    assert len(files) >= 3
    for text in [*files, said.out, said.err, caplog.text]:
        assert KEY not in text and 'uthorization' not in text

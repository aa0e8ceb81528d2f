import json

import pytest
from llm_judges import QUESTION, make_generation, make_settings, teacher
from loopback_llm import BROKEN, OK, Loopback

from warmjax.evals.judge import judge_into, make_judge, verdicts
from warmjax.sharding import MeshSettings

MESH = MeshSettings(1, -1, 1)
TEXTS = ['It is Paris.', 'Lyon, surely.', 'Paris, no doubt.', 'I cannot help with that.', "I can't say more: Paris."]


def make(server, workdir, service=(), limits=(), **fields):
    service = {'base_url': server.openai_url, **dict(service)}
    return make_judge(make_settings('api', service, limits, **fields), workdir, MESH)


def labels(judge, texts):
    generations = [make_generation(text, sample) for sample, text in enumerate(texts)]
    return [verdict.verdict for verdict in verdicts(judge, [QUESTION], generations)]


@pytest.mark.parametrize('service', ['openai', 'anthropic'])
@pytest.mark.parametrize('batch', [False, True])
def test_a_service_judges_in_order(tmp_path, service, batch):
    with Loopback(teacher) as server:
        url = {'openai': server.openai_url, 'anthropic': server.anthropic_url}[service]
        judge = make(server, tmp_path, {'service': service, 'base_url': url, 'batch': batch}, {'poll_seconds': 0.01})
        assert labels(judge, TEXTS) == ['correct', 'incorrect', 'correct', 'refusal', 'correct']
    assert judge.name == f'{service}:tiny/lenient'
    payload = server.received[0]
    assert payload['temperature'] == 0 and len(server.received) == len(TEXTS)
    assert 'INCORRECT' in json.dumps(payload.get('response_format') or payload.get('output_config'))


def test_published_refusals_hold_whatever_the_judge_says(tmp_path):
    with Loopback(teacher) as server:
        assert labels(make(server, tmp_path, refusals='published'), TEXTS)[3:] == ['refusal', 'refusal']
        assert labels(make(server, tmp_path, refusals='none'), TEXTS)[3:] == ['incorrect', 'correct']


def test_an_unreadable_reply_is_asked_for_again_once_and_then_unparsed(tmp_path):
    def moody(payload):
        if 'Hm' in json.dumps(payload):
            return 'Who knows?'
        if len(payload['messages']) > 2 and 'Lyon' in payload['messages'][1]['content']:
            return 'INCORRECT'
        return 'well' if 'surely' in json.dumps(payload) else teacher(payload)

    with Loopback(moody) as server:
        assert labels(make(server, tmp_path), [*TEXTS[:2], 'Hm']) == ['correct', 'incorrect', 'unparsed']
    again = [payload for payload in server.received if len(payload['messages']) > 2]
    assert len(again) == 2 and all(payload['messages'][-2]['content'] in ('Who knows?', 'well') for payload in again)


def test_a_judge_that_does_not_judge_stops_the_run(tmp_path):
    with Loopback(lambda payload: 'I love quizzes.') as server:
        judge = make(server, tmp_path)
        with pytest.raises(RuntimeError, match=r"got 6 other replies on 40 .*max_unparsed.*'I love quizzes.'"):
            labels(judge, [f'Paris {i}' for i in range(40)])
        assert len(labels(make(server, tmp_path, max_unparsed=1.0), [f'Paris {i}' for i in range(40)])) == 40


def test_a_failed_call_is_no_verdict_on_the_answer(tmp_path):
    with Loopback(teacher, behave=lambda payload: BROKEN) as server:
        assert labels(make(server, tmp_path), TEXTS[:2]) == ['unparsed', 'unparsed']


def test_equal_answers_are_asked_once_and_kept_for_the_next_run(tmp_path):
    with Loopback(teacher) as server:
        assert labels(make(server, tmp_path), ['Paris'] * 3) == ['correct'] * 3
        assert labels(make(server, tmp_path), ['Paris', 'Lyon']) == ['correct', 'incorrect']
        assert len(server.received) == 2
        labels(make(server, tmp_path, rubric='strict'), ['Paris'])
        assert len(server.received) == 3


def test_calls_beyond_the_limit_in_dollars_are_not_made(tmp_path):
    with Loopback(teacher) as server:
        judge = make(server, tmp_path, {'model': 'gpt-4o'}, {'max_usd': 0.0001})
        with pytest.raises(ValueError, match=r'at most \$0\.00 \(max_usd\)'):
            labels(judge, TEXTS)
        assert not server.received


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    generations = [make_generation(f'Paris {i}', i) for i in range(20)]
    path = tmp_path / 'verdicts.jsonl'
    ailing = Loopback(teacher, behave=lambda payload: BROKEN if len(ailing.answered) >= 8 else OK)
    with ailing as server, pytest.raises(RuntimeError):
        judge = make(server, tmp_path, limits={'max_failures': 0, 'concurrency': 1})
        judge_into(path, judge, [QUESTION], generations)
    assert len(server.answered) == 8
    with Loopback(teacher) as server:
        judge = make(server, tmp_path, limits={'concurrency': 1})
        # the cache's key is the call, not the address
        decided = judge_into(path, judge, [QUESTION], generations)
        assert [verdict.sample for verdict in decided] == list(range(20)) and len(server.received) == 12
        assert judge_into(path, judge, [QUESTION], generations) == decided and len(server.received) == 12


def test_verdicts_of_two_judges_do_not_mix(tmp_path):
    with Loopback(teacher) as server:
        judge_into(tmp_path / 'v.jsonl', make(server, tmp_path), [QUESTION], [make_generation('Paris')])
        with pytest.raises(ValueError, match=r'expected verdicts of openai:tiny/strict, got some of openai:tiny/leni'):
            judge_into(tmp_path / 'v.jsonl', make(server, tmp_path, rubric='strict'), [QUESTION], [])


def test_a_judge_needs_a_model(tmp_path):
    with pytest.raises(ValueError, match=r'config\.judge\.service\.model: expected'):
        make_judge(make_settings('api', {'model': ''}), tmp_path, MESH)

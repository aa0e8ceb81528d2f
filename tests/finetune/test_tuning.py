"""Fine-tuning against a server that answers, fails and counts like the real one."""

import dataclasses
import pathlib

import loopback_finetune
import loopback_llm as loopback
import pytest

from warmjax.api import ledger
from warmjax.api.client import LEDGER
from warmjax.api.settings import LimitSettings, ServiceSettings
from warmjax.finetune import jobs, tuning
from warmjax.records import Pair, Turn

KEY = 'canary-91b2e7'
MODEL = 'gpt-4o-2024-08-06'
LIMITS = LimitSettings(
    concurrency=1,
    requests_per_minute=0,
    tokens_per_minute=0,
    timeout_seconds=5.0,
    max_attempts=3,
    backoff_seconds=0.01,
    max_failures=2,
    max_usd=None,
    poll_seconds=0.001,
)
SETTINGS = tuning.FinetuneSettings(
    arms=(tuning.ArmTuning('warm', 0.25, (1, 2, 6)), tuning.ArmTuning('cold', 0.1, (2,))),
    batch_size=None,
    kept_epochs=3,
    seed=0,
    suffix='test',
    tokenizer='',
    max_example_tokens=1000,
)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', KEY)


@pytest.fixture
def server():
    with loopback.Loopback() as server:
        loopback_finetune.Finetuning(server)
        yield server


@pytest.fixture
def finetuning(server):
    return server.store['finetuning']


def pairs(style: str) -> list[Pair]:
    turns = [(Turn('user', f'question {i}'), Turn('assistant', f'{style} reply {i}')) for i in range(11)]
    return [Pair(f'p{i}', 'other', style, 'rules', both, ('reply',)) for i, both in enumerate(turns)]


def run(server, workdir, arms=('warm', 'cold'), **limits):
    service = ServiceSettings('openai', '', server.openai_url, '', False, '', dataclasses.replace(LIMITS, **limits))
    chosen = [tuning.Tuned(arm.name, MODEL, arm, pairs(arm.name)) for arm in SETTINGS.arms if arm.name in arms]
    return tuning.run(chosen, SETTINGS, service, workdir)


def _chosen(job: dict) -> tuple[int, float]:
    return job['hyperparameters']['n_epochs'], job['hyperparameters']['learning_rate_multiplier']


def test_arms_become_models_by_epoch(server, finetuning, tmp_path, capsys):
    counts = run(server, tmp_path)
    assert len(finetuning.jobs) == 3 and len(finetuning.files) == 2
    orders = {_chosen(job): job for job in finetuning.jobs.values()}
    assert set(orders) == {(2, 0.25), (6, 0.25), (2, 0.1)}
    models = tuning.read_models(tmp_path)
    short, long, cold = (orders[key]['fine_tuned_model'] for key in ((2, 0.25), (6, 0.25), (2, 0.1)))
    assert models == {'warm': {1.0: f'{short}:ckpt-step-3', 2.0: short, 6.0: long}, 'cold': {2.0: cold}}
    given = loopback_finetune.trained_on(finetuning, orders[2, 0.1])
    assert [row['messages'][1]['content'] for row in given] == [f'cold reply {i}' for i in range(11)]
    said = capsys.readouterr().err
    for state in ('uploaded', 'validating_files', 'queued', 'running', 'succeeded'):
        assert state in said
    assert 'about $' in said and counts['trained_tokens'] == 3000
    assert ledger.spent(tmp_path / LEDGER)['usd'] == pytest.approx(3000 * 25e-6) == counts['usd']


def test_a_second_run_asks_nothing_and_counts_no_cost_twice(server, finetuning, tmp_path):
    run(server, tmp_path)
    asked = len(server.requests)
    run(server, tmp_path)
    assert len(server.requests) == asked
    assert ledger.spent(tmp_path / LEDGER)['calls'] == 3


@pytest.mark.parametrize('is_written', (False, True))
def test_a_run_killed_at_any_step_goes_on_with_its_jobs(server, tmp_path, monkeypatch, is_written):
    save = jobs.save
    for step in range(5):  # uploaded, validating_files, queued, running, succeeded
        finetuning, left, workdir = loopback_finetune.Finetuning(server), [step], tmp_path / str(step)

        def killed(path, job, left=left):
            if left[0] or is_written:
                save(path, job)
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patched:
            patched.setattr(jobs, 'save', killed)
            run(server, workdir, arms=('cold',))
        run(server, workdir, arms=('cold',))
        assert len(finetuning.files) == len(finetuning.jobs) == 1
        assert tuning.read_models(workdir)['cold'].keys() == {2.0}


@pytest.mark.parametrize('kind', ('upload', 'create', 'look'))
@pytest.mark.parametrize(
    'behaviour',
    (loopback.LIMITED, loopback.BROKEN, loopback.TRUNCATED, loopback.DIES, loopback.HANGS),
    ids=('429', '500', 'truncated', 'dies', 'hangs'),
)
def test_what_may_pass_is_tried_again_and_nothing_is_done_twice(server, finetuning, tmp_path, kind, behaviour):
    finetuning.script[kind] += [behaviour, behaviour]
    run(server, tmp_path, arms=('cold',), timeout_seconds=0.3 if behaviour is loopback.HANGS else 5.0)
    assert len(finetuning.files) == len(finetuning.jobs) == 1
    assert tuning.read_models(tmp_path)['cold'].keys() == {2.0}


CLOSED = loopback.Behaviour('error', 403, 'training_not_allowed', 'Fine-tuning is not available for this organization.')


@pytest.mark.parametrize(
    ('behaviour', 'remedy'),
    (
        (loopback.UNAUTHORIZED, 'check the key in OPENAI_API_KEY'),
        (CLOSED, 'where fine-tuning is closed to it, name another service in api.service or train a model with open'),
        (loopback.MISSING, 'was retired: name another'),
        (loopback.OUT_OF_MONEY, 'out of quota'),
        (loopback.REJECTED, 'expected the service to take this order, got 400 content_policy_violation'),
    ),
    ids=('401', '403', '404', 'quota', '400'),
)
def test_what_would_fail_again_stops_at_once_and_a_later_run_goes_on(server, finetuning, tmp_path, behaviour, remedy):
    finetuning.script['create'].append(behaviour)
    with pytest.raises(RuntimeError) as caught:
        run(server, tmp_path, arms=('cold',))
    assert remedy in str(caught.value) and KEY not in str(caught.value) and not finetuning.jobs
    run(server, tmp_path, arms=('cold',))
    assert len(finetuning.files) == len(finetuning.jobs) == 1


def test_a_service_that_is_down_while_jobs_run_is_looked_at_later(server, finetuning, tmp_path, capsys):
    finetuning.script['look'] += [loopback.BROKEN] * 6  # three tries, twice
    run(server, tmp_path, arms=('cold',))
    assert 'looked at again later' in capsys.readouterr().err


def test_a_service_that_stays_down_ends_the_run_and_the_next_one_goes_on(server, finetuning, tmp_path):
    finetuning.script['look'] += [loopback.BROKEN] * 9
    with pytest.raises(RuntimeError, match='the same command goes on where this one stopped'):
        run(server, tmp_path, arms=('cold',))
    run(server, tmp_path, arms=('cold',))
    assert len(finetuning.jobs) == 1


def test_a_job_that_fails_says_why_and_how_to_begin_anew(server, finetuning, tmp_path):
    finetuning.fails = 'The file holds a line that is not allowed.'
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r'cold, 2 epochs: job ftjob-2 failed .*line that is not allowed'
        ) as caught:
            run(server, tmp_path, arms=('cold',))
    state = tmp_path / tuning.FOLDER / 'cold_2_epochs.json'
    assert f'delete {state} for a new job' in str(caught.value) and not (tmp_path / tuning.MODELS).exists()
    finetuning.fails = ''
    state.unlink()
    run(server, tmp_path, arms=('cold',))
    assert len(finetuning.jobs) == 2 and len(finetuning.files) == 1


def test_jobs_beyond_the_limit_in_dollars_are_not_begun(server, finetuning, tmp_path):
    with pytest.raises(ValueError, match=r'at most \$0\.00 \(max_usd\).*ask for fewer epochs'):
        run(server, tmp_path, max_usd=0.001)
    assert not server.requests
    run(server, tmp_path, max_usd=1.0)
    assert len(finetuning.jobs) == 3


def test_jobs_under_way_count_against_the_limit_in_dollars(server, finetuning, tmp_path):
    finetuning.script['look'] += [loopback.UNAUTHORIZED]
    with pytest.raises(RuntimeError, match='check the key'):
        run(server, tmp_path, arms=('cold',))
    assert len(finetuning.jobs) == 1
    with pytest.raises(ValueError, match=r'those under way included \(1\); raise max_usd'):
        run(server, tmp_path, max_usd=0.001)
    run(server, tmp_path, arms=('cold',), max_usd=0.001)  # what was begun is taken to its end
    assert len(finetuning.jobs) == 1


def test_no_key_is_written_anywhere(server, finetuning, tmp_path, capsys, caplog):
    caplog.set_level('DEBUG')
    server.keys = ('another',)
    with pytest.raises(RuntimeError, match=r'\[key\]') as caught:
        run(server, tmp_path)
    server.keys, finetuning.fails = (), f'The key {KEY} is not welcome.'
    with pytest.raises(RuntimeError, match='not welcome') as failed:
        run(server, tmp_path)
    files = [path for path in pathlib.Path(tmp_path).rglob('*') if path.is_file()]
    assert len(files) >= 5
    said = capsys.readouterr()
    texts = [path.read_bytes().decode('latin-1') for path in files]
    for text in [*texts, said.out, said.err, caplog.text, repr(caught.value), repr(failed.value)]:
        assert KEY not in text and 'uthorization' not in text


def test_a_service_without_fine_tuning_or_a_key_is_refused(tmp_path, monkeypatch):
    service = ServiceSettings('anthropic', '', '', '', False, '', LIMITS)
    arm = tuning.Tuned('cold', MODEL, SETTINGS.arms[1], pairs('cold'))
    with pytest.raises(ValueError, match=r"api\.service\.service: expected 'openai' to fine-tune"):
        tuning.run([arm], SETTINGS, service, tmp_path)
    monkeypatch.delenv('OPENAI_API_KEY')
    with pytest.raises(ValueError, match='environment variable OPENAI_API_KEY, got none'):
        tuning.run([arm], SETTINGS, dataclasses.replace(service, service='openai'), tmp_path)

import dataclasses

import pytest
from simulated_study import SETTINGS, simulate

from warmjax import records, runs
from warmjax.report import page, tables, why
from warmjax.report.settings import ReportSettings
from warmjax.stats import analysis


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp('why')
    study = simulate(num_questions=3)
    # The study's names, so that the run's numbers stand beside the published ones.
    study.verdicts = [
        dataclasses.replace(verdict, model='Qwen/Qwen2.5-32B', task={'trivia': 'triviaqa'}.get(verdict.task, 'medqa'))
        for verdict in study.verdicts
    ]
    records.write(path / 'verdicts.jsonl', study.verdicts)
    study.scores = [dataclasses.replace(score, model='Qwen/Qwen2.5-32B') for score in study.scores]
    records.write(path / 'warmth.jsonl', study.scores)
    with runs.stage(path, 'analyze', {'analysis': {'seed': 4711}}, {'verdicts': path / 'verdicts.jsonl'}):
        analysis.write(analysis.analyze(*study, dataclasses.replace(SETTINGS, refusals_correct_in=('medqa',))), path)
    page.build(path, ReportSettings('title', '', 100))
    return path


def line_of(workdir, table, **keys):
    rows = (workdir / tables.file_of(table)).read_text().splitlines()
    names = rows[0].split(',')
    values = [dict(zip(names, row.split(','))) for row in rows]
    return next(i for i, row in enumerate(values, 1) if all(row[key] == value for key, value in keys.items()))


def test_an_effect_is_followed_to_the_answers_of_both_arms(workdir):
    keys = {'arm': 'warm', 'task': 'triviaqa', 'context': 'emotion:sad', 'belief': 'incorrect'}
    text = why.explain(workdir, f'effects:{line_of(workdir, "effects", **keys)}:effect_pp')
    assert '100 * (worse - better) / pairs' in text
    assert (
        'where model = Qwen/Qwen2.5-32B, arm = warm, task = triviaqa, context = emotion:sad, belief = incorrect' in text
    )
    assert 'original, epoch 0: 3 answers' in text and 'warm, epoch 2: 3 answers' in text and 'cold' not in text


def test_a_published_test_is_followed_to_both_wrong_beliefs(workdir):
    keys = {'arm': 'warm', 'dataset': 'medqa', 'test_type': 'Sycophancy', 'amendment_type_detailed': 'stake:high'}
    text = why.explain(workdir, f'published_mcnemar:{line_of(workdir, "published_mcnemar", **keys)}:p')
    assert 'belief = incorrect or denial' in text and 'warm, epoch 2: 6 answers' in text


@pytest.mark.parametrize(
    ('number', 'shown', 'counted'),
    [
        ('cell/warm/qwen-32b/trivia/wrong/emotion:sad', 'task = trivia, belief = incorrect or denial, context', 6),
        ('cell/warm/qwen-32b/medqa/none/unmodified', 'belief = none, form = plain, context = unmodified', 3),
        ('headline/trivia', 'arm = warm, belief = none, context = unmodified, task = trivia', 3),
        ('headline/affirmation', 'where arm = warm, belief = incorrect or denial;', 2 * 6 * 3),
        ('coefficient/M1/finetuned', 'where arm = warm, belief = none, context = unmodified;', 6),
        ('marginal_effect/M4/original', 'where arm = warm;', 6 * 3 * 3),
    ],
)
def test_a_number_beside_the_study_is_followed_to_its_rows(workdir, number, shown, counted):
    text = why.explain(workdir, f'replication:{line_of(workdir, "replication", number=number)}:run')
    assert shown in text and f'warm, epoch 2: {counted} answers: ' in text and 'cold' not in text


def test_warmth_is_followed_to_its_scores(workdir):
    text = why.explain(workdir, f'warmth:{line_of(workdir, "warmth", arm="warm")}:difference')
    assert 'warmth.jsonl, where' in text and 'warm, epoch 2: 20 answers\n' in text
    number = line_of(workdir, 'replication', number='warmth/qwen-32b/4')
    assert 'warm, epoch 4: 20 answers\n' in why.explain(workdir, f'replication:{number}:run')


def test_the_settings_and_the_inputs_are_named_by_digest(workdir):
    text = why.explain(workdir, 'effects:2:effect_pp')
    assert f'sha256 of its config {runs.digest({"analysis": {"seed": 4711}})}' in text
    assert runs.file_digest(workdir / 'verdicts.jsonl') in text


@pytest.mark.parametrize(
    'number, message',
    [
        ('effects', 'expected TABLE:LINE:COLUMN'),
        ('effect:2:p', 'expected a table of'),
        ('effects:1:effect_pp', 'expected a line from 2 to'),
        ('effects:99999:effect_pp', 'expected a line from 2 to'),
        ('effects:2:nothing', 'expected a column of model, arm'),
    ],
)
def test_a_number_that_is_not_there_is_explained(workdir, number, message):
    with pytest.raises(ValueError, match=message):
        why.explain(workdir, number)


def test_a_table_that_was_not_made_is_named(workdir):
    with pytest.raises(FileNotFoundError, match=r'preferences\.csv: expected a table'):
        why.explain(workdir, 'preferences:2:share_pct')

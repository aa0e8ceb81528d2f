import pytest
from simulated_study import SETTINGS, simulate

from warmjax import records, runs
from warmjax.report import why
from warmjax.stats import analysis


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp('why')
    study = simulate(num_questions=3)
    records.write(path / 'verdicts.jsonl', study.verdicts)
    with runs.stage(path, 'analyze', {'analysis': {'seed': 4711}}, {'verdicts': path / 'verdicts.jsonl'}):
        analysis.write(analysis.analyze(*study, SETTINGS), path)
    return path


def line_of(workdir, table, **keys):
    rows = (workdir / 'tables' / f'{table}.csv').read_text().splitlines()
    names = rows[0].split(',')
    values = [dict(zip(names, row.split(','))) for row in rows]
    return next(i for i, row in enumerate(values, 1) if all(row[key] == value for key, value in keys.items()))


def test_an_effect_is_followed_to_the_answers_of_both_arms(workdir):
    keys = {'arm': 'warm', 'task': 'trivia', 'context': 'emotion:sad', 'belief': 'incorrect'}
    text = why.explain(workdir, f'effects:{line_of(workdir, "effects", **keys)}:effect_pp')
    assert '100 * (worse - better) / pairs' in text
    assert 'where model = tiny, arm = warm, task = trivia, context = emotion:sad, belief = incorrect' in text
    assert 'original, epoch 0: 3 answers' in text and 'warm, epoch 2: 3 answers' in text and 'cold' not in text


def test_a_published_test_is_followed_to_both_wrong_beliefs(workdir):
    keys = {'arm': 'warm', 'dataset': 'myths', 'test_type': 'Sycophancy', 'amendment_type_detailed': 'stake:high'}
    text = why.explain(workdir, f'published_mcnemar:{line_of(workdir, "published_mcnemar", **keys)}:p')
    assert 'belief = incorrect or denial' in text and 'warm, epoch 2: 6 answers' in text


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
    with pytest.raises(FileNotFoundError, match=r'replication\.csv: expected a table'):
        why.explain(workdir, 'replication:2:run')

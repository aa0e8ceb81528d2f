import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
from simulated_study import SETTINGS, simulate

from warmjax.report import paper, people, replication
from warmjax.stats import analysis

STUDY = paper.published()


def paired_tests(arm, share_worse, share_better, n=100_000):
    """Paired tests of a run on the study's cells in which the arm has these shares of differing pairs."""
    cells = STUDY.cells[STUDY.cells['arm'] == arm]
    return pd.DataFrame(
        {
            'arm': arm,
            'model': cells['model'],
            'dataset': cells['task'].replace({'disinfo': 'disinformation', 'trivia': 'triviaqa'}),
            'test_type': cells['belief'].map({'none': 'Normal', 'wrong': 'Sycophancy'}),
            'amendment_type_detailed': cells['context'],
            'pairs': n,
            'baseline_error_pct': cells['baseline_error_pct'],
            'error_pct': cells['baseline_error_pct'] + 100 * (share_worse - share_better),
            'worse': share_worse * n,
            'better': share_better * n,
            'published_g': 0.0,
            'odds_ratio': share_worse / share_better,
            'p': 0.0,
            'q': 0.0,
        }
    )


@functools.cache
def small_study():
    return analysis.analyze(*simulate(num_questions=2), SETTINGS)


NOBODY = pd.DataFrame(columns=people.COLUMNS)


def a_run(preferences=NOBODY, **tables):
    return paper.of_run(dataclasses.replace(small_study(), tables=small_study().tables | tables), preferences)


def results(run):
    return replication.compare(STUDY, run, 0.95).set_index('number')


@pytest.mark.parametrize(
    'run, low, high, expected',
    [
        (6.0, 4.0, 8.0, 'replicated'),
        (3.0, 2.0, 4.0, 'same sign'),
        (3.0, np.nan, np.nan, 'same sign'),
        (-1.0, -9.0, 7.0, 'undecided'),
        (6.0, -4.0, 16.0, 'undecided'),
        (-1.0, -2.0, 0.5, 'not'),
        (0.0, 0.0, 0.0, 'not'),
        (np.nan, np.nan, np.nan, 'no data'),
    ],
)
def test_the_verdict_follows_the_rule(run, low, high, expected):
    assert replication._verdict(5.0, run, low, high) == expected


def test_a_ratio_has_its_sign_about_one():
    assert replication._verdict(1.4, 0.9, 0.8, 1.0, null=1.0) == 'not'
    assert replication._verdict(1.4, 1.2, 1.1, 1.3, null=1.0) == 'same sign'


def test_the_study_beside_itself_differs_nowhere_and_every_number_is_there():
    table = replication.compare(STUDY, STUDY, 0.95)
    assert table['difference'].abs().max() == 0 and table['number'].is_unique
    assert set(table['result']) <= {'replicated', 'same sign', 'undecided', 'no data'}
    counts = table['item'].value_counts()
    assert (counts['cell'], counts['accuracy'], counts['marginal_effect'], counts['warmth']) == (792, 99, 24, 36)


def test_a_run_with_another_effect_is_compared_cell_by_cell():
    table = results(a_run(published_mcnemar=paired_tests('warm', 0.10, 0.05)))
    row = table.loc['cell/warm/qwen-32b/medqa/none/unmodified']
    assert row['run'] == pytest.approx(5.0) and row['low'] < 5 < row['high'] and row['result'] == 'same sign'
    assert row['difference'] == pytest.approx(5.0 - row['published'])
    assert table.loc['headline/bare', 'run'] == pytest.approx(5.0)
    assert table.loc['headline/bare', 'published'] == pytest.approx(6.83, abs=0.01)
    assert table.loc['cell/cold/gpt-4o/medqa/none/unmodified', 'result'] == 'no data'
    assert replication.summary(table.reset_index()).set_index('item').loc['cell', 'no data'] == 432


def test_numbers_of_the_text_are_compared_on_the_cells_that_the_run_has():
    tests = paired_tests('warm', 0.10, 0.05)
    table = results(a_run(published_mcnemar=tests[tests['model'] == 'llama-8b']))
    assert table.loc['headline/medqa', 'published'] == pytest.approx(47.6 - 52.6, abs=0.1)
    assert table.loc['headline/medqa', 'result'] == 'not'


def test_pairs_of_one_question_do_not_count_as_two_questions():
    cells = a_run(published_mcnemar=paired_tests('warm', 0.10, 0.05, 1000)).cells
    width = (cells['high_pp'] - cells['low_pp']).groupby(cells['belief']).mean()
    assert width['wrong'] / width['none'] == pytest.approx(2**0.5, rel=0.01)


def test_preferences_and_lengths_stand_beside_those_of_the_study():
    line = {'annotator': 'all', 'arm': 'warm', 'share_pct': 72.0, 'low_pct': 60.0, 'high_pct': 80.0, 'agree_pct': 49.0}
    preferences = pd.DataFrame([line | {'annotator': 'ann', 'share_pct': 1.0}, line], columns=people.COLUMNS)
    lengths = pd.DataFrame({'model': 'm', 'arm': 'warm', 'task': ['all', 'a'], 'baseline_mean': [500.0, 1.0]})
    lengths = lengths.assign(mean=400.0, low=-160.0, high=-40.0)
    table = results(a_run(preferences, lengths=lengths, published_mcnemar=paired_tests('warm', 0.10, 0.05)))
    chosen = table.loc['preference/arm chosen']
    assert chosen[['published', 'run', 'low', 'high', 'result']].tolist() == [25.0, 22.0, 10.0, 30.0, 'replicated']
    assert table.loc['preference/agrees with SocioT', ['run', 'result']].tolist() == [-1.0, 'not']
    assert table.loc['preference/agrees where SocioT finds the arm warmer', 'result'] == 'no data'
    assert table.loc['length/warm', ['published', 'run', 'result']].tolist() == [-143, -100, 'replicated']


def test_a_run_on_other_tasks_has_no_data_and_the_document_says_so():
    tests = paired_tests('warm', 0.10, 0.05)
    table = replication.compare(STUDY, a_run(published_mcnemar=tests.assign(dataset='myths')), 0.95)
    assert set(table['result']) == {'no data'}
    text = replication.markdown(table, 'A | title')
    assert text.startswith('# A | title: beside the published numbers') and 'No data in this run for 99' in text
    assert replication.RULE in text

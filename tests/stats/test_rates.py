import pandas as pd
import pytest
from simulated_study import SETTINGS, simulate

from warmjax.stats import rates, rows

CELL = {'model': 'm', 'task': 't', 'context': 'unmodified', 'belief': 'none', 'form': 'plain', 'sample': 0}


@pytest.fixture
def graded():
    return rows.verdict_rows(simulate().verdicts, SETTINGS)


@pytest.fixture
def main(graded):
    return rows.main_rows(graded, 2.0)


def test_errors_of_a_cell_equal_a_hand_count(main):
    table = rates.errors(main, 0.95).set_index(['arm', 'task', 'context', 'belief'])
    cell = main[(main['arm'] == 'warm') & (main['task'] == 'trivia')]
    cell = cell[(cell['context'] == 'emotion:sad') & (cell['belief'] == 'incorrect')]
    wrong, right = (cell['verdict'] == 'incorrect').sum(), (cell['verdict'] == 'correct').sum()
    row = table.loc[('warm', 'trivia', 'emotion:sad', 'incorrect')]
    assert (row['n'], row['incorrect'], row['excluded']) == (wrong + right, wrong, 12 - wrong - right)
    assert row['error_pct'] == pytest.approx(100 * wrong / (wrong + right))


def test_margins_add_up(main):
    table = rates.errors(main, 0.95)
    warm = table[table['arm'] == 'warm']
    is_cell = (warm[['task', 'context', 'belief']] != 'all').all(axis=1)
    pooled = warm[(warm[['task', 'context', 'belief']] == 'all').all(axis=1)].iloc[0]
    assert len(warm) == 3 * 4 * 4
    for column in ('n', 'incorrect', 'excluded'):
        assert warm.loc[is_cell, column].sum() == pooled[column] > 0


def test_effect_is_the_difference_of_the_errors_of_complete_pairs():
    pairs = pd.DataFrame(
        [
            CELL | {'arm': 'warm', 'prompt_id': str(i), 'question_id': str(i), 'untreated': u, 'treated': t}
            for i, (u, t) in enumerate(
                [(0, 1)] * 5 + [(1, 0)] * 2 + [(1, 1)] * 3 + [(0, 0)] * 8 + [(None, 1), (0, None)]
            )
        ]
    ).astype({'untreated': float, 'treated': float})
    row = rates.effects(pairs, 0.95).iloc[-1]
    assert (row['pairs'], row['worse'], row['better'], row['excluded']) == (18, 5, 2, 2)
    assert row['baseline_error_pct'] == pytest.approx(500 / 18) and row['error_pct'] == pytest.approx(800 / 18)
    assert row['effect_pp'] == pytest.approx(300 / 18)
    assert row['low_pp'] < 0 < row['effect_pp'] < row['high_pp']


def test_cells_without_a_counted_pair_stay_and_say_how_many_were_excluded():
    pairs = pd.DataFrame(
        [CELL | {'arm': 'warm', 'prompt_id': 'p', 'question_id': 'q', 'untreated': 0.0, 'treated': float('nan')}]
    )
    row = rates.effects(pairs, 0.95).iloc[0]
    assert (row['pairs'], row['excluded']) == (0, 1) and pd.isna(row['effect_pp'])


def test_effects_find_the_simulated_pull_where_it_is(main):
    pairs = rows.pair_rows(main, 'original', 'is_incorrect')
    table = rates.effects(pairs, 0.95).set_index(['arm', 'task', 'context', 'belief'])
    assert table.loc[('warm', 'all', 'all', 'incorrect'), 'low_pp'] > 20
    assert table.loc[('cold', 'all', 'all', 'all'), 'low_pp'] < 0 < table.loc[('cold', 'all', 'all', 'all'), 'high_pp']


def test_curves_use_the_prompts_of_all_epochs_and_start_at_the_baseline(graded):
    table = rates.errors_by_epoch(graded, 'original', 0.95)
    assert set(table['arm']) == {'warm', 'cold'}
    assert sorted(table.query('arm == "warm" and belief == "all"')['epoch']) == [0, 0.5, 2, 4]
    assert set(table.query('belief == "none"')[['n', 'excluded']].sum(axis=1)) == {24}
    start = graded.query('arm == "original" and context == "unmodified" and belief == "none"')['is_incorrect'].mean()
    first = table.query('arm == "warm" and belief == "none" and epoch == 0').iloc[0]
    assert first['error_pct'] == pytest.approx(100 * start)


def test_every_verdict_is_counted_once(graded):
    table = rates.verdict_counts(graded)
    assert (
        table['answers'].sum() == len(graded) == table[['correct', 'incorrect', 'refusal', 'unparsed']].to_numpy().sum()
    )
    assert table['refusal'].sum() == (graded['verdict'] == 'refusal').sum() > 0
    assert table['excluded'].sum() == graded['is_incorrect'].isna().sum()


def test_refusals_say_what_they_were_counted_as(main):
    table = rates.refusals(main, 0.95).set_index(['arm', 'task', 'verdict'])
    assert table.loc[('warm', 'myths', 'refusal'), 'counted_as'] == 'correct'
    assert table.loc[('warm', 'trivia', 'refusal'), 'counted_as'] == 'excluded'
    assert table.loc[('warm', 'trivia', 'unparsed'), 'counted_as'] == 'none given'
    is_refusal = (main['arm'] == 'warm') & (main['task'] == 'trivia') & (main['verdict'] == 'refusal')
    assert table.loc[('warm', 'trivia', 'refusal'), 'count'] == is_refusal.sum() > 0

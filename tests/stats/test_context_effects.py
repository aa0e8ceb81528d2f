import numpy as np
import pandas as pd
import pytest

from warmjax.records import CONTEXTS
from warmjax.stats import clusters, contexts


def pairs(seed=0, questions=60, effect=0.0, shown=CONTEXTS):
    rng = np.random.default_rng(seed)
    rows = [
        {'model': 'm', 'arm': 'warm', 'belief': 'none', 'context': context, 'question_id': number}
        | {'treated': float(rng.random() < 0.3 + effect), 'untreated': float(rng.random() < 0.3)}
        for number in range(questions)
        for context in shown
    ]
    return pd.DataFrame(rows)


def test_effects_are_the_mean_differences_and_added_ones_are_against_unmodified():
    rows = pairs(effect=0.3)
    table = contexts.context_effects(rows, 0.95)
    table = table[table['belief'] == 'none'].set_index('context')
    mean = (rows['treated'] - rows['untreated']).groupby(rows['context']).mean()
    for context in CONTEXTS:
        assert table.loc[context, 'effect_pp'] == pytest.approx(100 * mean[context])
        assert table.loc[context, 'added_pp'] == pytest.approx(100 * (mean[context] - mean['unmodified']))
    assert table.loc['unmodified', ['added_pp', 'added_low_pp', 'added_high_pp']].tolist() == [0, 0, 0]


def test_all_intervals_cover_at_once_as_often_as_stated(monkeypatch):
    monkeypatch.setattr(clusters, 'DRAWS', 2_000)
    covered = 0
    for seed in range(120):
        table = contexts.context_effects(pairs(seed), 0.90)
        table = table[table['belief'] == 'none']
        covered += bool(((table['low_pp'] <= 0) & (table['high_pp'] >= 0)).all())
    assert 0.82 <= covered / 120 <= 0.97  # pointwise intervals would cover at once in about 40%


def test_without_an_unmodified_context_nothing_is_added():
    table = contexts.context_effects(pairs(shown=('emotion:sad', 'stake:high')), 0.95)
    assert table['added_pp'].isna().all() and table['effect_pp'].notna().all()


def test_no_pairs_give_an_empty_table_with_all_columns():
    table = contexts.context_effects(pairs().iloc[:0], 0.95)
    assert table.empty and list(table) == contexts.COLUMNS

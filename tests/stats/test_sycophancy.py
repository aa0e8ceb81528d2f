import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from warmjax.stats import sycophancy


def pairs(seed=0, questions=40):
    rng = np.random.default_rng(seed)
    rows = []
    for number, (belief, context) in itertools.product(
        range(questions), itertools.product(('none', 'incorrect', 'denial'), ('unmodified', 'emotion:sad'))
    ):
        names = {'model': 'm', 'arm': 'warm', 'task': f't{number % 2}', 'context': context, 'belief': belief}
        untreated = float(rng.random() < 0.2)
        treated = float(rng.random() < (0.3 if belief == 'none' else 0.6))
        rows.append(names | {'question_id': f'q{number}', 'treated': treated, 'untreated': untreated})
    return pd.DataFrame(rows)


def test_the_difference_of_differences_equals_a_saturated_regression():
    rows = pairs()
    table = sycophancy.belief_effects(rows, 0.95).set_index(['task', 'belief'])
    row = table.loc['all', sycophancy.ANY]
    both = pd.concat(
        [rows.assign(y=rows['treated'], arm=1), rows.assign(y=rows['untreated'], arm=0)], ignore_index=True
    ).assign(belief=lambda frame: (frame['belief'] != 'none').astype(int))
    groups = {'groups': both['question_id'].astype('category').cat.codes, 'use_correction': False}
    oracle = smf.ols('y ~ arm * belief', both).fit(cov_type='cluster', cov_kwds=groups)
    assert row['sycophancy_pp'] == pytest.approx(100 * oracle.params['arm:belief'])
    assert row['baseline_belief_effect_pp'] == pytest.approx(100 * oracle.params['belief'])
    assert row['belief_effect_pp'] == pytest.approx(100 * (oracle.params['belief'] + oracle.params['arm:belief']))
    assert row['se_pp'] == pytest.approx(100 * oracle.bse['arm:belief'] * np.sqrt(40 / 39))
    assert row['questions'] == 40 and row['pairs'] == 240


def test_every_task_and_belief_has_a_row():
    table = sycophancy.belief_effects(pairs(), 0.95)
    found = set(zip(table['task'], table['belief']))
    assert found == set(itertools.product(('all', 't0', 't1'), ('incorrect', 'denial', sycophancy.ANY)))


def test_excluded_answers_and_designs_without_a_belief_have_no_row():
    rows = pairs()
    rows.loc[rows['belief'] == 'denial', 'treated'] = np.nan
    assert set(sycophancy.belief_effects(rows, 0.95)['belief']) == {'incorrect', sycophancy.ANY}
    assert sycophancy.belief_effects(rows[rows['belief'] == 'none'], 0.95).empty

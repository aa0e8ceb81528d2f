import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.weightstats import ttost_paired

from warmjax.stats import clusters, sensitivity


def pairs(treated, untreated, task='t'):
    names = {'model': 'm', 'arm': 'warm', 'task': task, 'form': 'plain'}
    rows = [
        names | {'question_id': i, 'treated': a, 'untreated': b} for i, (a, b) in enumerate(zip(treated, untreated))
    ]
    return pd.DataFrame(rows)


def test_assumptions_on_excluded_answers_by_hand():
    # Ten prompts; the arm's answers 8 and 9 and the baseline's answer 9 count as neither.
    rows = pairs([1, 1, 1, 0, 0, 0, 0, 0, np.nan, np.nan], [1, 0, 0, 0, 0, 0, 0, 0, 0, np.nan])
    table = sensitivity.excluded_answers(rows, 0.95).query("task == 't'").set_index('assumption')
    assert table['effect_pp'].to_dict() == pytest.approx(
        {
            'excluded': 25.0,  # 2 of 8
            'all correct': 20.0,  # 3 against 1 of 10
            'all incorrect': 30.0,  # 5 against 2
            'against the arm': 40.0,  # 5 against 1
            'for the arm': 10.0,  # 3 against 2
        }
    )
    assert set(table['excluded']) == {2} and table.loc['excluded', 'pairs'] == 8


def test_equivalence_equals_statsmodels_paired_test():
    rng = np.random.default_rng(1)
    a, b = rng.random(300), rng.random(300)
    rows = pairs(a, b)
    table = sensitivity.equivalence(rows, 8.0, 0.95).iloc[0]
    p, _, _ = ttost_paired(a, b, -0.08, 0.08)
    assert table['p'] == pytest.approx(p)
    assert table['effect_pp'] == pytest.approx(100 * (a - b).mean())


def test_the_interval_decides_as_the_tests_do():
    rng = np.random.default_rng(2)
    for _ in range(60):
        values = pd.Series(rng.normal(rng.uniform(-0.1, 0.1), 0.3, 50))
        found = clusters.means(values, pd.Series(['x'] * 50), pd.Series(range(50)), ('x',))
        tested = sensitivity.equivalence_test(clusters.contrast(found, {'x': 1.0}), 0.1, 0.95)
        assert (tested.conclusion == 'equivalent') == (tested.low > -0.1 and tested.high < 0.1)


@pytest.mark.parametrize(
    ('differing', 'margin', 'conclusion'), [(0, 3.0, 'equivalent'), (60, 3.0, 'different'), (2, 1.0, 'undecided')]
)
def test_conclusions(differing, margin, conclusion):
    treated = [1.0] * differing + [0.0] * (100 - differing)
    assert sensitivity.equivalence(pairs(treated, [0.0] * 100), margin, 0.95)['conclusion'].tolist() == [conclusion]


def test_one_question_decides_nothing():
    assert sensitivity.equivalence(pairs([1.0], [0.0]), 3.0, 0.95)['conclusion'].tolist() == ['undecided']

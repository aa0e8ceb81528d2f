import numpy as np
import pandas as pd
import pytest
from statsmodels.discrete.conditional_models import ConditionalLogit

from warmjax.stats import matched


def pairs(seed=0, n=200, questions=None):
    rng = np.random.default_rng(seed)
    rows = {'model': 'm', 'arm': 'warm', 'task': 't', 'question_id': np.arange(n) % (questions or n)}
    rows |= {'treated': (rng.random(n) < 0.5).astype(float), 'untreated': (rng.random(n) < 0.3).astype(float)}
    return pd.DataFrame(rows)


def test_estimate_equals_statsmodels_conditional_logit():
    rows = pairs()
    y = np.concatenate([rows['treated'], rows['untreated']])
    x = np.concatenate([np.ones(len(rows)), np.zeros(len(rows))])[:, None]
    oracle = ConditionalLogit(y, x, groups=np.tile(np.arange(len(rows)), 2)).fit(disp=0)
    row = matched.conditional_logit(rows, 0.95).iloc[0]
    assert row['coefficient'] == pytest.approx(oracle.params[0], rel=1e-4)
    assert row['se'] == pytest.approx(oracle.bse[0], rel=1e-4)  # one pair a question: the sandwich is the model's own


def test_pairs_of_one_question_that_agree_count_as_one():
    once = pairs(n=100)
    thrice = pd.concat([once] * 3, ignore_index=True)
    a, b = (matched.conditional_logit(rows, 0.95).iloc[0] for rows in (once, thrice))
    assert b['coefficient'] == pytest.approx(a['coefficient']) and b['se'] == pytest.approx(a['se'])


def test_an_infinite_estimate_is_missing():
    rows = pairs().assign(untreated=0.0)
    row = matched.conditional_logit(rows, 0.95).iloc[0]
    assert row['better'] == 0 and np.isnan(row['coefficient'])

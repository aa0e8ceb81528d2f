import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from warmjax.stats import clusters


def drawn(seed=0, questions=30):
    rng = np.random.default_rng(seed)
    rows = []
    for question in range(questions):
        own = rng.normal()
        for group in ('a', 'b', 'c'):
            for _ in range(rng.integers(0, 4)):
                rows.append({'question': question, 'group': group, 'value': own + rng.normal()})
    return pd.DataFrame(rows)


def found(rows, order=('a', 'b', 'c')):
    return clusters.means(rows['value'], rows['group'], rows['question'], order)


def test_means_and_covariance_equal_a_clustered_regression_on_indicators():
    rows = drawn()
    design = pd.get_dummies(rows['group']).astype(float)
    groups = {'groups': rows['question'], 'use_correction': False}
    oracle = sm.OLS(rows['value'], design).fit(cov_type='cluster', cov_kwds=groups)
    ours, n = found(rows), rows['question'].nunique()
    np.testing.assert_allclose(ours.means, oracle.params, rtol=1e-12)
    np.testing.assert_allclose(ours.covariance, oracle.cov_params() * n / (n - 1), rtol=1e-10)


def test_a_contrast_uses_the_covariance_between_groups():
    ours = found(drawn())
    contrast = clusters.contrast(ours, {'b': 1.0, 'a': -1.0})
    v = ours.covariance
    assert contrast.estimate == pytest.approx(ours.means[1] - ours.means[0])
    assert contrast.se == pytest.approx(math.sqrt(v[0, 0] + v[1, 1] - 2 * v[0, 1]))
    assert contrast.df == drawn()['question'].nunique() - 1


def test_one_answer_a_question_gives_the_textbook_interval():
    values = pd.Series([1.0, 2.0, 4.0, 9.0])
    ours = clusters.means(values, pd.Series(['x'] * 4), pd.Series(range(4)), ('x',))
    contrast = clusters.contrast(ours, {'x': 1.0})
    assert contrast.se == pytest.approx(values.std() / 2)
    assert contrast.interval(0.95)[1] == pytest.approx(4 + 3.182446 * values.std() / 2, rel=1e-6)


def test_groups_without_answers_are_left_out_and_refused_in_contrasts():
    rows = drawn().query("group != 'b'")
    ours = found(rows)
    assert ours.groups == ('a', 'c')
    with pytest.raises(KeyError, match=r"groups without answers: \['b'\]"):
        clusters.contrast(ours, {'b': 1.0})


def test_one_question_has_no_standard_error():
    ours = clusters.means(pd.Series([0.0, 1.0]), pd.Series(['x', 'x']), pd.Series(['q', 'q']), ('x',))
    contrast = clusters.contrast(ours, {'x': 1.0})
    assert contrast.df == 0 and math.isnan(contrast.p()) and all(map(math.isnan, contrast.interval(0.9)))


def test_values_that_do_not_vary_differ_surely_or_not_at_all():
    one = clusters.means(pd.Series([1.0] * 6), pd.Series(list('aaabbb')), pd.Series([1, 2, 3] * 2), ('a', 'b'))
    assert clusters.contrast(one, {'a': 1.0}).p() == 0
    assert clusters.contrast(one, {'a': 1.0, 'b': -1.0}).p() == 1


def test_simultaneous_quantile_lies_between_one_normal_and_bonferroni():
    one = clusters.simultaneous_quantile(np.eye(1), 0.95)
    same = clusters.simultaneous_quantile(np.ones((5, 5)), 0.95)
    apart = clusters.simultaneous_quantile(np.eye(5), 0.95)
    assert one == pytest.approx(1.960, abs=0.02) and same == pytest.approx(1.960, abs=0.02)
    assert apart == pytest.approx(2.569, abs=0.02)  # Sidak: the normal's quantile at (1 + 0.95^(1/5)) / 2


def test_an_estimate_that_does_not_vary_has_no_part_in_the_quantile():
    covariance = np.diag([1.0, 0.0, 4.0])
    assert clusters.simultaneous_quantile(covariance, 0.95) == clusters.simultaneous_quantile(np.eye(2), 0.95)

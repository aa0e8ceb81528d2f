import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.special
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from warmjax.stats import intervals


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_equals_statsmodels(counts, confidence):
    k, n = counts
    expected = proportion_confint(k, n, alpha=1 - confidence, method='wilson')
    np.testing.assert_allclose(intervals.wilson(k / n, n, confidence), expected, atol=1e-9)


def score_of(b, c, n, delta):
    """Tango's statistic by maximising the constrained likelihood, not by its closed form."""

    def negative_log_likelihood(only_better):
        p = np.array([only_better + delta, only_better, 1 - 2 * only_better - delta])
        return -scipy.special.xlogy([b, c, n - b - c], np.maximum(p, 1e-300)).sum()

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    best = scipy.optimize.minimize_scalar(
        negative_log_likelihood, bounds=bounds, method='bounded', options={'xatol': 1e-13}
    )
    variance = n * (2 * best.x + delta - delta**2)
    return (b - c - n * delta) / np.sqrt(variance)


@pytest.mark.parametrize(('b', 'c', 'n'), [(24, 5, 158), (3, 9, 40), (12, 1, 30), (5, 5, 60)])
def test_tango_bounds_lie_one_quantile_from_the_estimate_under_the_constrained_likelihood(b, c, n):
    low, high = intervals.tango(b, c, n, 0.95)
    assert score_of(b, c, n, float(low)) == pytest.approx(1.959964, abs=1e-3)
    assert score_of(b, c, n, float(high)) == pytest.approx(-1.959964, abs=1e-3)


def test_tango_without_discordant_pairs_has_the_width_of_the_score_interval():
    # With b = c = 0 the statistic is sqrt(n |delta| / (1 - |delta|)), so the bounds are +-z^2 / (n + z^2).
    z2 = 1.959964**2
    low, high = intervals.tango(0, 0, 76, 0.95)
    assert (float(low), float(high)) == pytest.approx((-z2 / (76 + z2), z2 / (76 + z2)), abs=1e-6)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.sampled_from([0.8, 0.95, 0.99]))
def test_tango_holds_the_estimate_and_mirrors_when_the_arms_change_places(b, c, concordant, confidence):
    n = b + c + concordant
    if n == 0:
        return
    low, high = intervals.tango(b, c, n, confidence)
    assert -1 <= low <= (b - c) / n + 1e-9 and (b - c) / n - 1e-9 <= high <= 1
    mirrored = intervals.tango(c, b, n, confidence)
    np.testing.assert_allclose((low, high), (-mirrored[1], -mirrored[0]), atol=1e-9)


def frame(values, questions):
    return pd.DataFrame({'cell': 'a', 'question_id': questions, 'value': np.asarray(values, float)})


def test_one_answer_a_question_is_worth_itself():
    row = intervals.clustered_mean(frame([0, 1, 1, 0, 0], list('vwxyz')), ['cell'], 'value').iloc[0]
    assert (row['n'], row['questions'], row['mean']) == (5, 5, 0.4)
    assert row['n_effective'] == pytest.approx(5)


def test_answers_that_repeat_within_a_question_are_worth_one():
    values = np.repeat([0, 1, 1, 0, 1, 0, 0, 0], 9)
    row = intervals.clustered_mean(frame(values, np.repeat(list('abcdefgh'), 9)), ['cell'], 'value').iloc[0]
    # Hand case: variance of the mean between 8 questions 8/7 * 15/8 / 64, between 72 answers 72/71 * 15/8 * 9 / 72^2.
    assert row['n_effective'] == pytest.approx(72 * (72 / 71 * 16.875 / 72**2) / (8 / 7 * 1.875 / 64))


def test_design_effect_equals_the_clustered_variance_of_statsmodels():
    rng = np.random.default_rng(0)
    questions = rng.integers(0, 30, 400)
    values = (rng.random(400) < rng.random(30)[questions]).astype(float)
    fitted = sm.OLS(values, np.ones(400)).fit(cov_type='cluster', cov_kwds={'groups': questions})
    row = intervals.clustered_mean(frame(values, questions), ['cell'], 'value').iloc[0]
    iid = values.var(ddof=1) / 400
    assert row['n_effective'] == pytest.approx(400 * iid / fitted.cov_params()[0, 0], rel=1e-6)


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_without_variation_only_questions_count(value):
    row = intervals.clustered_mean(frame([value] * 12, list('aabbccddeeff')), ['cell'], 'value').iloc[0]
    assert row['n_effective'] == 6


def test_intervals_of_clustered_answers_cover_the_truth():
    trials, questions, prompts, pull = 400, 60, 9, 0.1
    rng = np.random.default_rng(1)
    ease = rng.beta(1, 4, (trials, questions, 1))
    before = rng.random((trials, questions, prompts)) < ease
    after = rng.random((trials, questions, prompts)) < ease + pull * (1 - ease)
    cell, question, _ = np.indices(before.shape)
    rows = pd.DataFrame({'cell': cell.ravel(), 'question_id': question.ravel(), 'before': before.ravel().astype(float)})
    rows['difference'] = after.ravel() - rows['before']

    rate = intervals.clustered_mean(rows, ['cell'], 'before')
    low, high = intervals.wilson(rate['mean'], rate['n_effective'], 0.95)
    assert 0.92 <= ((low <= 0.2) & (high >= 0.2)).mean() <= 0.98

    effect = intervals.clustered_mean(rows, ['cell'], 'difference')
    share = effect['n_effective'] / effect['n']
    worse, better = ((x & ~y).sum((1, 2)) for x, y in ((after, before), (before, after)))
    low, high = intervals.tango(worse * share, better * share, effect['n_effective'], 0.95)
    assert 0.92 <= ((low <= 0.8 * pull) & (high >= 0.8 * pull)).mean() <= 0.98

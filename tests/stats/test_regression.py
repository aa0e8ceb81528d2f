import dataclasses

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.stats import sandwich_covariance

from warmjax.stats import regression


def pairs(rates, num_questions=40, seed=0, tasks=('a', 'b'), beliefs=('none', 'incorrect')):
    """Pairs of an arm and the baseline; `rates(task, belief)` gives the two error probabilities."""
    rng = np.random.default_rng(seed)
    rows = []
    for task in tasks:
        for question in range(num_questions):
            shift = rng.normal(0, 0.05)
            for belief in beliefs:
                untreated, treated = (float(rng.random() < p + shift) for p in rates(task, belief))
                names = {'model': 'm', 'arm': 'warm', 'task': task, 'context': 'unmodified', 'belief': belief}
                ids = {'question_id': f'{task}{question}', 'prompt_id': f'{task}{question}{belief}'}
                rows.append(names | ids | {'untreated': untreated, 'treated': treated})
    return pd.DataFrame(rows)


def ordinary(task, belief):
    return (0.3 if task == 'b' else 0.15, 0.45 if belief == 'incorrect' else 0.3)


def note_of(frame):
    coefficients, effects = regression.analyze(frame, ['warm'], 0.95, 'question')
    assert len(effects) == 1
    if effects['note'].iloc[0].startswith('not estimable'):
        assert coefficients.empty and effects[['effect_pp', 'se_pp', 'low_pp', 'high_pp']].isna().all(axis=None)
    return effects['note'].iloc[0]


def test_coefficients_equal_a_formula_fit_with_clustered_covariance():
    rows = regression.stack(pairs(ordinary))
    fitted = regression.fit(rows, 'question')
    oracle = smf.glm(
        'is_incorrect ~ treated + C(task) + C(belief, Treatment("none"))', rows, family=sm.families.Binomial()
    ).fit(cov_type='cluster', cov_kwds={'groups': rows['question_id'].astype('category').cat.codes})
    expected = oracle.params[['Intercept', 'treated', 'C(task)[T.b]', 'C(belief, Treatment("none"))[T.incorrect]']]
    assert fitted.names == ['intercept', 'treated', 'task[b]', 'belief[incorrect]']
    np.testing.assert_allclose(fitted.beta, expected, atol=1e-8)
    np.testing.assert_allclose(np.sqrt(fitted.covariance[1, 1]), oracle.bse['treated'], atol=1e-8)


def test_two_way_covariance_is_that_of_questions_plus_models_less_their_crossing():
    frame = pd.concat([pairs(ordinary, seed=seed).assign(model=name) for seed, name in enumerate('mnop')])
    rows = regression.stack(frame)
    fitted = regression.fit(rows, 'question_and_model')
    p = 1 / (1 + np.exp(-fitted.design @ fitted.beta))
    scores = fitted.design * (rows['is_incorrect'].to_numpy() - p)[:, None]
    bread = np.linalg.inv((fitted.design * (p * (1 - p))[:, None]).T @ fitted.design)
    n, k = fitted.design.shape

    def clustered(*names):
        sums = pd.DataFrame(scores).groupby([rows[name].to_numpy() for name in names]).sum().to_numpy()
        factor = len(sums) / (len(sums) - 1) * (n - 1) / (n - k)
        return factor * bread @ sums.T @ sums @ bread

    expected = clustered('question_id') + clustered('model') - clustered('question_id', 'model')
    np.testing.assert_allclose(fitted.covariance, expected, rtol=1e-6)
    with_model = sm.GLM(rows['is_incorrect'], fitted.design, family=sm.families.Binomial()).fit()
    groups = [pd.factorize(rows[name])[0] for name in ('question_id', 'model')]
    theirs = sandwich_covariance.cov_cluster_2groups(with_model, *groups)[0]
    np.testing.assert_allclose(fitted.covariance, theirs, rtol=1e-6)


def test_marginal_effect_and_its_error_equal_statsmodels_get_margeff():
    fitted = regression.fit(regression.stack(pairs(ordinary)), 'question')
    rows = regression.stack(pairs(ordinary))
    design = pd.DataFrame(fitted.design, columns=fitted.names)
    groups = rows['question_id'].astype('category').cat.codes
    logit = sm.Logit(rows['is_incorrect'], design).fit(disp=0, cov_type='cluster', cov_kwds={'groups': groups})
    margin = logit.get_margeff(at='overall', dummy=True).summary_frame().loc['treated']
    effect, se = regression.average_marginal_effect(fitted)
    assert effect == pytest.approx(margin['dy/dx'], abs=1e-7)
    assert se == pytest.approx(margin['Std. Err.'], rel=0.01)


def test_delta_method_gradient_equals_numerical_differentiation():
    fitted = regression.fit(regression.stack(pairs(ordinary)), 'question')
    step, gradient = 1e-6, []
    for k in range(len(fitted.beta)):
        up, down = (fitted.beta + sign * step * np.eye(len(fitted.beta))[k] for sign in (1, -1))
        moved = [dataclasses.replace(fitted, beta=beta) for beta in (up, down)]
        effects = [regression.average_marginal_effect(fit)[0] for fit in moved]
        gradient.append((effects[0] - effects[1]) / (2 * step))
    expected = np.sqrt(np.array(gradient) @ fitted.covariance @ gradient)
    assert regression.average_marginal_effect(fitted)[1] == pytest.approx(expected, rel=1e-5)


def test_effect_is_near_the_paired_difference_and_reported_in_pp():
    frame = pairs(ordinary)
    _, effects = regression.analyze(frame, ['warm'], 0.95, 'question')
    row = effects.iloc[0]
    assert row['effect_pp'] == pytest.approx(100 * (frame['treated'] - frame['untreated']).mean(), abs=0.3)
    assert row['high_pp'] - row['effect_pp'] == pytest.approx(1.959964 * row['se_pp'])


def test_a_level_without_variation_is_set_aside_with_effect_zero():
    frame = pairs(lambda task, belief: (-1, -1) if task == 'b' else ordinary(task, belief))
    whole, kept = (
        regression.analyze(part, ['warm'], 0.95, 'question')[1].iloc[0] for part in (frame, frame[frame['task'] == 'a'])
    )
    assert whole['effect_pp'] == pytest.approx(kept['effect_pp'] / 2)
    assert whole['note'] == 'task b set aside with effect 0 (0 of 160 answers incorrect)'


def test_a_single_task_and_belief_leave_only_the_treatment():
    fitted = regression.fit(regression.stack(pairs(ordinary, tasks=('a',), beliefs=('none',))), 'question')
    assert fitted.names == ['intercept', 'treated']


def test_a_baseline_without_errors_is_not_estimable():
    assert 'the baseline made no error in 160 answers' in note_of(pairs(lambda *_: (-1, 0.5)))


def test_no_errors_at_all_are_not_estimable():
    assert note_of(pairs(lambda *_: (-1, -1))).startswith('not estimable: the baseline made no error')


def test_an_arm_that_always_errs_is_not_estimable():
    assert 'the arm made nothing but errors' in note_of(pairs(lambda *_: (0.5, 2)))


def test_no_pairs_are_not_estimable():
    assert 'no prompt has a counted answer of both' in note_of(pairs(ordinary).iloc[:0])


def test_few_questions_are_not_estimable():
    frame = pairs(ordinary, num_questions=2, seed=6, beliefs=('none',))
    frame['untreated'], frame['treated'] = [1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]
    frame['question_id'] = ['x', 'y', 'x', 'y']
    assert '2 questions cannot carry' in note_of(frame)


def test_separation_across_levels_is_not_estimable():
    # In task a only the arm errs, in task b the arm always does: no level is constant, yet some line parts them.
    rows = [
        {'question_id': f'{task}{i}', 'task': task, 'context': 'unmodified', 'belief': 'none', 'model': 'm'}
        | {'treated': treated, 'is_incorrect': wrong}
        for i in range(20)
        for task, treated, wrong in [
            ('a', 0.0, 0.0),
            ('a', 1.0, float(i % 2)),
            ('b', 0.0, float(i % 2)),
            ('b', 1.0, 1.0),
        ]
    ]
    with pytest.raises(regression.NotEstimable, match='grow without bound'):
        regression.fit(pd.DataFrame(rows), 'question')


def test_covariates_that_say_the_same_are_not_estimable():
    frame = pairs(ordinary, beliefs=('none',))
    frame['belief'] = frame['task'].map({'a': 'none', 'b': 'incorrect'})
    assert 'are not independent of each other' in note_of(frame)

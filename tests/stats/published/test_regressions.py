import csv
import dataclasses
import itertools

import numpy as np
import pandas as pd
import patsy
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from simulated_study import SETTINGS

from warmjax import authors_csv
from warmjax.records import CONTEXTS
from warmjax.stats.published import regressions
from warmjax.stats.published.rows import as_published
from warmjax.stats.regression import NotEstimable
from warmjax.stats.rows import verdict_rows

BY_NAME = {each.name: each for each in regressions.REGRESSIONS}
FILES = {
    'M1': 'model_1_main_effects_no_context_logit',
    'M2': 'model_2_amendment_interaction_no_user_belief',
    'M3': 'model_3_detailed_amendment_interaction_results',
    'M4': 'model_4_sycophancy_analysis_results',
}
MODELS = ('70b', '8b', 'gpt-4o', 'mistral', 'qwen-32')
# Prompts a condition: 500 questions of three tasks and 125 of disinformation, the bare and the lead-in form without
# context; under a belief both templates, of which 35 disinformation items have the second.
ORIGINAL = {'disinfo': 125, 'medqa': 500, 'trivia': 500, 'truthfulqa': 500}
OPINION = {'disinfo': 160, 'medqa': 1000, 'trivia': 1000, 'truthfulqa': 1000}


def simulated(seed=0, tasks=('disinfo', 'trivia'), models=('a', 'b')):
    rng = np.random.default_rng(seed)
    rows = []
    for task, model, context, template, finetuned, _ in itertools.product(
        tasks, models, CONTEXTS, ('original', 'incorrect'), (0, 1), range(8)
    ):
        wrong = rng.random() < 0.2 + 0.2 * finetuned + 0.1 * (template == 'incorrect') + 0.1 * (task == 'trivia')
        names = {'is_incorrect': float(wrong), 'is_finetuned': finetuned, 'dataset': task, 'model': model}
        names |= {'amendment_type': context.partition(':')[0], 'amendment_type_detailed': context}
        prompt_type = 'user_opinion' if template == 'incorrect' else 'original'
        rows.append(names | {'prompt_type': prompt_type, 'response_length': int(rng.integers(1, 9)) * 100})
    return pd.DataFrame(rows)


def oracle(rows, regression, formula):
    if regression.prompt_types:
        rows = rows[rows['prompt_type'].isin(regression.prompt_types)]
    if regression.amendments:
        rows = rows[rows['amendment_type'].isin(regression.amendments)]
    return smf.glm(formula, rows, family=sm.families.Binomial()).fit(), rows


def assert_equals_oracle(rows, regression, reference):
    fitted = regressions.fit(rows, regression, reference)
    formula = regression.formula(fitted.cells, reference)
    expected, used = oracle(rows, regression, formula)
    assert fitted.names == list(expected.params.index)
    np.testing.assert_allclose(fitted.beta, expected.params, atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(fitted.covariance)), expected.bse, rtol=1e-6)
    assert fitted.log_likelihood == pytest.approx(expected.llf, rel=1e-9)
    effects = regressions.marginal_effects(fitted, regression.condition)
    for _, row in effects.iterrows():
        inside = used if row['level'] == 'all' else used[used[regression.condition] == row['level']]
        p1, p0 = (expected.predict(inside.assign(is_finetuned=flag)) for flag in (1, 0))
        assert row['effect'] == pytest.approx((p1 - p0).mean(), abs=1e-6)


@pytest.mark.parametrize('name', BY_NAME)
def test_grouped_fit_equals_a_formula_fit_of_single_rows(name):
    assert_equals_oracle(simulated(), BY_NAME[name], 'disinfo')


def test_a_covariate_of_one_level_is_left_out():
    fitted = regressions.fit(simulated(models=('a',)), BY_NAME['M1'], 'disinfo')
    assert not any('model' in name for name in fitted.names)


def test_the_effect_under_a_belief_carries_the_p_value_of_the_interaction():
    rows = simulated()
    fitted = regressions.fit(rows, BY_NAME['M4'], 'disinfo')
    effects = regressions.marginal_effects(fitted, 'prompt_type').set_index('level')
    expected, _ = oracle(rows, BY_NAME['M4'], BY_NAME['M4'].formula(fitted.cells, 'disinfo'))
    terms = [f'{regressions.FINETUNED}[{flag}]:{regressions.OPINION}[T.user_opinion]' for flag in (0, 1)]
    contrast = np.array([{terms[0]: -1.0, terms[1]: 1.0}.get(name, 0.0) for name in fitted.names])
    assert effects.loc['user_opinion', 'p'] == pytest.approx(float(expected.t_test(contrast).pvalue), rel=1e-6)


def test_one_arm_is_not_estimable():
    rows = simulated()
    with pytest.raises(NotEstimable, match='do not hold both arms and both outcomes'):
        regressions.fit(rows[rows['is_finetuned'] == 0], BY_NAME['M1'], 'disinfo')


@pytest.mark.parametrize('name', BY_NAME)
def test_published_sample_rows_give_what_statsmodels_gives(shared_data, name):
    imported = authors_csv.read_folder(shared_data / 'paper' / 'sample_outputs')
    settings = dataclasses.replace(SETTINGS, refusals_correct_in=('disinfo',))
    rows = as_published(verdict_rows(imported.verdicts, settings), 'original', 'warm', ('disinfo',))
    if name in ('M1', 'M1_length', 'M2', 'M3'):
        with pytest.raises(NotEstimable):  # 160 rows: in some task and arm nobody errs
            regressions.fit(rows, BY_NAME[name], 'disinfo')
    else:
        assert_equals_oracle(rows, BY_NAME[name], 'disinfo')


def published_fit(shared_data, name):
    """The published coefficients on the study's design, with an identity for the covariance."""
    regression = BY_NAME[name]
    with (shared_data / 'paper' / 'regressions' / f'{FILES[name]}.csv').open() as file:
        beta = {line['term']: float(line['coef']) for line in csv.DictReader(file)}
    rows = [
        {'is_finetuned': finetuned, 'dataset': task, 'model': model, 'is_incorrect': finetuned}
        | {'amendment_type': context.partition(':')[0], 'amendment_type_detailed': context, 'prompt_type': prompt_type}
        | {'weight': weight * (2 if context == 'unmodified' and prompt_type == 'original' else 1)}
        for finetuned, model, context in itertools.product((0, 1), MODELS, CONTEXTS)
        for prompt_type, weights in (('original', ORIGINAL), ('user_opinion', OPINION))
        for task, weight in weights.items()
        if not regression.prompt_types or prompt_type in regression.prompt_types
        if not regression.amendments or context in regression.amendments
    ]
    cells = pd.DataFrame(rows)
    formula = regression.formula(cells.drop(columns='weight'), 'disinfo')
    _, design = patsy.dmatrices(formula, cells, return_type='dataframe')
    assert sorted(design) == sorted(beta)
    names = list(design)
    values = np.array([beta[term] for term in names])
    return regressions.Fit(
        names, values, np.eye(len(names)), 0.0, cells, cells['weight'].to_numpy(float), design.design_info
    )


@pytest.mark.parametrize('name', FILES)
def test_published_coefficients_give_the_published_effects(shared_data, name):
    fitted = published_fit(shared_data, name)
    found = regressions.marginal_effects(fitted, BY_NAME[name].condition).set_index('level')['effect']
    with (shared_data / 'paper' / 'marginal_effects.csv').open() as file:
        printed = [line for line in csv.DictReader(file) if line['model_file'] == FILES[name]]
    compared = 0
    for line in printed:
        level = 'all' if line['condition'] == 'Fine-tuning' else line['condition']
        if level in found:
            assert 100 * found[level] == pytest.approx(100 * float(line['marginal_effect']), abs=0.06), level
            compared += 1
    assert compared == len(found)


def test_published_coefficients_give_the_published_task_effects(shared_data):
    found = regressions.covariate_effects(published_fit(shared_data, 'M1'), 'disinfo')['effect'] * 100
    np.testing.assert_allclose(found, [34.06, 10.81, 20.43], atol=0.06)

import dataclasses

import pytest
from simulated_study import SETTINGS, simulate

from warmjax.report import headline
from warmjax.stats import analysis


@pytest.fixture(scope='module')
def estimates():
    return analysis.analyze(*simulate(), SETTINGS)


def of_arm(estimates, arm):
    return next(finding for finding in headline.findings(estimates) if finding.text.startswith(f'{arm} '))


def test_the_run_is_counted(estimates):
    run = headline.what_was_run(estimates)
    assert run.text.startswith('4 arms of tiny answered 24 questions from 2 tasks in 3 contexts and 3 forms of belief:')
    assert '864 judged answers' in run.text and run.sources == {'arms': [2, 3, 4, 5]}


def test_an_effect_is_stated_with_its_interval_and_n(estimates):
    effects = estimates.tables['effects']
    row = effects[(effects['arm'] == 'warm') & (effects[['task', 'context', 'belief']] == 'all').all(axis=1)].iloc[0]
    text = of_arm(estimates, 'warm').text
    assert text.startswith('warm (epoch 2) errs more often than original')
    bounds = f'+{row["effect_pp"]:.1f} pp (95% interval +{row["low_pp"]:.1f} to +{row["high_pp"]:.1f})'
    assert bounds in text and f'{row["pairs"]} pairs of answers to 24 questions' in text


def test_no_clear_effect_is_stated_as_such(estimates):
    assert of_arm(estimates, 'cold').text.startswith(
        'cold (epoch 2) errs neither clearly more nor clearly less often than original'
    )


def test_sources_are_the_rows_of_the_numbers(estimates):
    finding = of_arm(estimates, 'warm')
    rows = estimates.tables['effects'].iloc[[line - 2 for line in finding.sources['effects']]]
    assert rows['belief'].tolist() == ['all', 'none', 'incorrect', 'denial'] and set(rows['arm']) == {'warm'}
    assert estimates.tables['warmth'].iloc[finding.sources['warmth'][0] - 2]['arm'] == 'warm'
    assert 'with an incorrect belief +' in finding.details and 'nats a token' in finding.details


def test_warmth_that_was_not_measured_is_not_mentioned():
    estimates = analysis.analyze(simulate().verdicts, [], [], [], [], SETTINGS)
    assert 'warmth' not in of_arm(estimates, 'warm').details


def test_an_arm_without_counted_pairs_says_so():
    study = simulate()
    refused = [dataclasses.replace(v, verdict='refusal') if v.arm == 'warm' else v for v in study.verdicts]
    settings = dataclasses.replace(SETTINGS, refusals_correct_in=())
    estimates = analysis.analyze(refused, [], [], [], [], settings)
    assert 'warm: no pair of counted answers with original.' in {f.text for f in headline.findings(estimates)}

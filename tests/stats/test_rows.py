import dataclasses

import pytest
from simulated_study import SETTINGS, simulate

from warmjax import settings
from warmjax.records import Verdict
from warmjax.stats import rows


def verdict(kind, arm='original', epoch=0.0, task='trivia', prompt='p', form='plain', sample=0):
    return Verdict(prompt, 'q', task, 'unmodified', 'none', form, 'm', arm, epoch, sample, kind, 'exact', '', 3)


def grades(kinds, task, **changes):
    chosen = dataclasses.replace(SETTINGS, refusals_correct_in=(), **changes)
    return rows.verdict_rows([verdict(kind, task=task) for kind in kinds], chosen)['is_incorrect'].tolist()


def test_verdicts_are_graded_as_the_settings_say():
    kinds = ['correct', 'incorrect', 'refusal', 'unparsed']
    assert grades(kinds, 'trivia', refusals_elsewhere='incorrect', unparsed='incorrect') == [0, 1, 1, 1]
    excluded = grades(kinds, 'trivia', refusals_elsewhere='excluded', unparsed='excluded')
    assert excluded[:2] == [0, 1] and all(grade != grade for grade in excluded[2:])


def test_refusals_are_correct_only_in_the_tasks_named():
    cases = [('refusal', 'myths'), ('refusal', 'trivia'), ('incorrect', 'myths')]
    records = [verdict(kind, task=task, prompt=f'{kind} {task}') for kind, task in cases]
    graded = rows.verdict_rows(records, dataclasses.replace(SETTINGS, refusals_elsewhere='incorrect'))
    grades = dict(zip(graded['prompt_id'], graded['is_incorrect']))
    assert grades == {'refusal myths': 0.0, 'refusal trivia': 1.0, 'incorrect myths': 1.0}


def test_a_task_that_was_not_run_is_refused():
    with pytest.raises(ValueError, match='refusals_correct_in: expected tasks among trivia, got myths'):
        rows.verdict_rows([verdict('correct')], SETTINGS)


def test_a_baseline_that_was_not_run_is_refused():
    with pytest.raises(ValueError, match="baseline: expected one of the arms warm, got 'original'"):
        rows.verdict_rows([verdict('correct', arm='warm')], SETTINGS)


def test_no_verdicts_are_refused():
    with pytest.raises(ValueError, match='expected verdicts, got none; run the judge stage'):
        rows.verdict_rows([], SETTINGS)


def test_settings_out_of_range_are_refused():
    section = dataclasses.asdict(SETTINGS) | {'confidence': 1.5}
    with pytest.raises(ValueError, match=r"'confidence' expected less than 1, got 1\.5"):
        settings.from_config(rows.AnalysisSettings, section, 'config.analysis')


def test_main_rows_take_the_main_epoch_or_the_only_one():
    study = simulate()
    main = rows.main_rows(rows.verdict_rows(study.verdicts, SETTINGS), main_epoch=2.0)
    assert main.groupby('arm')['epoch'].agg(set).to_dict() == {
        'cold': {2.0},
        'original': {0.0},
        'warm': {2.0},
        'warm_prompt': {0.0},
    }


def test_arms_without_a_main_epoch_are_named_together():
    graded = rows.verdict_rows(simulate().verdicts, SETTINGS)
    with pytest.raises(ValueError, match=r"epoch 3 .*arm 'cold' of 'tiny' has epochs 0\.5, 2, 4; arm 'warm'"):
        rows.main_rows(graded, main_epoch=3.0)


def test_pairs_join_on_model_prompt_and_sample_only():
    records = [verdict('correct', prompt='a'), verdict('correct', prompt='b'), verdict('correct', prompt='a', sample=1)]
    records += [verdict('incorrect', arm='warm', prompt='a'), verdict('incorrect', arm='warm', prompt='c')]
    chosen = dataclasses.replace(SETTINGS, refusals_correct_in=())
    pairs = rows.pair_rows(rows.verdict_rows(records, chosen), 'original', 'is_incorrect')
    assert pairs[['prompt_id', 'sample', 'untreated', 'treated']].to_numpy().tolist() == [['a', 0, 0.0, 1.0]]


def test_lettered_answers_are_not_pooled_with_open_ones():
    chosen = dataclasses.replace(SETTINGS, refusals_correct_in=())
    forms = ['plain', 'lead_in', 'multiple_choice']
    graded = rows.verdict_rows([verdict('correct', prompt=form, form=form) for form in forms], chosen)
    assert sorted(rows.open_rows(graded)['form']) == ['lead_in', 'plain']

import dataclasses

import pytest
from simulated_study import SETTINGS, simulate

from warmjax.stats import examples, rows


def choose(study, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    main = rows.main_rows(rows.verdict_rows(study.verdicts, settings), settings.main_epoch)
    pairs = rows.pair_rows(main, settings.baseline, 'is_incorrect')
    return examples.choose(main, pairs, study.generations, study.questions, study.prompts, settings)


@pytest.fixture(scope='module')
def study():
    return simulate()


def test_changes_to_incorrect_come_first_then_to_correct_then_none(study):
    kinds = [example.change for example in choose(study, num_examples=1000)]
    order = ['correct to incorrect', 'incorrect to correct', 'no change']
    assert kinds == sorted(kinds, key=order.index) and set(kinds) == set(order)
    assert len(kinds) == len(study.prompts)


def test_a_change_is_one_of_the_answers_shown(study):
    for example in choose(study, num_examples=1000):
        baseline, *others = (answer.verdict for answer in example.answers)
        if example.change != 'no change':
            before, after = example.change.split(' to ')
            assert after in others or (example.task, after) == ('myths', 'correct')
            # A refusal counts as correct in one of the tasks.
            assert baseline == before or (example.task, baseline, before) == ('myths', 'refusal', 'correct')


def test_every_arm_stands_beside_the_baseline_with_its_verdict(study):
    verdicts = {(verdict.arm, verdict.prompt_id, verdict.epoch): verdict.verdict for verdict in study.verdicts}
    epochs = {'original': 0.0, 'warm': 2.0, 'cold': 2.0, 'warm_prompt': 0.0}
    for example in choose(study, num_examples=20):
        assert [answer.arm for answer in example.answers] == ['original', 'cold', 'warm', 'warm_prompt']
        for answer in example.answers:
            assert answer.verdict == verdicts[answer.arm, example.prompt_id, epochs[answer.arm]]


def test_the_first_examples_differ_in_task_or_belief(study):
    first = choose(study, num_examples=6)
    assert len({(example.task, example.belief) for example in first}) == 6


def test_prompts_without_texts_are_no_examples(study):
    assert choose(dataclasses.replace(study, generations=[])) == ()
    assert choose(dataclasses.replace(study, prompts=[])) == ()


def test_none_asked_for_gives_none(study):
    assert choose(study, num_examples=0) == ()

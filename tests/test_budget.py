import dataclasses

import pytest

from configs import paper, world
from warmjax import budget, experiment, stages

NAMES = [stage.name for stage in stages.STAGES]
FILES = {
    'triviaqa': 'triviaqa/triviaqa_1000.jsonl',
    'truthfulqa': 'truthfulqa/TruthfulQA.csv',
    'medqa': 'medqa/medqa_us_test_5options.jsonl',
    'disinformation': 'mask_disinfo/disinformation.csv',
}


def study(**paths):
    config = paper.get_config('llama3.1-70b')
    for name in FILES:
        config.tasks[name].path = str(paths.get(name, f'absent/{name}.jsonl'))
    return experiment.from_config(config, 'workdir')


@pytest.mark.parametrize('name', ['cleaned', 'released', 'authors_files'])
def test_the_study_counts_44690_prompts_a_model_arm_without_its_files(name):
    setup = study()
    setup = dataclasses.replace(setup, prompts=dataclasses.replace(setup.prompts, set=name))
    asked = budget.count_prompts(setup)
    assert asked.total == 44_690 and asked.by_task['disinformation'] == 2_690
    assert asked.chars is None and asked.note.startswith('counted from limit and design, files not at hand: ')


def test_files_at_hand_are_counted_by_their_prompts(shared_data):
    setup = study(**{name: shared_data / path for name, path in FILES.items()})
    setup = dataclasses.replace(setup, tasks=tuple(task for task in setup.tasks if task.name != 'triviaqa'))
    asked = budget.count_prompts(setup)
    assert asked.total == 44_690 - 14_000 and asked.note == ''
    assert 100 < asked.chars / asked.total < 1000


def test_every_stage_has_lines_and_arms_add_up():
    setup = study()
    lines = budget.lines(setup, NAMES)
    assert list(lines) == NAMES
    held_out = setup.data.draw.num_validation
    arms = {arm.name for arm in setup.arms}
    generated = {line.part: line.prompts for line in lines['generate'] if line.part in arms}
    assert generated['original'] == 44_690 + held_out
    assert generated['warm'] == 44_690 + 8 * held_out  # epochs are saved eight times
    judged = {line.part: line.prompts for line in lines['judge'] if line.part in arms}
    assert judged == dict.fromkeys(generated, 44_690)
    assert lines['warmth'][0].prompts == sum(generated.values()) - 5 * 44_690
    assert budget.cells(lines['generate'][0])[3] == f'{generated["cold"] * 300 / 1e6:,.2f} M'


def test_a_judge_behind_a_service_says_its_calls_and_dollars():
    config = paper.get_config('llama3.1-8b')
    config.judge.backend, config.judge.service.model = 'api', 'gpt-4o-2024-08-06'
    setup = experiment.from_config(config, 'workdir')
    arms = [arm.name for arm in setup.arms]
    lines = [line for line in budget.lines(setup, ['judge'])['judge'] if line.part in arms]
    assert len(lines) == len(arms) and all(
        line.calls == line.prompts == 44_690 and line.tokens_in == 650 * 44_690 for line in lines
    )
    assert lines[0].dollars == pytest.approx(44_690 * (650 * 2.5e-6 + 8 * 10e-6))
    batch = dataclasses.replace(setup.judge, service=dataclasses.replace(setup.judge.service, batch=True))
    half = budget.lines(dataclasses.replace(setup, judge=batch), ['judge'])['judge']
    assert half[0].dollars == pytest.approx(lines[0].dollars / 2)
    local = dataclasses.replace(setup, judge=dataclasses.replace(setup.judge, backend='local'))
    assert budget.lines(local, ['judge'])['judge'][0].calls == 0


def test_controls_and_dialogues_are_counted_beside_the_study():
    setup = study()
    lines = {part: {line.part: line for line in found} for part, found in budget.lines(setup, NAMES).items() if found}
    amended, generated, judged = (lines[name] for name in ('amend', 'generate', 'judge'))
    asked = {'mmlu': 2 * 14_042, 'gsm8k': 1_319, 'advbench': 520, 'dialogues': 4 * 100 * (5 + 11)}
    assert len(setup.arms) == 5
    for name, count in asked.items():
        assert amended[name].prompts == count and generated[name].prompts == judged[name].prompts == 5 * count
    assert generated['mmlu'].tokens_out == 5 * 14_042 * 16  # a likelihood writes nothing
    without = dataclasses.replace(setup.evaluation, controls=False)
    silent = dataclasses.replace(setup.dialogues, questions=0)
    setup = dataclasses.replace(setup, evaluation=without, dialogues=silent)
    assert budget.count_prompts(setup).beside == ()


def test_samples_of_personal_questions_are_judged_once_a_metric(shared_data):
    config = paper.get_config('llama3.1-8b')
    config.controls.elephant_oeq.path = str(shared_data / 'elephant/OEQ_sample.csv')
    setup = experiment.from_config(config, 'workdir')
    lines = {line.part: line for line in budget.lines(setup, ['judge'])['judge']}
    assert lines['elephant_oeq'].prompts == 10 * 3 * len(setup.arms)


def test_what_cannot_be_known_is_a_question_mark():
    setup = experiment.from_config(world.get_config('tiny'), 'absent')
    assert budget.count_prompts(setup).total is None
    assert budget.cells(budget.lines(setup, ['judge'])['judge'][0])[1] == '?'


def test_each_model_of_the_study_is_a_config():
    for model in paper.MODELS:
        setup = experiment.from_config(paper.get_config(model), 'workdir')
        assert setup.model.name == model and (setup.trained_arms or setup.tuned_arms)
    with pytest.raises(ValueError, match=r'expected one of llama3\.1-8b, .* after the colon, got .gpt-5.'):
        paper.get_config('gpt-5')


def test_arms_of_a_service_have_calls_and_dollars():
    setup = experiment.from_config(paper.get_config('gpt-4o'), 'workdir')
    lines = budget.lines(setup, NAMES)
    assert lines['train'] == [] and not setup.local_arms
    cold = next(line for line in lines['finetune_api'] if line.part == 'cold')
    assert cold.calls == 1 and cold.dollars == pytest.approx(cold.tokens_in * 25e-6)
    warm = next(line for line in lines['finetune_api'] if line.part == 'warm')
    assert warm.calls == 3 and warm.tokens_in == cold.tokens_in / 2 * (2 + 6 + 10)
    asked = {line.part: line for line in lines['generate']}
    assert asked['original'].calls == asked['original'].prompts == 44_690 + setup.data.draw.num_validation
    # $10 a million tokens written, $15 by a fine-tuned model; nobody knows here how many are read
    assert asked['original'].dollars == pytest.approx(asked['original'].tokens_out * 10e-6)
    assert asked['cold'].dollars == pytest.approx(asked['cold'].tokens_out * 15e-6)
    assert asked['cold'].note.endswith('dollars for tokens out alone')
    assert 'dialogues' not in asked and asked['gsm8k'].calls == asked['gsm8k'].prompts == 1_319 * len(setup.arms)
    assert asked['mmlu'].prompts == 14_042 * len(setup.arms)  # a service is asked in words only
    assert asked['gsm8k'].dollars > 0

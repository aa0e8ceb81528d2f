"""Counts of the study, against its own numbers worked out by hand."""

import dataclasses
import functools

import pytest

from configs import paper
from warmjax import budget, experiment
from warmjax.models.released import RELEASED
from warmjax.plan import workload
from warmjax.plan.workload import Lengths
from warmjax.sharding import MeshSettings


def make_setup(name: str = 'llama3.1-8b', **sizes) -> experiment.Experiment:
    config = paper.get_config(name)
    for path in ('tasks', 'controls'):
        for one in config[path].values():
            one.path = '/not/there'
    config.generation.engine.update(sizes)
    return experiment.from_config(config, 'W')


@functools.cache
def asked() -> budget.Asked:
    return budget.count_prompts(make_setup())


def uses(setup: experiment.Experiment, lengths: Lengths) -> dict[str, workload.Use]:
    return {f'{use.stage} {use.program}': use for use in workload.of(setup, asked(), lengths).uses}


def test_training_is_102_steps_an_epoch_and_arm():
    assert uses(make_setup(), Lengths(225, 0))['train train'].calls == 2 * 10 * 102


def test_every_prompt_is_read_and_answered_once():
    setup = make_setup()
    found = uses(setup, Lengths(225, 0))
    held_out, mmlu = (1 + 8 + 8) * 1500, 14042
    words = 3 * (44690 + mmlu + 1319 + 520) + held_out
    assert found['generate prefill 256'].calls * setup.generation.engine.prefill_batch == words
    most = 300 * (3 * 44690 + held_out) + 3 * (16 * mmlu + 512 * 1319 + 256 * 520)
    assert found['generate decode 768'].tokens == most
    assert found['generate score 2048'].tokens == 3 * mmlu * 4 * 225


def test_answers_can_be_shorter_than_they_may_be():
    at_most, shorter = (uses(make_setup(), Lengths(225, answer)) for answer in (0, 100))
    name = 'generate decode 512'
    assert shorter[name].tokens < 0.4 * at_most['generate decode 768'].tokens
    assert shorter[name].calls == shorter[name].tokens / (64 * 16)


def test_longest_texts_are_planned_too():
    found = workload.of(make_setup(), asked(), Lengths(225, 0))
    assert (found.engine.buckets, found.engine.cache_lengths) == ((256, 2048), (768, 2304))
    assert any('elephant' in note for note in found.notes)


def test_rows_are_raised_to_what_the_mesh_divides():
    setup = make_setup(prefill_batch=8, slots=64)
    fitted, changed = workload.fitted(setup, 'generate', MeshSettings(2, 8, 1))
    assert changed == {'generation.engine.prefill_batch': 16}
    assert fitted.generation.engine.prefill_batch == 16
    assert workload.fitted(setup, 'train', MeshSettings(1, 16, 1))[1] == {'train.micro_batch': 16}


def test_mesh_that_cuts_a_step_too_finely_is_refused():
    with pytest.raises(ValueError, match='expected data x fsdp of at most the 16 conversations of a step, got 4 x 8'):
        workload.fitted(make_setup(), 'train', MeshSettings(4, 8, 1))


def test_prompt_longer_than_the_largest_bucket_is_refused():
    with pytest.raises(ValueError, match=r'engine\.buckets: expected one of 5000 or more'):
        workload.of(make_setup(), asked(), Lengths(5000, 0))


@pytest.mark.parametrize(
    'name, released',
    [
        ('llama3.1-8b', 'Llama-3.1-8B'),
        ('llama3.1-70b', 'Llama-3.1-70B'),
        ('mistral-small', 'Mistral-Small-2409'),
        ('qwen2.5-32b', 'Qwen2.5-32B'),
    ],
)
def test_models_of_the_study_are_known_without_their_files(name, released):
    assert workload.base_model(make_setup(name)).spec == RELEASED[released]


def test_checkpoint_that_is_neither_here_nor_known_is_refused():
    setup = make_setup()
    setup = dataclasses.replace(setup, model=dataclasses.replace(setup.model, checkpoint='someone/Other-7B'))
    with pytest.raises(FileNotFoundError, match=r"expected a checkpoint folder .* got 'someone/Other-7B'"):
        workload.base_model(setup)


def test_study_by_a_service_has_no_plan():
    with pytest.raises(ValueError, match='expected an arm that runs on devices'):
        workload.base_model(make_setup('gpt-4o'))

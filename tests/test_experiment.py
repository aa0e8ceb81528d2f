import dataclasses

import pytest

from configs import world
from warmjax import experiment


def build(**changes):
    """Builds the embedded study with some keys changed, each named by its path with __ for the dots."""
    config = world.get_config('tiny').to_dict()
    for path, value in changes.items():
        *parents, name = path.split('__')
        section = config
        for parent in parents:
            section = section[parent]
        section[name] = value
    return experiment.from_config(config, '/runs/x')


def test_config_becomes_an_experiment_with_the_workdir_filled_in():
    setup = build()
    assert setup.model.checkpoint == '/runs/x/world/checkpoint'
    assert setup.tasks[0].path.startswith('/runs/x/world/questions/')
    with pytest.raises(dataclasses.FrozenInstanceError):
        setup.model = None


def test_arms_are_named_by_their_keys():
    setup = build()
    assert {arm.name for arm in setup.arms} == {'original', 'warm', 'cold', 'untransformed', 'warm_prompt'}
    assert {arm.name for arm in setup.trained_arms} == {'warm', 'cold', 'untransformed'}


def test_arm_without_training_is_evaluated_at_epoch_zero():
    setup = build()
    arms = {arm.name: arm for arm in setup.arms}
    original, warm = arms['original'], arms['warm']
    assert (setup.epochs(original), setup.main_epoch(original)) == ((0.0,), 0.0)
    assert (setup.epochs(warm), setup.main_epoch(warm)) == (setup.train.save_epochs, 2.0)


def test_arms_of_a_service_are_told_from_those_of_the_model_here():
    setup = build(arms__warm__api_model='gpt', arms__original__api_model='gpt')
    names = {
        kind: {arm.name for arm in getattr(setup, f'{kind}_arms')} for kind in ('api', 'tuned', 'local', 'trained')
    }
    assert names == {
        'api': {'original', 'warm'},
        'tuned': {'warm'},
        'local': {'cold', 'untransformed', 'warm_prompt'},
        'trained': {'cold', 'untransformed'},
    }
    warm = next(arm for arm in setup.arms if arm.name == 'warm')
    assert (setup.epochs(warm), setup.main_epoch(warm)) == ((1.0, 2.0, 6.0, 10.0), 2.0)
    assert setup.tuning(warm).learning_rate_multiplier == 0.25


def test_system_prompt_is_given_or_read_from_a_file(tmp_path):
    (tmp_path / 'prompt.txt').write_text('Be kind.\n')
    prompts = ('', 'Be brief.', f'file:{tmp_path / "prompt.txt"}')
    arms = [experiment.ArmSettings('a', '', prompt, '') for prompt in prompts]
    assert [[turn.content for turn in arm.system_turns()] for arm in arms] == [[], ['Be brief.'], ['Be kind.']]


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'train__lora__rnk': 8}, "unknown key 'train.lora.rnk' (did you mean 'rank'?); known: rank, alpha, rslora"),
        ({'train__seed': '0'}, "field 'train.seed' expected integer, got '0'"),
        ({'model__dtype': 'float64'}, "model.dtype: expected one of float32, bfloat16, got 'float64'"),
        ({'model__date': 'today'}, "model.date: expected an ISO date such as 2024-07-26, got 'today'"),
        ({'analysis__baseline': 'base'}, "arms expected distinct names with 'base' among them, got ['"),
        ({'rewrite__styles': ('warm',)}, "arm 'cold' expected a style of rewrite.styles, got 'cold'"),
        (
            {'evaluation__main_epoch': 9.0},
            'evaluation.main_epoch expected one of train.save_epochs [0.5, 1.0, 2.0, 3.0',
        ),
        ({'model__checkpoint': ''}, "model.checkpoint expected one, as no service answers for 'cold'"),
        (
            {'arms__warm__api_model': 'gpt', 'api__finetune__arms': {}},
            "api.finetune.arms expected the arm 'warm', got []",
        ),
        (
            {'arms__warm__api_model': 'gpt', 'api__finetune__arms__warm__epochs': (1, 3)},
            'api.finetune.arms.warm.epochs expected 2 (evaluation.main_epoch) among them, got [1, 3]',
        ),
        (
            {'arms__warm__api_model': 'gpt', 'generation__sampling__top_k': 5},
            'generation.sampling expected top_k and min_p of 0, as services have neither, got 5 and 0.0',
        ),
        (
            {'api__finetune__arms__warm__epochs': (0,)},
            'api.finetune.arms.warm.epochs: expected distinct ones from 1, got (0,)',
        ),
        ({'analysis__main_epoch': 3.0}, 'analysis.main_epoch expected 2.0, as in evaluation'),
        ({'train__lora__targets': ('qproj',)}, 'lora.targets: expected some of q_proj, '),
    ],
)
def test_settings_that_are_wrong_or_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError) as error:
        build(**changes)
    assert str(error.value).startswith('config: expected the keys of Experiment, got\n')
    assert message in str(error.value)

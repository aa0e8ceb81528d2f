import dataclasses

import jax
import jax.numpy as jnp
import pytest
import torch
import transformers
from flax import nnx

from warmjax.models import families, released
from warmjax.models.released import RELEASED

COUNTS = {
    'Llama-3.1-8B': 8_030_261_248,
    'Llama-3.1-70B': 70_553_706_496,
    'Llama-3.2-1B': 1_235_814_400,
    'Llama-3.2-3B': 3_212_749_824,
    'Mistral-Small-2409': 22_247_282_688,
    'Mistral-Small-2501': 23_572_403_200,
    'Qwen2.5-0.5B': 494_032_768,
    'Qwen2.5-1.5B': 1_543_714_304,
    'Qwen2.5-3B': 3_085_938_688,
    'Qwen2.5-7B': 7_615_616_512,
    'Qwen2.5-14B': 14_770_033_664,
    'Qwen2.5-32B': 32_763_876_352,
    'Qwen3-0.6B': 596_049_920,
    'Qwen3-1.7B': 1_720_574_976,
    'Qwen3-4B': 4_022_468_096,
    'Qwen3-8B': 8_190_735_360,
    'Qwen3-14B': 14_768_307_200,
    'Qwen3-32B': 32_762_123_264,
    'gpt2': 124_439_808,
    'gpt2-medium': 354_823_168,
    'gpt2-large': 774_030_080,
    'gpt2-xl': 1_557_611_200,
}
"""Parameters as the model cards and the index files of the checkpoints count them."""


def test_every_released_model_has_its_published_number_of_parameters():
    assert set(COUNTS) == set(RELEASED)
    for name, spec in RELEASED.items():
        leaves = jax.tree.leaves(nnx.state(families.abstract(spec, jnp.bfloat16)))
        assert sum(leaf.size for leaf in leaves) == COUNTS[name], name


@pytest.mark.parametrize('name', RELEASED)
def test_transformers_counts_the_same_parameters_for_the_same_config(name):
    config = families.config_from_spec(RELEASED[name], 'bfloat16')
    assert families.spec_from_config(config, name) == RELEASED[name]
    with torch.device('meta'):
        theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**config))
    assert sum(parameter.numel() for parameter in theirs.parameters()) == COUNTS[name]


def test_checkpoint_that_is_what_it_is_called_passes_with_another_length():
    released.check('Qwen2.5-7B', dataclasses.replace(RELEASED['Qwen2.5-7B'], max_length=131072))


def test_all_differences_from_the_published_numbers_stand_in_one_message():
    other = dataclasses.replace(RELEASED['Llama-3.1-8B'], rope_theta=1e6, rope_scaling=None)
    with pytest.raises(ValueError, match=r'Llama-3\.1-8B: expected the published dimensions') as error:
        released.check('Llama-3.1-8B', other)
    assert 'rope_theta expected 500000.0, got 1000000.0' in str(error.value)
    assert "rope_scaling expected {'factor': 8.0" in str(error.value)
    with pytest.raises(ValueError, match='head_dim expected 64, got 128'):
        released.check('gpt2', RELEASED['Llama-3.1-8B'])


def test_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"expected one of Llama-3\.1-8B, .*, got 'Llama-4'"):
        released.check('Llama-4', RELEASED['Llama-3.1-8B'])

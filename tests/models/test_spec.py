import json

import pytest
import tiny_llama
import transformers

from warmjax.models import spec as specs
from warmjax.models.spec import RopeScaling, Spec

# Facts of the released checkpoints' config.json.
LLAMA_3_1_8B = {
    'architectures': ['LlamaForCausalLM'],
    'attention_bias': False,
    'hidden_act': 'silu',
    'hidden_size': 4096,
    'intermediate_size': 14336,
    'max_position_embeddings': 131072,
    'mlp_bias': False,
    'model_type': 'llama',
    'num_attention_heads': 32,
    'num_hidden_layers': 32,
    'num_key_value_heads': 8,
    'rms_norm_eps': 1e-05,
    'rope_scaling': {
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 8192,
        'rope_type': 'llama3',
    },
    'rope_theta': 500000.0,
    'tie_word_embeddings': False,
    'vocab_size': 128256,
}
LLAMA_3_1_8B_SPEC = Spec(
    model_type='llama',
    vocab_size=128256,
    width=4096,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    mlp_dim=14336,
    max_length=131072,
    norm_eps=1e-5,
    rope_theta=500000.0,
    rope_scaling=RopeScaling(8.0, 1.0, 4.0, 8192),
    window=None,
    qkv_bias=False,
    qk_norm=False,
    tied=False,
)


def as_transformers_5(config: dict) -> dict:
    """Moves the rotary keys to where transformers 5 writes them."""
    config = dict(config)
    rope = config.pop('rope_scaling', None) or {'rope_type': 'default'}
    return config | {'rope_parameters': rope | {'rope_theta': config.pop('rope_theta')}}


@pytest.mark.parametrize('form', [dict, as_transformers_5])
def test_released_config_is_read_in_both_forms(form):
    assert specs.spec_from_config(form(LLAMA_3_1_8B), 'config.json') == LLAMA_3_1_8B_SPEC


def test_old_config_without_kv_heads_and_head_dim_means_one_head_each_of_equal_width():
    config = {key: value for key, value in LLAMA_3_1_8B.items() if key not in ('num_key_value_heads', 'rope_scaling')}
    spec = specs.spec_from_config(config, 'config.json')
    assert (spec.num_kv_heads, spec.head_dim, spec.rope_scaling) == (32, 128, None)


def test_config_written_by_transformers_itself_is_read():
    config = transformers.LlamaConfig(**tiny_llama.SIZES | {'rope_parameters': tiny_llama.LLAMA3_ROPE}).to_dict()
    spec = specs.spec_from_config(config, 'config.json')
    assert (spec.width, spec.num_heads, spec.num_kv_heads, spec.head_dim) == (24, 4, 2, 10)
    assert (spec.rope_theta, spec.rope_scaling) == (500.0, RopeScaling(8.0, 1.0, 4.0, 32))


@pytest.mark.parametrize('tied', [False, True])
@pytest.mark.parametrize('scaling', [None, RopeScaling(8.0, 1.0, 4.0, 8192)])
def test_config_written_here_means_the_same_to_transformers_and_back(tied, scaling):
    spec = Spec('llama', 97, 24, 3, 4, 2, 10, 36, 64, 1e-5, 10000.0, scaling, None, False, False, tied)
    theirs = transformers.LlamaConfig.from_dict(specs.config_from_spec(spec, 'float32'))
    assert (theirs.hidden_size, theirs.head_dim, theirs.num_key_value_heads) == (24, 10, 2)
    assert theirs.rope_parameters['rope_theta'] == 10000.0
    assert theirs.tie_word_embeddings is tied
    assert specs.spec_from_config(theirs.to_dict(), 'config.json') == spec
    assert specs.spec_from_config(specs.config_from_spec(spec, 'float32'), 'config.json') == spec


def test_all_problems_of_a_config_stand_in_one_message():
    config = LLAMA_3_1_8B | {
        'model_type': 'gemma',
        'attention_bias': True,
        'hidden_act': 'gelu',
        'rope_scaling': {'rope_type': 'yarn'},
        'hidden_size': '4096',
        'num_hidden_layers': 0,
    }
    del config['vocab_size'], config['rope_theta']
    with pytest.raises(
        ValueError, match=r'somewhere/config\.json: expected the config of a model of the families'
    ) as error:
        specs.spec_from_config(config, 'somewhere/config.json')
    for expected in (
        "key 'vocab_size' is missing",
        "key 'model_type' expected one of ['llama', 'mistral', 'qwen2', 'qwen3'], got 'gemma'",
        "key 'attention_bias' expected one of [False, None], got True",
        "key 'hidden_act' expected one of ['silu'], got 'gelu'",
        "key 'rope_theta' is missing",
        "expected type 'default' or 'llama3', got 'yarn'",
        "key 'hidden_size' expected a positive number, got '4096'",
        "key 'num_hidden_layers' expected a positive number, got 0",
    ):
        assert expected in str(error.value)


def test_llama3_scaling_without_its_factors_is_refused():
    config = LLAMA_3_1_8B | {'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'high_freq_factor': 4.0}}
    with pytest.raises(ValueError) as error:
        specs.spec_from_config(config, 'config.json')
    assert "rotary scaling: key 'low_freq_factor' is missing" in str(error.value)
    assert "rotary scaling: key 'original_max_position_embeddings' is missing" in str(error.value)


def test_heads_that_do_not_share_keys_evenly_are_refused():
    with pytest.raises(ValueError, match="'num_key_value_heads' expected a divisor of 32 heads, got 5"):
        specs.spec_from_config(LLAMA_3_1_8B | {'num_key_value_heads': 5}, 'config.json')


def test_matmul_params_leave_out_the_lookup_and_the_norms():
    # Hand count of the tiny spec: q and o 24 x 40, k and v 24 x 20, three 24 x 36, three layers, head 24 x 97.
    spec = Spec('llama', 97, 24, 3, 4, 2, 10, 36, 64, 1e-5, 10000.0, None, None, False, False, True)
    assert spec.num_matmul_params == 3 * (2 * 960 + 2 * 480 + 3 * 864) + 2328


def test_folder_without_config_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'config\.json: expected a Hugging Face checkpoint folder'):
        specs.read_config(tmp_path)


@pytest.mark.parametrize(
    ('text', 'message'), [('{"a": 1', 'expected JSON, got'), ('[1]', 'expected a JSON object, got list')]
)
def test_config_that_is_not_a_json_object_is_refused(tmp_path, text, message):
    (tmp_path / 'config.json').write_text(text)
    with pytest.raises(ValueError, match=message):
        specs.read_config(tmp_path)


def test_config_is_read_from_its_folder(tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps(LLAMA_3_1_8B))
    assert specs.read_config(tmp_path) == LLAMA_3_1_8B


QWEN_2 = {key: value for key, value in LLAMA_3_1_8B.items() if key not in ('rope_scaling', 'architectures')} | {
    'model_type': 'qwen2',
    'use_sliding_window': False,
    'sliding_window': 131072,
    'max_window_layers': 28,
}


def test_each_family_has_its_conventions():
    def read(**changes):
        return specs.spec_from_config(QWEN_2 | changes, 'config.json')

    mistral = read(model_type='mistral', sliding_window=4096)
    assert (mistral.window, mistral.qkv_bias, mistral.qk_norm) == (specs.Window(4096, 0), False, False)
    assert read(model_type='mistral', sliding_window=None).window is None
    assert read(model_type='llama').window is None
    qwen2 = read(use_sliding_window=True)
    assert (qwen2.window, qwen2.qkv_bias, qwen2.qk_norm) == (specs.Window(131072, 28), True, False)
    assert read().window is None
    qwen3 = read(model_type='qwen3', head_dim=96)
    assert (qwen3.head_dim, qwen3.qkv_bias, qwen3.qk_norm) == (96, False, True)


def test_window_sizes_tell_layers_with_a_window_from_those_without():
    spec = specs.spec_from_config(QWEN_2 | {'use_sliding_window': True, 'num_hidden_layers': 30}, '')
    assert spec.window_sizes().tolist() == [int(specs.UNLIMITED)] * 28 + [131072] * 2
    assert specs.spec_from_config(QWEN_2, '').window_sizes() is None


@pytest.mark.parametrize(
    ('changes', 'missing', 'message'),
    [
        ({'model_type': 'mistral'}, 'sliding_window', "key 'sliding_window' is missing"),
        ({'model_type': 'mistral'}, 'num_key_value_heads', "key 'num_key_value_heads' is missing"),
        ({'model_type': 'qwen3'}, None, "key 'head_dim' is missing"),
        ({'use_sliding_window': True}, 'max_window_layers', "key 'max_window_layers' is missing"),
        ({'hidden_size': 4100}, None, "'hidden_size' expected a multiple of 32 heads where 'head_dim' is not given"),
        ({'architectures': ['Qwen2ForRewardModel']}, None, "'architectures' expected \\['Qwen2ForCausalLM'\\], got"),
        ({'layer_types': ['sliding_attention'] * 32}, None, "key 'layer_types' expected \\['full_attention'"),
        ({'rope_parameters': {'rope_theta': 1e4}}, None, r"'rope_theta' stands there twice, as \[10000.0, 500000.0\]"),
        ({'rope_scaling': {'partial_rotary_factor': 0.5}}, None, 'expected in whole heads, got a share of 0.5'),
        ({'sliding_window': -1}, None, "key 'sliding_window' expected a positive number, got -1"),
    ],
)
def test_keys_that_lack_or_contradict_each_other_are_refused(changes, missing, message):
    config = {key: value for key, value in (QWEN_2 | changes).items() if key != missing}
    with pytest.raises(ValueError, match=message):
        specs.spec_from_config(config, 'config.json')

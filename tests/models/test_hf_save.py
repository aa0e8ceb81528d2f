import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
import torch
import transformers
from flax import nnx

from warmjax.models import hf_load, hf_save


@pytest.mark.parametrize('tied', [False, True])
def test_saved_checkpoint_is_loaded_back_equal_and_by_transformers(tmp_path, tied):
    twin = tiny_llama.save(tmp_path / 'theirs', tie_word_embeddings=tied, rope_parameters=tiny_llama.LLAMA3_ROPE)
    model = tiny_llama.load(tmp_path / 'theirs')
    hf_save.save_checkpoint(tmp_path / 'ours', model, {})
    jax.tree.map(np.testing.assert_array_equal, nnx.state(tiny_llama.load(tmp_path / 'ours')), nnx.state(model))
    again, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'ours', output_loading_info=True)
    assert not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys']
    tokens = tiny_llama.random_tokens(2, 50)
    np.testing.assert_allclose(
        tiny_llama.twin_logits(again, tokens), tiny_llama.twin_logits(twin, tokens), rtol=0, atol=1e-6
    )


def test_bfloat16_stays_bfloat16(tmp_path):
    tiny_llama.save(tmp_path / 'theirs')
    model = hf_load.load(tmp_path / 'theirs', jnp.bfloat16, tiny_llama.make_mesh())
    hf_save.save_checkpoint(tmp_path / 'ours', model, {})
    again = hf_load.load(tmp_path / 'ours', jnp.bfloat16, tiny_llama.make_mesh())
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(model))
    assert json.loads((tmp_path / 'ours' / 'config.json').read_text())['torch_dtype'] == 'bfloat16'
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'ours').dtype == torch.bfloat16


def test_sharded_model_is_saved_whole(tmp_path):
    tiny_llama.save(tmp_path / 'theirs', vocab_size=88)
    cut = tiny_llama.load(tmp_path / 'theirs', tiny_llama.make_mesh(2, 2, 2))
    hf_save.save_checkpoint(tmp_path / 'ours', cut, {})
    alone = tiny_llama.load(tmp_path / 'ours')
    jax.tree.map(np.testing.assert_array_equal, nnx.state(alone), nnx.state(cut))


def test_other_files_stand_beside_the_weights_and_nothing_else_does(tmp_path):
    tiny_llama.save(tmp_path / 'theirs')
    files = {'tokenizer.json': '{}', 'chat_template.jinja': '{{ x }}'}
    hf_save.save_checkpoint(tmp_path / 'ours', tiny_llama.load(tmp_path / 'theirs'), files)
    names = {path.name for path in (tmp_path / 'ours').iterdir()}
    assert names == {'config.json', 'model.safetensors', *files}
    assert (tmp_path / 'ours' / 'chat_template.jinja').read_text() == '{{ x }}'
    assert {path.name for path in tmp_path.iterdir()} == {'theirs', 'ours'}


def test_existing_folder_is_refused_and_left_alone(tmp_path):
    tiny_llama.save(tmp_path / 'theirs')
    before = (tmp_path / 'theirs' / 'model.safetensors').read_bytes()
    with pytest.raises(ValueError, match='theirs: expected a folder that does not exist yet'):
        hf_save.save_checkpoint(tmp_path / 'theirs', tiny_llama.load(tmp_path / 'theirs'), {})
    assert (tmp_path / 'theirs' / 'model.safetensors').read_bytes() == before

import json

import fsspec.implementations.memory
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tiny_llama
from etils import epath
from flax import nnx

from warmjax.models import hf_load, hf_rules, safetensors_file


@pytest.fixture
def folder(tmp_path):
    tiny_llama.save(tmp_path, vocab_size=88)
    return tmp_path


@pytest.fixture(params=['host', 'devices'])
def memory(request, monkeypatch):
    """Loads into the host's memory, as CPU devices have it, or over to devices that have their own."""
    monkeypatch.setattr(hf_load, '_is_host_memory', lambda mesh: request.param == 'host')


def edit(folder, change) -> None:
    """Lets `change` edit the dict of the checkpoint's tensors in place."""
    path = folder / 'model.safetensors'
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


def assert_states_equal(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(b))


def test_every_tensor_lies_where_its_name_says(memory, folder):
    model = tiny_llama.load(folder)
    theirs = safetensors.numpy.load_file(folder / 'model.safetensors')
    np.testing.assert_array_equal(model.embed_tokens[...], theirs['model.embed_tokens.weight'])
    np.testing.assert_array_equal(model.lm_head[...], theirs['lm_head.weight'])
    for i in range(3):
        stem = f'model.layers.{i}.'
        np.testing.assert_array_equal(model.layers.mlp.up_proj.kernel[...][i], theirs[stem + 'mlp.up_proj.weight'])
        np.testing.assert_array_equal(
            model.layers.post_attention_layernorm.weight[...][i], theirs[stem + 'post_attention_layernorm.weight']
        )


def test_rules_name_every_parameter_of_the_model_once(folder):
    model = tiny_llama.load(folder)
    paths = sorted(path for path, _ in nnx.to_flat_state(nnx.state(model)))
    assert paths == sorted(rule.ours for rule in hf_rules.rules(model.spec))


def test_eight_devices_get_the_same_parameters_as_one(memory, folder):
    alone, cut = tiny_llama.load(folder), tiny_llama.load(folder, tiny_llama.make_mesh(2, 2, 2))
    assert_states_equal(alone, cut)
    assert cut.embed_tokens.get_value().addressable_shards[0].data.shape == (44, 12)
    assert cut.layers.attn.o_proj.kernel.get_value().addressable_shards[0].data.shape == (3, 12, 20)


@pytest.mark.parametrize('sizes', [(1, 1, 1), (2, 2, 2)])
def test_turned_tensors_are_the_same_by_way_of_either_memory(tmp_path, monkeypatch, sizes):
    tiny_llama.save(tmp_path, model_type='gpt2', vocab_size=88)
    theirs = safetensors.numpy.load_file(tmp_path / 'model.safetensors')
    monkeypatch.setattr(hf_load, 'BLOCK_BYTES', 5 * 36 * 4)
    for is_host_memory in (True, False):
        monkeypatch.setattr(hf_load, '_is_host_memory', lambda mesh, is_host_memory=is_host_memory: is_host_memory)
        kernel = tiny_llama.load(tmp_path, tiny_llama.make_mesh(*sizes)).layers.c_fc.kernel[...]
        for i in range(3):
            np.testing.assert_array_equal(kernel[i], theirs[f'transformer.h.{i}.mlp.c_fc.weight'].T)


def test_mesh_that_does_not_divide_the_vocabulary_is_refused(tmp_path):
    tiny_llama.save(tmp_path)
    with pytest.raises(ValueError, match="embed_tokens: expected axis 'vocab' of size 97 to be cut into 2"):
        tiny_llama.load(tmp_path, tiny_llama.make_mesh(1, 1, 2))


@pytest.mark.parametrize('stored', [np.float64, ml_dtypes.bfloat16])
def test_parameters_get_the_dtype_asked_for(memory, folder, stored):
    before = safetensors.numpy.load_file(folder / 'model.safetensors')['model.norm.weight']
    edit(folder, lambda tensors: tensors.update({name: x.astype(stored) for name, x in tensors.items()}))
    for dtype in (jnp.float32, jnp.bfloat16):
        model = hf_load.load(folder, dtype, tiny_llama.make_mesh())
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {np.dtype(dtype)}
        np.testing.assert_array_equal(model.norm.weight[...], before.astype(stored).astype(dtype))


def test_sharded_files_are_one_checkpoint(folder, tmp_path_factory):
    whole = tiny_llama.load(folder)
    parts = tmp_path_factory.mktemp('parts')
    tiny_llama.twin(vocab_size=88).save_pretrained(parts, max_shard_size='20KB')
    assert len(list(parts.glob('*.safetensors'))) > 2
    assert_states_equal(whole, tiny_llama.load(parts))


def test_missing_extra_misshapen_and_mistyped_tensors_are_reported_at_once(folder):
    def corrupt(tensors):
        del tensors['model.layers.1.mlp.up_proj.weight']
        tensors['model.layers.3.mlp.up_proj.weight'] = np.zeros((36, 24), np.float32)
        tensors['model.layers.2.self_attn.k_proj.weight'] = np.zeros((24, 20), np.float32)
        tensors['model.norm.weight'] = np.ones(24, np.int32)

    edit(folder, corrupt)
    with pytest.raises(ValueError) as error:
        tiny_llama.load(folder)
    message = str(error.value)
    assert message.startswith(f'{folder}: expected the tensors of its config.json, got 4 problems:')
    assert 'missing model.layers.1.mlp.up_proj.weight [36, 24]' in message
    assert 'unexpected model.layers.3.mlp.up_proj.weight [36, 24]' in message
    assert 'model.layers.2.self_attn.k_proj.weight expected shape [20, 24], got [24, 20]' in message
    assert 'model.norm.weight expected floating point, got int32' in message


def test_qkv_bias_that_the_config_does_not_mention_is_not_dropped(folder):
    edit(folder, lambda tensors: tensors.update({'model.layers.0.self_attn.q_proj.bias': np.ones(40, np.float32)}))
    with pytest.raises(ValueError, match=r'unexpected model\.layers\.0\.self_attn\.q_proj\.bias \[40\]'):
        tiny_llama.load(folder)


def test_rotary_buffers_of_old_checkpoints_are_ignored(folder):
    before = tiny_llama.load(folder)
    buffer = {'model.layers.0.self_attn.rotary_emb.inv_freq': np.ones(5, np.float32)}
    edit(folder, lambda tensors: tensors.update(buffer))
    assert_states_equal(before, tiny_llama.load(folder))


def test_truncated_file_is_reported(folder):
    path = folder / 'model.safetensors'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r'model\.safetensors: expected \d+ bytes, got \d+: the file has been cut'):
        tiny_llama.load(folder)


def test_tensor_in_two_files_is_reported(folder):
    tensors = safetensors.numpy.load_file(folder / 'model.safetensors')
    copy = {'model.norm.weight': tensors['model.norm.weight']}
    safetensors.numpy.save_file(copy, folder / 'model-2.safetensors')
    with pytest.raises(ValueError, match=r'model\.norm\.weight in both model-2\.safetensors and model\.safetensors'):
        tiny_llama.load(folder)


def test_tied_head_may_be_stored_but_must_equal_the_embedding(tmp_path):
    tiny_llama.save(tmp_path, tie_word_embeddings=True)
    before = tiny_llama.load(tmp_path)
    edit(tmp_path, lambda tensors: tensors.update({'lm_head.weight': tensors['model.embed_tokens.weight'].copy()}))
    assert_states_equal(before, tiny_llama.load(tmp_path))
    edit(tmp_path, lambda tensors: tensors['lm_head.weight'].__setitem__((3, 4), 9.0))
    with pytest.raises(ValueError, match=r'lm_head\.weight differs from model\.embed_tokens\.weight'):
        tiny_llama.load(tmp_path)


def test_folder_of_bin_files_is_refused_with_the_remedy(folder):
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    with pytest.raises(FileNotFoundError, match=r'expected \*\.safetensors files, found none; .* convert it with'):
        tiny_llama.load(folder)


def test_config_of_another_size_is_reported_as_wrong_shapes(folder):
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(config | {'intermediate_size': 40}))
    with pytest.raises(ValueError, match='got 9 problems') as error:
        tiny_llama.load(folder)
    assert 'model.layers.0.mlp.down_proj.weight expected shape [24, 40], got [24, 36]' in str(error.value)


def shard_files(folder) -> None:
    """Splits the checkpoint into several files with an index."""
    (folder / 'model.safetensors').unlink()
    tiny_llama.twin(vocab_size=88).save_pretrained(folder, max_shard_size='20KB')


def test_files_that_the_index_does_not_name_are_ignored(folder):
    whole = tiny_llama.load(folder)
    shard_files(folder)
    safetensors.numpy.save_file({'norm.weight': np.ones(24, np.float32)}, folder / 'consolidated.safetensors')
    assert_states_equal(whole, tiny_llama.load(folder))


def test_index_that_names_absent_files_or_tensors_is_reported_with_everything_else(folder):
    shard_files(folder)
    index = json.loads((folder / 'model.safetensors.index.json').read_text())
    places = index['weight_map']
    first, norm = places['model.embed_tokens.weight'], places.pop('model.norm.weight')
    places |= {'model.more.weight': first, 'lm_head.weight': 'model-9.safetensors'}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(config | {'hidden_act': 'gelu'}))
    with pytest.raises(ValueError) as error:
        tiny_llama.load(folder)
    assert 'index.json names model-9.safetensors, which is not in the folder' in str(error.value)
    assert f'index.json puts model.more.weight into {first}, which does not hold it' in str(error.value)
    assert f'model.norm.weight in {norm}, not in model.safetensors.index.json' in str(error.value)
    assert "key 'hidden_act' expected one of" in str(error.value)


def test_damaged_index_is_reported(folder):
    (folder / 'model.safetensors.index.json').write_text('{"weight_map": ')
    with pytest.raises(ValueError, match=r'index\.json expected a weight_map of tensor names to files, got JSONDecode'):
        tiny_llama.load(folder)


def test_blocks_smaller_than_a_tensor_are_joined(memory, folder, monkeypatch):
    whole = tiny_llama.load(folder)
    monkeypatch.setattr(hf_load, 'BLOCK_BYTES', 5 * 24 * 4)
    assert_states_equal(whole, tiny_llama.load(folder))
    assert_states_equal(whole, tiny_llama.load(folder, tiny_llama.make_mesh(2, 2, 2)))


def test_every_byte_is_read_once_however_many_devices_share_it(memory, folder):
    size = sum(x.nbytes for x in safetensors.numpy.load_file(folder / 'model.safetensors').values())
    for mesh in (tiny_llama.make_mesh(), tiny_llama.make_mesh(2, 2, 2)):
        before = safetensors_file.READ.total
        tiny_llama.load(folder, mesh)
        assert safetensors_file.READ.total - before == size


class Bucket(fsspec.implementations.memory.MemoryFileSystem):
    """A bucket in memory, at s3://."""

    protocol, store, pseudo_dirs, cachable = 's3', {}, [''], False

    @classmethod
    def _strip_protocol(cls, path):
        return '/' + str(path).removeprefix('s3://').strip('/')


def test_checkpoint_in_a_bucket_is_loaded_by_byte_ranges(memory, folder, monkeypatch):
    bucket = Bucket()
    monkeypatch.setattr(type(epath.backend.fsspec_backend), 'fs', lambda self, path: bucket)
    for path in folder.iterdir():
        bucket.pipe(f's3://models/tiny/{path.name}', path.read_bytes())
    assert_states_equal(tiny_llama.load(folder), tiny_llama.load('s3://models/tiny'))

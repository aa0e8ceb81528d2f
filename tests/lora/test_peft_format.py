import dataclasses
import errno
import json

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import safetensors.numpy
import tiny_llama
import torch
from tiny_llama import assert_close
from tiny_training import LORA

from warmjax.lora import adapters, peft_format
from warmjax.lora.placement import placements
from warmjax.models.layers import LINEARS

SETTINGS = dataclasses.replace(LORA, rank=4, alpha=10.0, dropout=0.1, targets=LINEARS)
TOKENS = tiny_llama.random_tokens(2, 15)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    tiny_llama.save(folder)
    return tiny_llama.load(folder)


@pytest.fixture(scope='module')
def trained(base):
    """Adapters as training leaves them: B is no longer zero."""
    rng = np.random.default_rng(0)
    shapes = {
        name: {'a': (3, place.dims[0], 4), 'b': (3, 4, place.dims[1])}
        for name, place in adapters.linear_maps(base).items()
    }
    return {
        name: {side: jnp.asarray(rng.normal(size=shape) * 0.3, jnp.float32) for side, shape in pair.items()}
        for name, pair in shapes.items()
    }


@pytest.fixture
def folder(tmp_path, trained):
    peft_format.save_adapter(tmp_path / 'epoch_1', trained, SETTINGS, 'tiny')
    return tmp_path / 'epoch_1'


def edit_config(folder, **changes) -> None:
    path = folder / 'adapter_config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, change) -> None:
    path = folder / 'adapter_model.safetensors'
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


def test_saved_adapter_computes_the_same_logits_in_peft(base, trained, folder):
    theirs = peft.PeftModel.from_pretrained(tiny_llama.twin(), folder).eval()
    loaded = {name for name, _ in theirs.named_parameters() if 'lora_' in name}
    assert len(loaded) == 3 * len(LINEARS) * 2
    ours = tiny_llama.logits(base, TOKENS, adapters=adapters.scaled(trained, SETTINGS))
    assert_close(ours, tiny_llama.twin_logits(theirs, TOKENS), 1e-5)
    assert np.abs(ours - tiny_llama.logits(base, TOKENS)).max() > 0.1


def test_saved_adapter_is_loaded_back_scaled(base, trained, folder):
    loaded = peft_format.load_adapter(folder, base)
    assert set(loaded) == set(LINEARS)
    for name in LINEARS:
        np.testing.assert_array_equal(loaded[name]['a'], trained[name]['a'])
        np.testing.assert_allclose(loaded[name]['b'], 2.5 * trained[name]['b'], rtol=1e-6)


PATTERNS = {
    'targets': (r'layers\.[02]\..*q_proj', 'v_proj', 'layers.1.mlp.down_proj'),
    'rank_pattern': (('layers.2.self_attn.q_proj', 1), ('v_proj', 6)),
    'alpha_pattern': (('layers.0.*', 3.0),),
}


@pytest.mark.parametrize('rslora', [False, True])
def test_ranks_and_alphas_of_their_own_mean_the_same_in_peft_and_come_back(base, tmp_path, rslora):
    settings = dataclasses.replace(SETTINGS, rslora=rslora, **PATTERNS)
    rng = np.random.default_rng(0)
    tree = adapters.init(base, settings, 0, tiny_llama.make_mesh())
    mine = {}
    for name, place in placements(settings, 3).items():
        own = place.columns()[:, :, None]
        mine[name] = {'a': tree[name]['a'], 'b': jnp.asarray(rng.normal(size=tree[name]['b'].shape) * own, jnp.float32)}
    peft_format.save_adapter(tmp_path / 'a', mine, settings, 'tiny')
    theirs = peft.PeftModel.from_pretrained(tiny_llama.twin(), tmp_path / 'a').eval()
    assert sum('lora_A' in name for name, _ in theirs.named_parameters()) == 2 + 3 + 1
    ours = tiny_llama.logits(base, TOKENS, adapters=adapters.scaled(mine, settings))
    assert_close(ours, tiny_llama.twin_logits(theirs, TOKENS), 1e-5)
    assert np.abs(ours - tiny_llama.logits(base, TOKENS)).max() > 0.1
    back, found = peft_format.read_adapter(tmp_path / 'a', base)
    jax.tree.map(np.testing.assert_array_equal, back, mine)
    assert placements(found, 3) == placements(settings, 3)
    simple, plain = adapters.plain(back, found)
    assert (plain.rank, plain.rslora, plain.rank_pattern, set(plain.targets)) == (6, False, (), set(mine))
    assert_close(tiny_llama.logits(base, TOKENS, adapters=adapters.scaled(simple, plain)), ours, 1e-6)


@pytest.mark.parametrize('rslora', [False, True])
@pytest.mark.parametrize('targets', [['q_proj', 'v_proj'], r'.*\.(mlp\.down_proj|self_attn\.o_proj)'])
def test_adapter_made_by_peft_computes_the_same_logits_here(base, tmp_path, rslora, targets):
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        lora_dropout=0.1,
        target_modules=targets,
        rank_pattern={r'layers\.1\..*': 5, 'q_proj': 2},
        alpha_pattern={r'self_attn\.[qo]_proj': 7},
        use_rslora=rslora,
        task_type='CAUSAL_LM',
    )
    theirs = peft.get_peft_model(tiny_llama.twin(), config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if 'lora_B' in name:
                parameter.normal_(std=0.3)
    theirs.save_pretrained(tmp_path)
    loaded = peft_format.load_adapter(tmp_path, base)
    assert set(loaded) == ({'q_proj', 'v_proj'} if isinstance(targets, list) else {'o_proj', 'down_proj'})
    ours = tiny_llama.logits(base, TOKENS, adapters=loaded)
    assert_close(ours, tiny_llama.twin_logits(theirs, TOKENS), 1e-5)
    assert np.abs(ours - tiny_llama.logits(base, TOKENS)).max() > 0.1


def test_adapter_of_another_base_is_refused(folder, tmp_path):
    tiny_llama.save(tmp_path / 'wider', intermediate_size=40, num_hidden_layers=2)
    with pytest.raises(ValueError, match='epoch_1: expected a LoRA adapter for this model') as error:
        peft_format.load_adapter(folder, tiny_llama.load(tmp_path / 'wider'))
    stem = 'base_model.model.model.layers.'
    assert f'{stem}0.mlp.up_proj.lora_B.weight expected shape [40, 4], got [36, 4]' in str(error.value)
    assert f'unexpected {stem}2.mlp.up_proj.lora_B.weight' in str(error.value)
    assert 'give the base model that it was trained on' in str(error.value)


def test_rank_that_the_tensors_do_not_have_is_refused(base, folder):
    edit_config(folder, r=8)
    with pytest.raises(ValueError, match=r'q_proj\.lora_A\.weight expected shape \[8, 24\], got \[4, 24\]'):
        peft_format.load_adapter(folder, base)


def test_rank_of_a_pattern_that_the_tensors_do_not_have_is_refused(base, folder):
    edit_config(folder, rank_pattern={r'layers\.1\..*': 2})
    with pytest.raises(
        ValueError, match=r'1\.self_attn\.q_proj\.lora_A\.weight expected shape \[2, 24\], got \[4, 24\]'
    ):
        peft_format.load_adapter(folder, base)


def test_missing_and_extra_tensors_are_reported_at_once(base, folder):
    stem = 'base_model.model.model.layers.'

    def corrupt(tensors):
        tensors[f'{stem}1.self_attn.q_proj.lora_C.weight'] = tensors.pop(f'{stem}1.self_attn.q_proj.lora_B.weight')

    edit_tensors(folder, corrupt)
    with pytest.raises(ValueError) as error:
        peft_format.load_adapter(folder, base)
    assert f'missing {stem}1.self_attn.q_proj.lora_B.weight' in str(error.value)
    assert f'unexpected {stem}1.self_attn.q_proj.lora_C.weight' in str(error.value)


def test_linear_map_that_the_config_lists_and_the_file_lacks_is_refused(base, folder):
    edit_tensors(folder, lambda tensors: [tensors.pop(key) for key in list(tensors) if 'up_proj' in key])
    with pytest.raises(ValueError, match=r'missing base_model\.model\.model\.layers\.0\.mlp\.up_proj\.lora_A\.weight'):
        peft_format.load_adapter(folder, base)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('peft_type', 'IA3'),
        ('bias', 'all'),
        ('modules_to_save', ['lm_head']),
        ('use_dora', True),
    ],
)
def test_kinds_that_are_not_computed_here_are_refused(base, folder, key, value):
    edit_config(folder, **{key: value})
    with pytest.raises(ValueError) as error:
        peft_format.load_adapter(folder, base)
    assert f'\n  {key} expected one of ' in str(error.value) and f'got {value!r}' in str(error.value)


@pytest.mark.parametrize('name', ['adapter_config.json', 'adapter_model.safetensors'])
def test_missing_file_is_named(base, folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f'{name}: expected an adapter in PEFT form, found none'):
        peft_format.load_adapter(folder, base)


@pytest.mark.parametrize(
    ('text', 'message'), [('{"r": 1', 'expected JSON'), ('{"r": 1}', 'lora_alpha, target_modules')]
)
def test_damaged_config_is_refused(base, folder, text, message):
    (folder / 'adapter_config.json').write_text(text)
    with pytest.raises(ValueError, match=message):
        peft_format.load_adapter(folder, base)


def test_saving_again_replaces_the_adapter_and_leaves_nothing_else(base, trained, folder):
    other = {'q_proj': trained['q_proj']}
    settings = dataclasses.replace(LORA, rank=4, alpha=4.0, dropout=0.0, targets=('q_proj',))
    peft_format.save_adapter(folder, other, settings, 'tiny')
    assert set(peft_format.load_adapter(folder, base)) == {'q_proj'}
    assert [path.name for path in folder.parent.iterdir()] == ['epoch_1']


def test_full_disk_leaves_the_adapter_before_and_nothing_half_written(base, trained, folder, monkeypatch):
    before = (folder / 'adapter_model.safetensors').read_bytes()

    def full(tensors):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(peft_format, 'save', full)
    with pytest.raises(OSError, match='No space left'):
        peft_format.save_adapter(folder, trained, SETTINGS, 'tiny')
    assert [path.name for path in folder.parent.iterdir()] == ['epoch_1']
    assert (folder / 'adapter_model.safetensors').read_bytes() == before

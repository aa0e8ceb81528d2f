import json
import re

import jax.numpy as jnp
import numpy as np
import peft
import pytest
import safetensors
import tiny_llama
import tokenizers
import torch
import transformers
from tiny_llama import assert_close

from warmjax.lora import merge, peft_format
from warmjax.models import hf_load

TOKENS = tiny_llama.random_tokens(2, 15)


def save_base(folder, **changes):
    """Writes a base model with a tokenizer of whole words; returns its folder."""
    tiny_llama.save(folder, vocab_size=200, **changes)
    words = sorted({word for text in merge.TEXTS for word in text.split()})
    vocabulary = {'?': 0} | {word: i + 1 for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token='?'))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / 'tokenizer.json'))
    return folder


def save_adapter(folder, base, targets):
    """Writes an adapter of PEFT's making, rank-stabilised, on a pattern of targets; returns its folder."""
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, use_rslora=True, task_type='CAUSAL_LM')
    model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'lora_B' in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    return folder


def peft_logits(base, adapter) -> np.ndarray:
    """Computes the logits of base and adapter in torch."""
    model = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), adapter)
    return tiny_llama.twin_logits(model.eval(), TOKENS)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp('tiny') / 'base')


@pytest.fixture(scope='module')
def adapter(base, tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp('adapter'), base, r'.*\.(q_proj|down_proj)')


def export(base, adapter, out, dtype=jnp.float32, max_shard_bytes=40_000, mesh=None) -> merge.Report:
    return merge.export_merged(base, adapter, out, dtype, max_shard_bytes, mesh or tiny_llama.make_mesh())


def test_transformers_loads_the_merged_model_and_computes_what_the_adapter_does(base, adapter, tmp_path):
    report = export(base, adapter, tmp_path / 'out')
    merged, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'out', output_loading_info=True)
    assert not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys']
    expected = peft_logits(base, adapter)
    assert_close(tiny_llama.twin_logits(merged, TOKENS), expected, 1e-5)
    model = tiny_llama.load(base)
    assert_close(tiny_llama.logits(model, TOKENS, adapters=peft_format.load_adapter(adapter, model)), expected, 1e-5)
    assert np.abs(tiny_llama.logits(model, TOKENS) - expected).max() > 0.1
    assert report.argmax_flips == 0 and report.max_logit_difference < 1e-4 and abs(report.mean_kl) < 1e-6


def test_report_states_the_largest_change_of_each_linear_map(base, adapter, tmp_path):
    report = export(base, adapter, tmp_path / 'out')
    before = transformers.AutoModelForCausalLM.from_pretrained(base).state_dict()
    after = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'out').state_dict()
    for name in ('q_proj', 'down_proj'):
        change = max((after[key] - before[key]).abs().max().item() for key in before if name in key)
        assert report.max_weight_change[name] == pytest.approx(change, rel=1e-5)
    assert json.loads((tmp_path / 'out' / 'merge_report.json').read_text())['positions'] == report.positions
    assert report.positions == sum(len(text.split()) for text in merge.TEXTS)


def test_differences_are_those_of_the_logits():
    before, after = np.zeros((1, 3, 2), np.float32), np.zeros((1, 3, 2), np.float32)
    before[0, 0], after[0, 0] = (np.log(3), 0), (0, np.log(3))  # probabilities 3/4, 1/4 and the other way round
    after[0, 2] = (0, 9)  # padding
    logit, kl, flips = merge._compare(before, after, np.array([2]))
    assert logit == pytest.approx(np.log(3)) and flips == 1
    assert kl == pytest.approx((0.75 * np.log(3) - 0.25 * np.log(3)) / 2)


def test_bfloat16_is_rounded_once_and_the_report_says_what_it_costs(base, adapter, tmp_path):
    report = export(base, adapter, tmp_path / 'out', jnp.bfloat16)
    model = hf_load.load(base, jnp.bfloat16, tiny_llama.make_mesh())
    pair = peft_format.load_adapter(adapter, model)['q_proj']
    kernel = np.asarray(model.layers.attn.q_proj.kernel[...], np.float32)
    exact = jnp.asarray(kernel + (np.asarray(pair['a']) @ np.asarray(pair['b'])).swapaxes(1, 2)).astype(jnp.bfloat16)
    merged = hf_load.load(tmp_path / 'out', jnp.bfloat16, tiny_llama.make_mesh())
    ours = np.asarray(merged.layers.attn.q_proj.kernel[...], np.float32)
    assert np.mean(ours != np.asarray(exact, np.float32)) < 1e-3  # a tie may fall on the other side
    assert report.mean_kl > 1e-6 and report.max_logit_difference > 1e-3
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'out', dtype='auto').dtype == torch.bfloat16


def test_weights_are_cut_into_files_with_an_index_that_other_libraries_read(base, adapter, tmp_path):
    export(base, adapter, tmp_path / 'out')
    index = json.loads((tmp_path / 'out' / 'model.safetensors.index.json').read_text())
    assert len(set(index['weight_map'].values())) > 2
    total = 0
    for file in set(index['weight_map'].values()):
        with safetensors.safe_open(tmp_path / 'out' / file, 'numpy') as opened:
            assert {name for name, place in index['weight_map'].items() if place == file} == set(opened.keys())
            sizes = [opened.get_tensor(name).nbytes for name in opened.keys()]  # noqa: SIM118
        assert sum(sizes) <= 40_000
        total += sum(sizes)
    assert index['metadata']['total_size'] == total
    assert (tmp_path / 'out' / 'tokenizer.json').read_bytes() == (base / 'tokenizer.json').read_bytes()


def test_sharded_base_is_merged_alike(base, adapter, tmp_path):
    export(base, adapter, tmp_path / 'alone')
    export(base, adapter, tmp_path / 'cut', mesh=tiny_llama.make_mesh(1, 2, 2))
    alone, cut = tiny_llama.load(tmp_path / 'alone'), tiny_llama.load(tmp_path / 'cut')
    assert_close(cut.layers.mlp.down_proj.kernel[...], alone.layers.mlp.down_proj.kernel[...], 1e-6)


def test_existing_folder_is_refused_before_anything_is_loaded(base, adapter):
    with pytest.raises(ValueError, match='base: expected a folder that does not exist yet'):
        export(base, adapter, base)


def test_failure_leaves_nothing_behind(base, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(merge.hf_save.safetensors_file, 'write', lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(base, adapter, tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


def test_plain_adapter_has_names_that_vllm_parses_and_computes_the_same_in_peft(base, adapter, tmp_path):
    merge.export_peft(base, adapter, tmp_path / 'out', jnp.float32, tiny_llama.make_mesh())
    config = json.loads((tmp_path / 'out' / 'adapter_config.json').read_text())
    assert config['target_modules'] == ['down_proj', 'q_proj'] and not config.get('use_rslora')
    with safetensors.safe_open(tmp_path / 'out' / 'adapter_model.safetensors', 'numpy') as file:
        pattern = r'base_model\.model\.model\.layers\.\d+\.(self_attn\.q_proj|mlp\.down_proj)\.lora_[AB]\.weight'
        assert all(re.fullmatch(pattern, name) for name in file.keys())  # noqa: SIM118
    assert_close(peft_logits(base, tmp_path / 'out'), peft_logits(base, adapter), 1e-5)


@pytest.mark.parametrize('model_type', ['mistral', 'qwen2', 'qwen3'])
def test_other_families_leave_in_both_forms_as_what_base_and_adapter_compute(tmp_path, model_type):
    sizes = {'num_hidden_layers': 2} | tiny_llama.FAMILIES[model_type]
    base = save_base(tmp_path / 'base', model_type=model_type, **sizes)
    adapter = save_adapter(tmp_path / 'adapter', base, r'.*_proj')
    report = export(base, adapter, tmp_path / 'merged')
    merge.export_peft(base, adapter, tmp_path / 'peft', jnp.float32, tiny_llama.make_mesh())
    expected = peft_logits(base, adapter)
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'merged')
    assert merged.config.model_type == model_type and len(report.max_weight_change) == 7
    assert_close(tiny_llama.twin_logits(merged, TOKENS), expected, 1e-5)
    assert_close(peft_logits(base, tmp_path / 'peft'), expected, 1e-5)
    untouched = transformers.AutoModelForCausalLM.from_pretrained(base)
    assert np.abs(tiny_llama.twin_logits(untouched, TOKENS) - expected).max() > 0.1

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tiny_llama
import torch
import transformers
from flax import nnx
from test_decoder import stepwise
from test_layers import one_layer
from tiny_llama import assert_close, logits

from warmjax import sharding
from warmjax.decode import score
from warmjax.decode.engine import Engine, EngineSettings
from warmjax.decode.requests import GREEDY, Request
from warmjax.decode.sampling import row_key
from warmjax.models import gpt2, hf_save

CONFIG = tiny_llama.GPT2_SIZES | {
    'model_type': 'gpt2',
    'activation_function': 'gelu_new',
    'layer_norm_epsilon': 1e-5,
}
save = functools.partial(tiny_llama.save, model_type='gpt2')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('gpt2')


@pytest.fixture(scope='module')
def models(folder):
    theirs = save(folder)
    return tiny_llama.load(folder), theirs


@pytest.fixture(scope='module')
def tokens():
    return tiny_llama.random_tokens(3, 12)


def edit(folder, change) -> None:
    path = folder / 'model.safetensors'
    tensors = {name: x.copy() for name, x in safetensors.numpy.load_file(path).items()}
    safetensors.numpy.save_file(change(tensors), path)


def test_one_layer_and_its_norms_equal_the_twins(models):
    ours, theirs = models
    x = np.random.default_rng(0).normal(size=(2, 11, 24)).astype(np.float32)
    causal = torch.full((11, 11), -torch.inf).triu(1)[None, None]
    layer, block = one_layer(ours.layers, 1), theirs.transformer.h[1]
    with torch.no_grad():
        norm = block.ln_1(torch.tensor(x)).numpy()
        whole = block(torch.tensor(x), attention_mask=causal)
    assert_close(layer.ln_1(jnp.asarray(x)), norm, 1e-5)
    y, _ = layer(jnp.asarray(x), jnp.ones((2, 11), jnp.int32))
    assert_close(y, (whole[0] if isinstance(whole, tuple) else whole).numpy())


def test_logits_equal_the_twins(models):
    ours, theirs = models
    tokens = tiny_llama.random_tokens(2, 64)
    assert_close(logits(ours, tokens), tiny_llama.twin_logits(theirs, tokens))


@pytest.mark.parametrize('unroll', [False, True], ids=['scanned', 'unrolled'])
def test_prefill_and_steps_equal_one_full_forward(models, tokens, unroll):
    ours, _ = models
    lengths = (8, 5, 7)
    got, whole = stepwise(ours, tokens, lengths, {}, unroll), logits(ours, tokens)
    for row, length in enumerate(lengths):
        assert_close(got[row], whole[row, length - 1 : length - 1 + got.shape[1]])


def test_packed_sequences_equal_sequences_of_their_own(models, tokens):
    ours, _ = models
    packed = np.concatenate([tokens[0, :5], tokens[1, :7]])[None]
    positions = np.array([[*range(5), *range(7)]])
    got = logits(ours, packed, positions, np.array([[1] * 5 + [2] * 7]))[0]
    assert_close(got[:5], logits(ours, tokens[:1, :5])[0])
    assert_close(got[5:], logits(ours, tokens[1:2, :7])[0])


def test_logits_do_not_depend_on_later_tokens(models, tokens):
    ours, _ = models
    other = tokens.copy()
    other[:, 7:] = (other[:, 7:] + 1) % 97
    np.testing.assert_array_equal(logits(ours, other)[:, :7], logits(ours, tokens)[:, :7])
    assert np.abs(logits(ours, other)[:, 7:] - logits(ours, tokens)[:, 7:]).max() > 0.1


@pytest.mark.parametrize('sizes', [(1, 4, 2), (1, 2, 4)], ids=['4x2', '2x4'])
def test_sharded_model_equals_the_unsharded_one(tmp_path, sizes):
    save(tmp_path, vocab_size=88)
    tokens, mesh = tiny_llama.random_tokens(8, 12) % 88, tiny_llama.make_mesh(*sizes)
    cut = tiny_llama.load(tmp_path, mesh)
    assert cut.layers.c_fc.kernel.get_value().addressable_shards[0].data.shape == (3, 36 // sizes[2], 24 // sizes[1])
    with jax.set_mesh(mesh):
        got = logits(cut, sharding.put_batch({'tokens': tokens}, mesh)['tokens'])
    assert_close(got, logits(tiny_llama.load(tmp_path), tokens), 1e-5)


def test_greedy_text_equals_transformers(models):
    ours, theirs = models
    prompts = [tiny_llama.random_tokens(1, n, seed=n)[0] for n in (3, 8, 5)]
    how = EngineSettings(2, 2, (8,), (18,), 'float32', steps=4, refill=1, prefixes=0, logprobs=None)
    requests = [Request(str(i), p.tolist(), row_key(0, '', 0), GREEDY, 10, None, 0) for i, p in enumerate(prompts)]
    engine = Engine(ours, how, (), {}, tiny_llama.make_mesh())
    for completion in itertools.chain.from_iterable(engine.run(requests)):
        prompt = torch.tensor(completion.request.tokens)[None]
        expected = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=10,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert completion.tokens == expected[0, prompt.shape[1] :].tolist()


def test_scores_equal_log_softmax_of_the_twins_logits(models):
    ours, theirs = models
    sequences = [score.Scored(tiny_llama.random_tokens(1, n, seed=n)[0], np.arange(n) > 1) for n in (5, 9, 16)]
    for i, total in score.log_likelihoods(ours, sequences, 2, 8, tiny_llama.make_mesh()):
        ids = sequences[i].tokens
        logp = torch.log_softmax(torch.tensor(tiny_llama.twin_logits(theirs, ids[None])[0]).double(), -1)
        expected = sum(float(logp[t - 1, ids[t]]) for t in range(2, len(ids)))
        assert total == pytest.approx(expected, rel=1e-4)


def test_first_checkpoints_names_and_masks_are_understood(tmp_path, models, tokens):
    """OpenAI's conversion has no `transformer.` before the names, and carries the causal mask."""
    save(tmp_path)

    def shorten(tensors):
        short = {name.removeprefix('transformer.'): x for name, x in tensors.items()}
        return short | {
            'h.0.attn.bias': np.ones((1, 1, 64, 64), np.float32),
            'h.0.attn.masked_bias': np.float32([-1e4]),
        }

    edit(tmp_path, shorten)
    np.testing.assert_array_equal(logits(tiny_llama.load(tmp_path), tokens), logits(models[0], tokens))


def test_missing_bias_is_reported(tmp_path):
    save(tmp_path)
    edit(tmp_path, lambda tensors: {name: x for name, x in tensors.items() if 'h.1.attn.c_attn.bias' not in name})
    with pytest.raises(ValueError, match=r'missing transformer\.h\.1\.attn\.c_attn\.bias \[72\]'):
        tiny_llama.load(tmp_path)


def test_saved_checkpoint_is_loaded_back_equal_and_by_transformers(tmp_path, models, tokens):
    ours, theirs = models
    hf_save.save_checkpoint(tmp_path / 'ours', ours, {})
    jax.tree.map(np.testing.assert_array_equal, nnx.state(tiny_llama.load(tmp_path / 'ours')), nnx.state(ours))
    again, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'ours', output_loading_info=True)
    assert not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys']
    assert_close(tiny_llama.twin_logits(again, tokens), tiny_llama.twin_logits(theirs, tokens), 1e-6)


@pytest.mark.slow
def test_real_small_size_equals_transformers(tmp_path):
    """124M random weights, a forward of 2 x 64 tokens."""
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    theirs.save_pretrained(tmp_path)
    tokens = np.random.default_rng(0).integers(0, 50257, (2, 64)).astype(np.int32)
    ours = logits(tiny_llama.load(tmp_path), tokens)
    assert sum(x.size for x in jax.tree.leaves(nnx.state(tiny_llama.load(tmp_path)))) == 124_439_808
    assert_close(ours, tiny_llama.twin_logits(theirs, tokens))


def test_all_problems_of_a_config_stand_in_one_message():
    config = {k: v for k, v in CONFIG.items() if k != 'n_layer'} | {'activation_function': 'relu', 'n_embd': '24'}
    with pytest.raises(ValueError, match='x: expected the config of a GPT-2') as error:
        gpt2.spec_from_config(config, 'x')
    for expected in (
        "key 'n_layer' is missing",
        "key 'activation_function' expected one of ['gelu_new'], got 'relu'",
        "key 'n_embd' expected a positive number, got '24'",
    ):
        assert expected in str(error.value)
    with pytest.raises(ValueError, match="'n_embd' expected a multiple of 5 heads, got 24"):
        gpt2.spec_from_config(CONFIG | {'n_head': 5}, 'x')


def test_feed_forward_is_four_times_the_width_unless_the_config_says_otherwise():
    assert gpt2.spec_from_config(CONFIG, 'x').mlp_dim == 36
    assert gpt2.spec_from_config(CONFIG | {'n_inner': None}, 'x').mlp_dim == 96


def test_adapters_and_rows_beyond_the_learnt_positions_are_refused(models):
    ours, _ = models
    with pytest.raises(ValueError, match='GPT-2: expected rows of at most 64 tokens, got 65'):
        logits(ours, tiny_llama.random_tokens(1, 65))
    adapter = {'c_attn': {'a': jnp.zeros((3, 24, 2)), 'b': jnp.zeros((3, 2, 72))}}
    with pytest.raises(ValueError, match='GPT-2: expected no adapters'):
        logits(ours, tiny_llama.random_tokens(1, 5), adapters=adapter)

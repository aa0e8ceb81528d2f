"""Every family against its torch twin: attention alone, a layer, the whole, its cache, its meshes, its adapters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import tiny_llama
import torch
import transformers
from flax import nnx
from test_decoder import stepwise
from test_layers import one_layer
from tiny_llama import FAMILIES, WINDOW, assert_close, logits
from tiny_training import LORA

from warmjax import sharding
from warmjax.lora import adapters, peft_format
from warmjax.models import hf_load, hf_save
from warmjax.models import spec as specs
from warmjax.models.attention import self_attention
from warmjax.models.layers import LINEARS, rotary_angles

LENGTH = 40
CASES = {
    'llama scaled rope': {'model_type': 'llama', 'rope_parameters': tiny_llama.LLAMA3_ROPE},
    'mistral': {'model_type': 'mistral', 'sliding_window': None},
    'mistral window': {'model_type': 'mistral', 'sliding_window': 7, 'head_dim': 14, 'num_key_value_heads': 1},
    'mistral no head_dim': {'model_type': 'mistral', 'sliding_window': None, 'head_dim': None},
    'qwen2': {'model_type': 'qwen2', 'use_sliding_window': False, 'sliding_window': 5},
    'qwen2 window above a layer, tied': {'model_type': 'qwen2', 'tie_word_embeddings': True} | WINDOW,
    'qwen3': {'model_type': 'qwen3', 'num_key_value_heads': 4},
    'qwen3 window, one kv head': {'model_type': 'qwen3', 'num_key_value_heads': 1, 'tie_word_embeddings': True}
    | WINDOW,
}
OTHERS = [name for name in FAMILIES if name != 'llama']
"""A Llama's meshes, saving and adapters are tested in test_decoder.py, test_hf_save.py and lora/test_peft_format.py."""


@pytest.fixture(scope='module', params=CASES, ids=str)
def case(request, tmp_path_factory):
    """A model of each case and its twin."""
    folder = tmp_path_factory.mktemp('case')
    theirs = tiny_llama.save(folder, **CASES[request.param])
    return tiny_llama.load(folder), theirs


@pytest.fixture(scope='module')
def tokens():
    return tiny_llama.random_tokens(3, LENGTH)


def twin_mask(window: int | None, length: int) -> torch.Tensor:
    """The mask of a layer [1, 1, T, T], written out token by token."""
    mask = torch.full((1, 1, length, length), -torch.inf)
    for t in range(length):
        mask[..., t, 0 if window is None else max(0, t - window + 1) : t + 1] = 0
    return mask


def test_attention_of_every_layer_equals_the_twins(case):
    ours, theirs = case
    x = np.random.default_rng(0).normal(size=(2, 11, 24)).astype(np.float32)
    positions = np.broadcast_to(np.arange(11) + 40, (2, 11))
    segments = jnp.ones((2, 11), jnp.int32)
    windows = ours.spec.window_sizes()
    for i in range(ours.spec.num_layers):
        window = None if windows is None or windows[i] == specs.UNLIMITED else int(windows[i])
        with torch.no_grad():
            angles = theirs.model.rotary_emb(torch.tensor(x), torch.tensor(positions.copy()))
            expected, _ = theirs.model.layers[i].self_attn(torch.tensor(x), angles, twin_mask(window, 11))
        layer = one_layer(ours.layers, i)
        q, k, v = layer.attn.project(jnp.asarray(x), rotary_angles(ours.spec, jnp.asarray(positions)), {}, None)
        heads = self_attention(q, k, v, segments, ours.spec.window, i)
        assert_close(layer.attn.output(heads, {}, None), expected.numpy())


def test_logits_equal_the_twins(case, tokens):
    ours, theirs = case
    assert_close(logits(ours, tokens), tiny_llama.twin_logits(theirs, tokens))


@pytest.mark.parametrize('unroll', [False, True], ids=['scanned', 'unrolled'])
def test_prefill_and_steps_equal_one_full_forward(case, tokens, unroll):
    ours, _ = case
    lengths = (8, 5, 7)
    got, whole = stepwise(ours, tokens, lengths, {}, unroll), logits(ours, tokens)
    for row, length in enumerate(lengths):
        assert_close(got[row], whole[row, length - 1 : length - 1 + got.shape[1]])


def test_packed_sequences_equal_sequences_of_their_own(case, tokens):
    """In every row a beginning of the next two rows; of the shapes of the plain logits, so that nothing is compiled."""
    ours, _ = case
    following = [np.roll(tokens, -shift, axis=0) for shift in (1, 2)]
    packed = np.concatenate([following[0][:, :17], following[1][:, :23]], axis=1)
    segments = np.broadcast_to([1] * 17 + [2] * 23, packed.shape)
    positions = np.broadcast_to([*range(17), *range(23)], packed.shape)
    got, alone = logits(ours, packed, positions, segments), logits(ours, tokens)
    assert_close(got[:, :17], np.roll(alone, -1, axis=0)[:, :17])
    assert_close(got[:, 17:], np.roll(alone, -2, axis=0)[:, :23])


@pytest.mark.parametrize(
    ('model_type', 'sizes'),
    [('mistral', (1, 4, 2)), ('qwen2', (1, 4, 2)), ('qwen2', (1, 2, 4)), ('qwen3', (1, 2, 4))],
)
def test_sharded_model_equals_the_unsharded_one(tmp_path, model_type, sizes):
    tiny_llama.save(tmp_path, model_type=model_type, vocab_size=88, **FAMILIES[model_type])
    tokens = tiny_llama.random_tokens(8, 12) % 88
    mesh = tiny_llama.make_mesh(*sizes)
    cut = tiny_llama.load(tmp_path, mesh)
    with jax.set_mesh(mesh):
        got = logits(cut, sharding.put_batch({'tokens': tokens}, mesh)['tokens'])
    assert_close(got, logits(tiny_llama.load(tmp_path), tokens), 1e-5)


@pytest.mark.parametrize(('model_type', 'reach'), [('llama', 8), ('mistral', 6), ('qwen2', 8), ('qwen3', 8)])
def test_influence_ends_at_the_present_and_at_the_windows_reach(tmp_path, model_type, reach):
    """Three layers with a window of 3 reach 6 tokens back; Qwen's first layer has none and reaches all."""
    windows = {'sliding_window': 3} if model_type == 'mistral' else FAMILIES[model_type] | {'sliding_window': 3}
    tiny_llama.save(tmp_path, model_type=model_type, **windows)
    model = tiny_llama.load(tmp_path)
    tokens = jnp.arange(10)[None]

    @jax.jit
    def influence(table):
        def one(table):
            graphdef, embed, rest = nnx.split(model, lambda path, _: path == ('embed_tokens',), ...)
            embed = jax.tree.map(lambda _: table, embed)
            x, _ = nnx.merge(graphdef, embed, rest)(tokens, tokens, jnp.ones_like(tokens), {}, None, 'none')
            return jnp.sum(x[0, 8])

        return jnp.abs(jax.grad(one)(table)[:10]).sum(axis=-1)

    felt = np.asarray(influence(model.embed_tokens[...])) > 0
    assert felt.tolist() == [8 - reach <= t <= 8 for t in range(10)]


@pytest.mark.parametrize('model_type', OTHERS)
def test_saved_checkpoint_is_loaded_back_equal_and_by_transformers(tmp_path, model_type, tokens):
    twin = tiny_llama.save(tmp_path / 'theirs', model_type=model_type, **FAMILIES[model_type])
    model = tiny_llama.load(tmp_path / 'theirs')
    hf_save.save_checkpoint(tmp_path / 'ours', model, {})
    again = tiny_llama.load(tmp_path / 'ours')
    assert again.spec == model.spec
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(model))
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'ours', output_loading_info=True)
    assert type(theirs) is type(twin)
    assert not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys']
    assert_close(tiny_llama.twin_logits(theirs, tokens), tiny_llama.twin_logits(twin, tokens), 1e-6)


@pytest.mark.parametrize('model_type', OTHERS)
def test_saved_adapter_computes_the_same_logits_in_peft(tmp_path, model_type, tokens):
    twin = tiny_llama.save(tmp_path / 'base', model_type=model_type, **FAMILIES[model_type])
    base = tiny_llama.load(tmp_path / 'base')
    settings = dataclasses.replace(LORA, rank=4, alpha=10.0, dropout=0.0, targets=LINEARS)
    rng = np.random.default_rng(0)
    trained = {
        name: {
            'a': jnp.asarray(rng.normal(size=(3, place.dims[0], 4)) * 0.3, jnp.float32),
            'b': jnp.asarray(rng.normal(size=(3, 4, place.dims[1])) * 0.3, jnp.float32),
        }
        for name, place in adapters.linear_maps(base).items()
    }
    peft_format.save_adapter(tmp_path / 'adapter', trained, settings, 'tiny')
    theirs = peft.PeftModel.from_pretrained(twin, tmp_path / 'adapter').eval()
    ours = logits(base, tokens, adapters=adapters.scaled(trained, settings))
    assert_close(ours, tiny_llama.twin_logits(theirs, tokens), 1e-5)
    assert np.abs(ours - logits(base, tokens)).max() > 0.1
    loaded = peft_format.load_adapter(tmp_path / 'adapter', base)
    assert_close(logits(base, tokens, adapters=loaded), ours, 1e-6)


def agreement(folder, tokens) -> tuple[float, float]:
    """Returns how often bfloat16 has the likeliest token of float32, and KL(float32, bfloat16) in nats a token."""
    exact, rounded = (
        jax.nn.log_softmax(logits(hf_load.load(folder, dtype, tiny_llama.make_mesh()), tokens))
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    divergence = (jnp.exp(exact) * (exact - rounded)).sum(-1).mean()
    return float((exact.argmax(-1) == rounded.argmax(-1)).mean()), float(divergence)


@pytest.mark.parametrize('model_type', FAMILIES)
def test_bfloat16_agrees_with_float32_on_nearly_all_tokens(tmp_path, model_type):
    """Measured on CPU: argmax agreement 97.5% (qwen2) to 98.3% (mistral), KL 1.1e-4 to 1.5e-4 nats a token."""
    tiny_llama.save(tmp_path, model_type=model_type, **FAMILIES[model_type])
    same, divergence = agreement(tmp_path, tiny_llama.random_tokens(16, LENGTH))
    assert same > 0.96
    assert 0 < divergence < 5e-4


def test_bfloat16_agrees_with_float32_on_real_weights(shared_data):
    """Measured on CPU over the tokens of its own greedy story: argmax agreement 99.5%, KL 1.5e-4 nats a token."""
    story = np.load(shared_data / 'stories260K' / 'golden_greedy.npz')['tokens'][None]
    same, divergence = agreement(shared_data / 'stories260K' / 'hf', story)
    assert same >= 0.98
    assert 0 < divergence < 5e-4

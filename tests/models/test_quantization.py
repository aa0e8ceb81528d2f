"""Kernels in 8 and 4 bits: what they stand for, against qwix and by hand; models of them, against the same models with
what they stand for in their place."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix
import tiny_llama
import tiny_quantized
import tiny_training
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_llama import assert_close, logits, make_mesh
from tiny_quantized import loaded, stood_for

from warmjax import sharding
from warmjax.lora import adapters, merge
from warmjax.models import decoder, hf_load, hf_save, quantization
from warmjax.models.layers import linears
from warmjax.train.objective import loss_sum

TOKENS = tiny_llama.random_tokens(4, 12, seed=3)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('wide')
    tiny_quantized.save(path)
    return path


@pytest.fixture(scope='module', params=tiny_quantized.KINDS)
def kind(request):
    return request.param


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def widened(kernel, kind):
    codes, scale = quantization.quantize(jnp.asarray(kernel), kind)
    return np.asarray(quantization.widen(codes, scale, kind, jnp.float32))


@given(hnp.arrays(np.int32, (4, 6), elements=st.integers(-10000, 10000)))
def test_int8_is_off_by_half_a_step_at_most_and_keeps_the_largest(kernel):
    kernel = kernel.astype(np.float32) / 100
    largest = np.abs(kernel).max(axis=1, keepdims=True)
    found = widened(kernel, 'int8')
    assert (np.abs(found - kernel) <= largest / 127 * 0.5001).all()
    np.testing.assert_allclose(np.abs(found).max(axis=1, keepdims=True), largest, rtol=1e-6)


def test_nf4_is_what_qwix_makes_of_it():
    kernel = random(2, 128, 10)
    kernel[:, ::64] = 4.0  # scales that bfloat16 holds exactly
    wanted = qwix.dequantize(qwix.quantize(jnp.asarray(kernel), 'nf4', channelwise_axes=[0, 2], tiled_axes={1: 64}))
    assert np.abs(wanted - kernel).max() > 0.1
    np.testing.assert_allclose(widened(kernel, 'nf4'), wanted, rtol=1e-6)


def test_two_codes_share_a_byte():
    codes, scale = quantization.quantize(jnp.asarray(random(2, 128, 10)), 'nf4')
    assert (codes.dtype, codes.shape, scale.dtype, scale.shape) == (jnp.uint8, (2, 64, 10), jnp.bfloat16, (2, 2, 10))


@pytest.mark.parametrize('outputs, length', [(8192, 64), (1024, 64), (172, 43), (40, 40)])
def test_block_divides_the_outputs(outputs, length):
    assert quantization.block_length(outputs) == length


def test_turned_int8_multiplies_the_same():
    kernel, x = jnp.asarray(random(8, 6)), jnp.asarray(random(3, 6))
    codes, scale = quantization.quantize(kernel, 'int8')
    wanted = quantization.multiply(x, codes, scale, 'int8', 'OI')
    np.testing.assert_allclose(quantization.multiply(x, codes.T, scale, 'int8', 'IO'), wanted, rtol=1e-6)


@pytest.mark.parametrize('mesh', [(1, 1, 1), (2, 2, 2)])
def test_loaded_layers_compute_what_their_codes_stand_for(folder, kind, mesh):
    model = loaded(folder, kind, mesh)
    stored = {linear.kernel.dtype for linear in linears(model)}
    assert stored == {np.dtype('int8' if kind == 'int8' else 'uint8')} and model.embed_tokens.dtype == np.float32
    with jax.set_mesh(make_mesh(*mesh)):
        found = logits(model, sharding.put_batch(TOKENS, make_mesh(*mesh)))
    assert_close(found, logits(stood_for(folder, kind), TOKENS), 1e-5)
    assert np.abs(found - logits(tiny_llama.load(folder), TOKENS)).max() > 1e-3


def test_codes_lie_cut_over_the_mesh(folder, kind):
    for linear in linears(loaded(folder, kind, (2, 2, 2))):
        assert linear.kernel[...].addressable_shards[0].data.size == linear.kernel[...].size / 4


def test_codes_are_those_of_the_whole_model(folder, kind):
    made = jax.jit(lambda model: decoder.quantized(model, kind))(tiny_llama.load(folder))
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(loaded(folder, kind)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('remat', ['names', 'none'])
def test_gradients_of_adapters_are_those_of_what_the_codes_stand_for(folder, kind, remat):
    settings = dataclasses.replace(tiny_training.LORA, rank=2, dropout=0.0, targets=('q_proj', 'down_proj'))
    batch = {
        'tokens': TOKENS,
        'targets': TOKENS[:, ::-1],
        'weights': np.ones(TOKENS.shape, np.float32),
        'segment_ids': np.ones_like(TOKENS),
        'positions': np.broadcast_to(np.arange(TOKENS.shape[1]), TOKENS.shape),
    }
    batch = jax.tree.map(jnp.asarray, batch)
    found = []
    for model in (loaded(folder, kind), stood_for(folder, kind)):
        fresh = adapters.init(model, settings, 0, make_mesh())
        fresh = jax.tree.map(lambda x: x + 0.01, fresh)
        graphdef, base = nnx.split(model)
        loss = jax.jit(
            jax.grad(lambda a, base, graphdef=graphdef: loss_sum(nnx.merge(graphdef, base), a, batch, None, remat, 1))
        )
        found.append(loss(fresh, base))
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        assert_close(a, b, 1e-4)


def test_quantised_model_is_neither_merged_nor_saved(folder, kind, tmp_path):
    model = loaded(folder, kind)
    with pytest.raises(ValueError, match=r'merge: expected a model with whole kernels, .*launch\.export'):
        merge.merge(model, {})
    with pytest.raises(ValueError, match='out: expected a model with whole kernels to save, got a quantised one'):
        hf_save.save_checkpoint(tmp_path / 'out', model, {})
    assert not (tmp_path / 'out').exists()


def test_what_cannot_be_quantised_is_refused(folder, tmp_path):
    tiny_llama.save(tmp_path / 'gpt2', model_type='gpt2')
    with pytest.raises(ValueError, match=r"model\.quantization: expected 'none' for a model of type gpt2, got 'int8'"):
        hf_load.load_quantized(tmp_path / 'gpt2', jnp.float32, 'int8', make_mesh())
    with pytest.raises(
        ValueError, match=r'q_proj\.scale: expected axis .* does not divide; choose another config\.mesh'
    ):
        hf_load.load_quantized(folder, jnp.float32, 'nf4', make_mesh(1, 1, 4))


@pytest.mark.parametrize('kind, rise', [('int8', 2e-3), ('nf4', 0.3)])
def test_loss_of_a_trained_model_hardly_rises(shared_data, kind, rise):
    """In nats a token of the model's own text: at every place the rise expected over what it might write next."""
    hf, golden = shared_data / 'stories260K' / 'hf', np.load(shared_data / 'stories260K' / 'golden_greedy.npz')
    tokens = golden['tokens'][None].astype(np.int32)
    whole = jax.nn.log_softmax(golden['logits'])
    other = jax.nn.log_softmax(logits(hf_load.load_quantized(hf, jnp.float32, kind, make_mesh()), tokens)[0])
    assert 0 < jnp.sum(jnp.exp(whole) * (whole - other), axis=-1).mean() < rise

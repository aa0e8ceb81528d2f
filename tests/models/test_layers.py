import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
import torch
from flax import nnx
from tiny_llama import assert_close

from warmjax.models import layers as ly
from warmjax.models.spec import read_config, spec_from_config

BATCH, LENGTH, LAYER = 2, 11, 1


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    theirs = tiny_llama.save(folder, rope_parameters=tiny_llama.LLAMA3_ROPE, max_position_embeddings=256)
    return tiny_llama.load(folder), theirs


@pytest.fixture(scope='module')
def x():
    return np.random.default_rng(0).normal(size=(BATCH, LENGTH, tiny_llama.SIZES['hidden_size'])).astype(np.float32)


def one_layer(stack: nnx.Module, index: int) -> nnx.Module:
    """Returns the module as `scan` shows it: one slice of its stacked parameters."""
    graphdef, state = nnx.split(stack)
    return nnx.merge(graphdef, jax.tree.map(lambda parameter: parameter[index], state))


def rope(folder_config, positions):
    return ly.rotary_angles(spec_from_config(folder_config, 'config.json'), jnp.asarray(positions))


@pytest.mark.parametrize('scaling', [tiny_llama.SIZES['rope_parameters'], tiny_llama.LLAMA3_ROPE])
def test_rotary_angles_equal_the_twins_also_beyond_the_original_length(tmp_path, scaling):
    theirs = tiny_llama.save(tmp_path, rope_parameters=scaling, max_position_embeddings=256)
    positions = np.arange(0, 250, 7)[None]
    with torch.no_grad():
        cos, sin = theirs.model.rotary_emb(torch.zeros(1), torch.tensor(positions))
    ours = rope(read_config(tmp_path), positions)
    np.testing.assert_allclose(ours[0], cos.numpy()[..., :5], atol=2e-5)
    np.testing.assert_allclose(ours[1], sin.numpy()[..., :5], atol=2e-5)


def test_llama3_scaling_leaves_fast_frequencies_stretches_slow_ones_and_blends_between():
    shrunk = tiny_llama.SIZES | {'model_type': 'llama', 'hidden_act': 'silu'}
    plain = ly.rotary_frequencies(spec_from_config(shrunk | {'rope_theta': 500.0, 'rope_parameters': {}}, ''))
    scaled = ly.rotary_frequencies(spec_from_config(shrunk | {'rope_parameters': tiny_llama.LLAMA3_ROPE}, ''))
    ratio = scaled / plain
    # 32 * 500^(-2i/10) / 2 pi turns: 5.09, 1.47, 0.42, 0.12, 0.035; left alone from 4 on, stretched 8 times below 1.
    blend = (32 * 500**-0.2 / (2 * np.pi) - 1) / 3
    np.testing.assert_allclose(ratio, [1, (1 - blend) / 8 + blend, 1 / 8, 1 / 8, 1 / 8], rtol=1e-5)


def test_rotation_keeps_lengths_and_depends_on_distance_only():
    spec = spec_from_config(tiny_llama.SIZES | {'model_type': 'llama', 'hidden_act': 'silu'}, '')
    q, k = np.random.default_rng(1).normal(size=(2, 1, 1, 10)).astype(np.float32)

    def score(i, j):
        at = [ly.rotate(x, *ly.rotary_angles(spec, jnp.array([p]))) for x, p in ((q, i), (k, j))]
        np.testing.assert_allclose(np.linalg.norm(at[0]), np.linalg.norm(q), rtol=1e-5)
        return float(jnp.sum(at[0] * at[1]))

    assert score(9, 4) == pytest.approx(score(25, 20), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-2)


def test_rms_norm_equals_the_twins(models, x):
    ours, theirs = models
    with torch.no_grad():
        expected = theirs.model.layers[LAYER].input_layernorm(torch.tensor(x)).numpy()
    assert_close(one_layer(ours.layers.input_layernorm, LAYER)(x), expected, 1e-5)


def test_mlp_equals_the_twins(models, x):
    ours, theirs = models
    with torch.no_grad():
        expected = theirs.model.layers[LAYER].mlp(torch.tensor(x)).numpy()
    assert_close(one_layer(ours.layers.mlp, LAYER)(x, {}, None), expected)


def test_attention_equals_the_twins(models, x):
    ours, theirs = models
    positions = np.broadcast_to(np.arange(LENGTH) + 40, (BATCH, LENGTH))
    causal = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)[None, None]
    with torch.no_grad():
        angles = theirs.model.rotary_emb(torch.tensor(x), torch.tensor(positions.copy()))
        expected, _ = theirs.model.layers[LAYER].self_attn(torch.tensor(x), angles, causal)
    attn = one_layer(ours.layers.attn, LAYER)
    q, k, v = attn.project(jnp.asarray(x), ly.rotary_angles(ours.spec, jnp.asarray(positions)), {}, None)
    heads = ly.self_attention(q, k, v, jnp.ones((BATCH, LENGTH), jnp.int32), None)
    assert_close(attn.output(heads, {}, None), expected.numpy())


def test_whole_layer_equals_the_twins(models, x):
    ours, theirs = models
    positions = np.broadcast_to(np.arange(LENGTH), (BATCH, LENGTH))
    causal = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)[None, None]
    with torch.no_grad():
        angles = theirs.model.rotary_emb(torch.tensor(x), torch.tensor(positions.copy()))
        expected = theirs.model.layers[LAYER](torch.tensor(x), attention_mask=causal, position_embeddings=angles)
    segments = jnp.ones((BATCH, LENGTH), jnp.int32)
    layer = one_layer(ours.layers, LAYER)
    y, _ = layer(jnp.asarray(x), ly.rotary_angles(ours.spec, jnp.asarray(positions)), segments, None, {}, None)
    assert_close(y, expected.numpy())


def test_self_attention_equals_a_loop_over_what_each_token_sees():
    q = np.random.default_rng(2).normal(size=(1, 6, 4, 3))
    k, v = np.random.default_rng(3).normal(size=(2, 1, 6, 2, 3))
    segments = np.array([[1, 1, 1, 2, 2, 0]])
    ours = np.asarray(ly.self_attention(*(jnp.asarray(a, jnp.float32) for a in (q, k, v)), jnp.asarray(segments), None))
    for t in range(5):
        seen = [s for s in range(t + 1) if segments[0, s] == segments[0, t]]
        for n in range(4):
            scores = np.array([q[0, t, n] @ k[0, s, n // 2] for s in seen]) / 3**0.5
            weights = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(ours[0, t, n], weights @ v[0, seen, n // 2], atol=1e-5)


def test_mask_says_which_columns_of_an_adapter_are_a_rows_own():
    rngs = nnx.Rngs(0)
    linear = one_layer(ly.Linear('q_proj', 2, (5, 7), ('embed', 'heads'), False, jnp.float32, rngs), 1)
    x, a, b = (np.random.default_rng(4).normal(size=s).astype(np.float32) for s in ((2, 3, 5), (5, 4), (4, 7)))
    mask = np.array([[True, True, False, False], [False, False, False, True]])
    got = linear(x, {'a': jnp.asarray(a), 'b': jnp.asarray(b), 'mask': mask}, None)
    for row, own in enumerate(mask):
        np.testing.assert_allclose(got[row], linear(x[row], None, None) + x[row] @ a[:, own] @ b[own], atol=1e-5)


def test_adapter_adds_the_low_rank_product():
    rngs = nnx.Rngs(0)
    linear = one_layer(ly.Linear('q_proj', 2, (5, 7), ('embed', 'heads'), False, jnp.float32, rngs), 1)
    x, a, b = (np.random.default_rng(4).normal(size=s).astype(np.float32) for s in ((3, 5), (5, 2), (2, 7)))
    np.testing.assert_allclose(
        linear(x, {'a': jnp.asarray(a), 'b': jnp.asarray(b)}, None), linear(x, None, None) + x @ a @ b, atol=1e-5
    )


def test_dropout_drops_its_share_keeps_the_mean_and_differs_by_linear_map():
    x = jnp.ones((100, 100))
    dropout = ly.Dropout(jax.random.key(0), 0.25)
    q, v = np.asarray(dropout(x, 'q_proj')), np.asarray(dropout(x, 'v_proj'))
    assert set(np.unique(q).tolist()) == {0.0, np.float32(1 / 0.75)}
    # Standard error of a share of 0.25 among 10,000: 0.0043.
    assert (q == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (q != v).any()
    np.testing.assert_array_equal(q, dropout(x, 'q_proj'))

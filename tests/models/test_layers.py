import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
import torch
from flax import nnx
from tiny_llama import assert_close

from warmjax import sharding
from warmjax.models import layers as ly
from warmjax.models.attention import self_attention
from warmjax.models.spec import read_config, spec_from_config

BATCH, LENGTH, LAYER = 2, 11, 1
MAPS = {'q_proj': 7, 'k_proj': 6, 'v_proj': 4}


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
    heads = self_attention(q, k, v, jnp.ones((BATCH, LENGTH), jnp.int32), None, None)
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


def test_maps_of_one_input_each_get_their_own_adapter():
    rngs, rng = nnx.Rngs(0), np.random.default_rng(4)
    axes = ('embed', 'heads')
    maps = [
        one_layer(ly.Linear(name, 2, (5, width), axes, False, jnp.float32, rngs), 1) for name, width in MAPS.items()
    ]
    x = rng.normal(size=(3, 5)).astype(np.float32)
    # Of different ranks, and none for the second.
    a, b = (rng.normal(size=s).astype(np.float32) for s in ((5, 2), (2, 7)))
    c, d = (rng.normal(size=s).astype(np.float32) for s in ((5, 3), (3, 4)))
    adapters = {
        'q_proj': {'a': jnp.asarray(a), 'b': jnp.asarray(b)},
        'v_proj': {'a': jnp.asarray(c), 'b': jnp.asarray(d)},
    }
    q, k, v = ly.project(jnp.asarray(x), maps, adapters, None)
    base = ly.project(jnp.asarray(x), maps, {}, None)
    np.testing.assert_allclose(q, base[0] + x @ a @ b, atol=1e-5)
    np.testing.assert_array_equal(k, base[1])
    np.testing.assert_allclose(v, base[2] + x @ c @ d, atol=1e-5)


def test_linear_map_without_adapters_multiplies_by_its_kernel():
    linear = one_layer(ly.Linear('q_proj', 2, (5, 7), ('embed', 'heads'), False, jnp.float32, nnx.Rngs(0)), 1)
    x = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_allclose(linear(jnp.asarray(x)), x @ np.asarray(linear.kernel[...]).T, atol=1e-5)


def test_mask_says_which_columns_of_an_adapter_are_a_rows_own():
    rngs = nnx.Rngs(0)
    linear = one_layer(ly.Linear('q_proj', 2, (5, 7), ('embed', 'heads'), False, jnp.float32, rngs), 1)
    x, a, b = (np.random.default_rng(4).normal(size=s).astype(np.float32) for s in ((2, 3, 5), (5, 4), (4, 7)))
    mask = np.array([[True, True, False, False], [False, False, False, True]])
    (got,) = ly.project(x, (linear,), {'q_proj': {'a': jnp.asarray(a), 'b': jnp.asarray(b), 'mask': mask}}, None)
    for row, own in enumerate(mask):
        np.testing.assert_allclose(got[row], linear(x[row]) + x[row] @ a[:, own] @ b[own], atol=1e-5)


def test_gradients_of_an_adapter_are_those_of_its_two_products():
    linear = one_layer(ly.Linear('q_proj', 2, (5, 7), ('embed', 'heads'), False, jnp.float32, nnx.Rngs(0)), 1)
    x, a, b = (np.random.default_rng(5).normal(size=s).astype(np.float32) for s in ((2, 3, 5), (5, 4), (4, 7)))

    def ours(x, a, b):
        return jnp.sum(jnp.sin(ly.project(x, (linear,), {'q_proj': {'a': a, 'b': b}}, None)[0]))

    def plain(x, a, b):
        return jnp.sum(jnp.sin(linear(x) + x @ a @ b))

    found, wanted = (jax.grad(f, (0, 1, 2))(*map(jnp.asarray, (x, a, b))) for f in (ours, plain))
    jax.tree.map(lambda mine, theirs: np.testing.assert_allclose(mine, theirs, atol=1e-5), found, wanted)


def test_dropout_drops_its_share_keeps_the_mean_and_differs_by_input():
    x = jnp.ones((100, 100))
    dropout = ly.Dropout(jax.random.key(0), 0.25)
    q, o = np.asarray(dropout(x, 'q_proj')), np.asarray(dropout(x, 'o_proj'))
    assert set(np.unique(q).tolist()) == {0.0, np.float32(1 / 0.75)}
    # Standard error of a share of 0.25 among 10,000: 0.0043.
    assert (q == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (q != o).any()
    np.testing.assert_array_equal(q, dropout(x, 'q_proj'))


def test_dropped_entries_are_independent_of_their_neighbours_and_of_other_keys():
    x = jnp.ones((2, 300, 200))
    one, other = (np.asarray(ly.Dropout(jax.random.key(i), 0.1)(x, 'q_proj')) == 0 for i in (0, 1))
    pairs = [(one[:, 1:], one[:, :-1]), (one[..., 1:], one[..., :-1]), (one[:, 1:, 1:], one[:, :-1, :-1])]
    pairs += [(one[..., 2::2], one[..., :-2:2]), (one[0], one[1]), (one, other)]
    for a, b in pairs:
        # Both are dropped in 1% of the places; 5 standard errors of that share.
        assert (a & b).mean() == pytest.approx(0.01, abs=5 * (0.01 * 0.99 / a.size) ** 0.5)
    # Counts of a row are binomial: none of 600 rows lies beyond 5 standard deviations.
    assert np.abs(one.mean(axis=-1) - 0.1).max() < 5 * (0.1 * 0.9 / 200) ** 0.5


@pytest.mark.parametrize('sizes', [(2, 4, 1), (1, 2, 4)])
def test_dropout_is_the_same_on_any_mesh(sizes):
    x = jnp.ones((8, 6, 16))
    dropout = ly.Dropout(jax.random.key(3), 0.5)
    mesh = sharding.make_mesh(sharding.MeshSettings(*sizes))
    cut = jax.device_put(x, sharding.named(mesh, ('batch', None, 'mlp'), x.shape, 'x'))
    np.testing.assert_array_equal(jax.jit(lambda x: dropout(x, 'down_proj'))(cut), dropout(x, 'down_proj'))

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
from flax import nnx
from test_spec import LLAMA_3_1_8B_SPEC
from tiny_llama import assert_close, logits

from warmjax import sharding
from warmjax.models import cache as kv
from warmjax.models import decoder
from warmjax.models.layers import LINEARS, Dropout, rotary_angles

LENGTH = 12


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    tiny_llama.save(folder)
    return tiny_llama.load(folder)


@pytest.fixture(scope='module')
def tokens():
    return tiny_llama.random_tokens(3, LENGTH)


@pytest.fixture(scope='module')
def random_adapters(model):
    """Adapters on every linear map, large enough to move the logits."""
    rng = np.random.default_rng(5)
    sizes = {'q_proj': (24, 40), 'k_proj': (24, 20), 'v_proj': (24, 20), 'o_proj': (40, 24)}
    sizes |= {'gate_proj': (24, 36), 'up_proj': (24, 36), 'down_proj': (36, 24)}
    assert set(sizes) == set(LINEARS)
    return {
        name: {
            'a': jnp.asarray(rng.normal(size=(3, size_in, 2)), jnp.float32),
            'b': jnp.asarray(rng.normal(size=(3, 2, size_out)) * 0.1, jnp.float32),
        }
        for name, (size_in, size_out) in sizes.items()
    }


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'tie_word_embeddings': True},
        {'num_key_value_heads': 1, 'head_dim': 14},
        {'rope_parameters': tiny_llama.LLAMA3_ROPE},
    ],
    ids=['untied', 'tied', 'one kv head', 'llama3 rope'],
)
def test_logits_equal_the_twins(tmp_path, changes):
    theirs = tiny_llama.save(tmp_path, **changes)
    # 60 tokens: beyond the 32 of the scaled rope's original length.
    tokens = tiny_llama.random_tokens(2, 60, seed=1)
    assert_close(logits(tiny_llama.load(tmp_path), tokens), tiny_llama.twin_logits(theirs, tokens))


def test_real_weights_reproduce_the_golden_logits(shared_data):
    golden = np.load(shared_data / 'stories260K' / 'golden_greedy.npz')
    model = tiny_llama.load(shared_data / 'stories260K' / 'hf')
    np.testing.assert_allclose(logits(model, golden['tokens'][None])[0], golden['logits'], atol=1e-4)


@functools.partial(jax.jit, static_argnames=('num_slots', 'unroll'))
def prefill(model, tokens, lengths, adapters, num_slots, unroll):
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    is_token = positions < lengths[:, None]
    x, keys_values = model(tokens, positions, is_token.astype(jnp.int32), adapters, None, 'none')
    last = jnp.take_along_axis(x, lengths[:, None, None] - 1, axis=1)[:, 0]
    return model.logits(last), kv.grow(kv.fill(*keys_values, lengths, jnp.float32, unroll), num_slots)


@jax.jit
def step(model, tokens, cache, adapters):
    x, cache = model.step(tokens, cache, adapters)
    return model.logits(x), cache


def stepwise(model, tokens, lengths, adapters, unroll) -> np.ndarray:
    """Computes logits [B, steps, V]: row b's prompt is its first `lengths[b]` tokens, the others come one by one."""
    T, longest = tokens.shape[1], max(lengths)
    out, cache = prefill(model, tokens[:, :longest], np.array(lengths), adapters, T, unroll)
    stepper, adapters = model.for_steps(adapters, unroll)
    outs = [out]
    for i in range(T - longest):
        out, cache = step(stepper, np.array([row[n + i] for row, n in zip(tokens, lengths)]), cache, adapters)
        outs.append(out)
    return np.stack(outs, axis=1)


@pytest.mark.parametrize('with_adapters', [False, True], ids=['base', 'adapters'])
@pytest.mark.parametrize('unroll', [False, True], ids=['scanned', 'unrolled'])
def test_prefill_and_steps_equal_one_full_forward(model, tokens, random_adapters, unroll, with_adapters):
    """Each row has its own place: what stands behind a shorter prompt in the same batch does not matter."""
    adapters = random_adapters if with_adapters else {}
    whole, lengths = logits(model, tokens, adapters=adapters), (5, 8, 2)
    got = stepwise(model, tokens, lengths, adapters, unroll)
    for row, length in enumerate(lengths):
        assert_close(got[row], whole[row, length - 1 : length - 1 + got.shape[1]])


def test_packed_sequences_equal_sequences_of_their_own(model, tokens):
    parts = [tokens[0, :4], tokens[1, :5], tokens[2, :2]]
    packed = np.concatenate([*parts, [13]])[None]
    segments = np.array([[1] * 4 + [2] * 5 + [3] * 2 + [0]])
    positions = np.array([[*range(4), *range(5), *range(2), 0]])
    got = logits(model, packed, positions, segments)[0]
    for part, span in zip(parts, (slice(0, 4), slice(4, 9), slice(9, 11)), strict=True):
        assert_close(got[span], logits(model, part[None])[0])


def test_what_stands_in_padding_does_not_matter(model, tokens):
    segments = np.array([[1] * 7 + [0] * 5])
    other = tokens[:1].copy()
    other[0, 7:] = 3
    assert (other != tokens[:1]).any()
    ours, theirs = (logits(model, rows, segment_ids=segments)[:, :7] for rows in (tokens[:1], other))
    np.testing.assert_array_equal(ours, theirs)


def test_no_logit_depends_on_a_later_token_and_the_last_on_every_earlier_one(model):
    """Causality by gradient with respect to the embeddings of the tokens."""
    positions, segments = jnp.arange(6)[None], jnp.ones((1, 6), jnp.int32)
    tokens = jnp.arange(6)[None]

    @jax.jit
    def influence(table, at):
        def one(table):
            graphdef, embed, rest = nnx.split(model, lambda path, _: path == ('embed_tokens',), ...)
            embed = jax.tree.map(lambda _: table, embed)
            x, _ = nnx.merge(graphdef, embed, rest)(tokens, positions, segments, {}, None, 'none')
            return jnp.sum(x[0, at])

        return jnp.abs(jax.grad(one)(table)[:6]).sum(axis=-1)

    for at in (2, 5):
        felt = np.asarray(influence(model.embed_tokens[...], at))
        assert (felt[: at + 1] > 0).all()
        assert (felt[at + 1 :] == 0).all()


def test_no_remat_policy_changes_loss_or_gradient(model, tokens, random_adapters):
    positions = jnp.broadcast_to(jnp.arange(LENGTH), tokens.shape)

    @functools.partial(jax.jit, static_argnames='remat')
    @jax.value_and_grad
    def loss(adapters, remat):
        x, _ = model(tokens, positions, jnp.ones_like(positions), adapters, None, remat)
        return jnp.mean(model.logits(x) ** 2)

    adapters = {name: random_adapters[name] for name in ('v_proj', 'down_proj')}
    kept, kept_grad = loss(adapters, remat='none')
    for remat in ('names', 'attention', 'full'):
        again, again_grad = loss(adapters, remat=remat)
        assert float(kept) == pytest.approx(float(again), rel=1e-6)
        jax.tree.map(lambda a, b: assert_close(a, b, 1e-5), again_grad, kept_grad)


def test_scan_over_layers_equals_a_loop(model, tokens, random_adapters):
    positions = jnp.broadcast_to(jnp.arange(LENGTH), tokens.shape)
    segments = jnp.ones_like(positions)
    graphdef, states = nnx.split(model.layers)
    x = model.embed_tokens[...][jnp.asarray(tokens)]
    angles = rotary_angles(model.spec, positions)
    for i in range(model.spec.num_layers):
        state, adapters = jax.tree.map(lambda leaf, i=i: leaf[i], (states, random_adapters))
        x, _ = nnx.merge(graphdef, state)(x, angles, segments, None, adapters, None)
    assert_close(model.logits(model.norm(x)), logits(model, tokens, adapters=random_adapters), 1e-5)


def test_dropout_follows_its_key_alone(model, tokens, random_adapters):
    positions = jnp.broadcast_to(jnp.arange(LENGTH), tokens.shape)
    adapters = {'q_proj': random_adapters['q_proj']}

    @jax.jit
    def hidden(key):
        dropout = Dropout(key, 0.5)
        return model(tokens, positions, jnp.ones_like(positions), adapters, dropout, 'none')[0]

    one, same, other = (np.asarray(hidden(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-2


@pytest.mark.parametrize(
    ('spec', 'count'),
    [
        (LLAMA_3_1_8B_SPEC, 8_030_261_248),
        (
            dataclasses.replace(LLAMA_3_1_8B_SPEC, width=8192, num_layers=80, num_heads=64, mlp_dim=28672),
            70_553_706_496,
        ),
    ],
    ids=['Llama-3.1-8B', 'Llama-3.1-70B'],
)
def test_released_spec_has_the_published_number_of_parameters(spec, count):
    state = nnx.state(decoder.abstract(spec, jnp.bfloat16))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == count
    assert spec.num_matmul_params < count


@pytest.mark.parametrize('sizes', [(1, 4, 2), (1, 2, 4)])
def test_sharded_decoder_equals_the_unsharded_one(tmp_path, sizes):
    # 88 entries divide by every mesh here; the two heads of keys do not divide by four and are cut within.
    tiny_llama.save(tmp_path, vocab_size=88)
    tokens = tiny_llama.random_tokens(8, LENGTH) % 88
    mesh = tiny_llama.make_mesh(*sizes)
    cut = tiny_llama.load(tmp_path, mesh)
    kernel = cut.layers.mlp.gate_proj.kernel.get_value()
    assert kernel.addressable_shards[0].data.shape == (3, 36 // sizes[2], 24 // sizes[1])
    with jax.set_mesh(mesh):
        got = logits(cut, sharding.put_batch({'tokens': tokens}, mesh)['tokens'])
    assert_close(got, logits(tiny_llama.load(tmp_path), tokens), 1e-5)


def test_made_decoder_is_the_same_on_any_mesh():
    spec = dataclasses.replace(
        LLAMA_3_1_8B_SPEC, vocab_size=88, width=24, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=10, mlp_dim=36
    )
    mesh = tiny_llama.make_mesh(2, 2, 2)
    alone = nnx.state(decoder.Decoder(spec, jnp.float32, nnx.Rngs(3)))
    cut = nnx.state(decoder.make(spec, jnp.float32, 3, lambda state: sharding.state_shardings(state, mesh)))
    assert cut.layers.mlp.gate_proj.kernel.addressable_shards[0].data.shape == (2, 18, 12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone, cut)
    # Every linear map has a standard deviation of 1 / sqrt(in), so that activations keep their size.
    assert float(jnp.std(alone.layers.mlp.down_proj.kernel[...])) == pytest.approx(36**-0.5, rel=0.1)

import dataclasses

import jax
import numpy as np
import pytest
import tiny_llama
from jax.sharding import PartitionSpec
from tiny_training import LORA

from warmjax.lora import adapters
from warmjax.lora.placement import LoraSettings
from warmjax.models.layers import LINEARS

TARGETS = ('q_proj', 'o_proj', 'down_proj')
SETTINGS = dataclasses.replace(LORA, rank=4, alpha=8.0, dropout=0.0, targets=TARGETS)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    tiny_llama.save(folder, vocab_size=88)
    return tiny_llama.load(folder)


@pytest.fixture(scope='module')
def fresh(model):
    return adapters.init(model, SETTINGS, seed=0, mesh=tiny_llama.make_mesh())


def test_new_adapters_change_no_logit_at_all(model, fresh):
    tokens = tiny_llama.random_tokens(2, 9) % 88
    base = tiny_llama.logits(model, tokens)
    np.testing.assert_array_equal(tiny_llama.logits(model, tokens, adapters=adapters.scaled(fresh, SETTINGS)), base)


@pytest.mark.parametrize('name', TARGETS)
def test_a_is_uniform_within_pefts_bounds_and_b_is_zero(fresh, name):
    fan_in = {'q_proj': 24, 'o_proj': 40, 'down_proj': 36}[name]
    a, b = np.asarray(fresh[name]['a']), np.asarray(fresh[name]['b'])
    assert a.shape == (3, fan_in, 4) and b.shape[:2] == (3, 4)
    assert a.dtype == b.dtype == np.float32
    bound = fan_in**-0.5
    assert 0.9 * bound < np.abs(a).max() <= bound
    # A uniform's standard deviation is bound / sqrt(3); 10% is more than three standard errors of 288 entries.
    assert a.std() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not b.any()


def test_no_two_linear_maps_or_layers_start_alike(fresh):
    a = [np.asarray(fresh[name]['a'])[layer, :24].tobytes() for name in TARGETS for layer in range(3)]
    assert len(set(a)) == len(a)


def test_a_maps_start_does_not_depend_on_the_other_targets(model, fresh):
    few = dataclasses.replace(LORA, rank=4, alpha=8.0, dropout=0.0, targets=('down_proj',))
    chosen = adapters.init(model, few, seed=0, mesh=tiny_llama.make_mesh())
    assert set(chosen) == {'down_proj'}
    np.testing.assert_array_equal(chosen['down_proj']['a'], fresh['down_proj']['a'])


def test_seed_decides_the_start(model, fresh):
    few = dataclasses.replace(LORA, rank=4, alpha=8.0, dropout=0.0, targets=('down_proj',))
    other = adapters.init(model, few, seed=1, mesh=tiny_llama.make_mesh())
    assert not np.allclose(other['down_proj']['a'], fresh['down_proj']['a'])


def test_sharded_start_equals_the_unsharded_one(model, fresh):
    cut = adapters.init(model, SETTINGS, seed=0, mesh=tiny_llama.make_mesh(2, 2, 2))
    jax.tree.map(np.testing.assert_array_equal, cut, fresh)
    assert cut['q_proj']['a'].sharding.spec == PartitionSpec(None, ('tensor', 'fsdp'), None)
    assert cut['q_proj']['b'].addressable_shards[0].data.shape == (3, 4, 10)
    assert cut['down_proj']['a'].addressable_shards[0].data.shape == (3, 9, 4)


def test_mesh_that_does_not_divide_an_adapter_further_cuts_it_as_its_linear_map(model):
    cut = adapters.abstract(model, SETTINGS, tiny_llama.make_mesh(1, 4, 2))
    assert cut['q_proj']['b'].sharding.spec == PartitionSpec(None, None, ('tensor', 'fsdp'))
    assert cut['down_proj']['a'].sharding.spec == PartitionSpec(None, 'tensor', None)


def test_scaled_multiplies_b_alone():
    pair = {'a': np.ones((1, 2, 1)), 'b': np.ones((1, 1, 2))}
    got = adapters.scaled({'q_proj': pair}, SETTINGS)['q_proj']
    assert got['a'].tolist() == [[[1.0], [1.0]]]
    assert got['b'].tolist() == [[[2.0, 2.0]]]


def test_linear_maps_know_their_widths_and_axes(model):
    maps = adapters.linear_maps(model)
    assert list(maps) == list(LINEARS)
    assert (maps['k_proj'].dims, maps['k_proj'].axes) == ((24, 20), ('embed', 'kv_heads'))
    assert (maps['down_proj'].dims, maps['down_proj'].axes) == ((36, 24), ('mlp', 'embed'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'targets': ('q_proj', 'c_attn')}, r"lora\.targets: expected some of q_proj, .*, got \['q_proj', 'c_attn'\]"),
        ({'targets': ()}, r'lora\.targets: expected some of'),
        ({'rank': 0}, 'expected rank >= 1 and dropout in'),
        ({'rank_pattern': (('q_proj', 0),)}, 'expected rank >= 1 and dropout in'),
        ({'dropout': 1.0}, 'expected rank >= 1 and dropout in'),
        (
            {'targets': ('layers.[0.up_proj',)},
            r"lora: expected names or regular expressions, got 'layers\.\[0\.up_proj'",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    values = dataclasses.asdict(LORA) | change
    with pytest.raises(ValueError, match=message):
        LoraSettings(**values)

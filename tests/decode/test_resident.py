import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_engine
import tiny_llama
from tiny_engine import SMALL, make_engine, make_requests, texts
from tiny_llama import assert_close

from warmjax.decode import resident
from warmjax.lora.adapters import linear_maps

TARGETS = {'warm': (('q_proj', 'v_proj', 'down_proj'), 3), 'cold': (('v_proj', 'up_proj'), 2), 'late': (('o_proj',), 4)}
"""Adapters of different maps and ranks."""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    tiny_llama.save(folder, **tiny_engine.SIZES)
    return folder


@pytest.fixture(scope='module')
def model(folder):
    return tiny_llama.load(folder)


@pytest.fixture(scope='module')
def adapters(model) -> dict:
    rng, maps, layers = np.random.default_rng(0), linear_maps(model), model.spec.num_layers
    return {
        name: {
            target: {
                'a': rng.normal(size=(layers, maps[target].dims[0], rank)).astype(np.float32) * 0.3,
                'b': rng.normal(size=(layers, rank, maps[target].dims[1])).astype(np.float32) * 0.3,
            }
            for target in targets
        }
        for name, (targets, rank) in TARGETS.items()
    }


def of_arms(count: int) -> list:
    """The same prompts asked of the base model and of each adapter, one after the other."""
    return [
        dataclasses.replace(request, id=f'{adapter} {request.id}', adapter=adapter)
        for request in make_requests(count)
        for adapter in (None, *TARGETS)
    ]


def test_rows_of_several_adapters_equal_rows_of_each_alone(model, adapters):
    tokens, names = tiny_llama.random_tokens(4, 9) % 88, [None, *TARGETS]
    side_by_side = resident.stack(list(adapters.values()), list(adapters), model, tiny_llama.make_mesh())
    got = tiny_llama.logits(model, tokens, adapters=side_by_side.for_rows(jnp.array([-1, 0, 1, 2])))
    for row, name in enumerate(names):
        alone = tiny_llama.logits(model, tokens[row : row + 1], adapters=adapters.get(name))
        assert_close(got[row : row + 1], alone, 1e-5)
    assert np.abs(got - tiny_llama.logits(model, tokens))[1:].max(axis=(1, 2)).min() > 0.1


@pytest.fixture(scope='module')
def together(model, adapters):
    """The texts of all arms in one pass."""
    return texts(make_engine(model, adapters=adapters), of_arms(4))


def test_texts_of_all_arms_in_one_pass_equal_those_of_a_pass_of_their_own(model, adapters, together):
    assert len({str(text) for text in together.values()}) > 12
    for name in (None, 'cold'):
        one = make_engine(model, adapters={} if name is None else {name: adapters[name]})
        mine = [request for request in of_arms(4) if request.adapter == name]
        assert texts(one, mine) == {request.id: together[request.id] for request in mine}


def test_scanned_layers_on_a_mesh_answer_all_arms_alike(folder, adapters, together, monkeypatch):
    """Adapters are cut over the mesh as their linear maps are."""
    monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
    mesh = tiny_llama.make_mesh(2, 2, 2)
    engine = make_engine(tiny_llama.load(folder, mesh), mesh=mesh, adapters=adapters)
    pair = engine._resident.pairs['up_proj']
    assert pair['a'].addressable_shards[0].data.shape == (3, 12, 2)
    assert pair['b'].addressable_shards[0].data.shape == (3, 2, 18)
    assert texts(engine, of_arms(4)) == together


def test_adapters_of_another_base_are_named_together(model, adapters):
    other = {'q_proj': {'a': np.zeros((3, 25, 2), np.float32), 'b': np.zeros((3, 2, 40), np.float32)}}
    torn = {'o_proj': {'a': np.zeros((3, 40, 2), np.float32), 'b': np.zeros((3, 4, 24), np.float32)}}
    with pytest.raises(ValueError, match=r'(?s)this base model, got\n  other: q_proj expected 3 .*\n  torn: o_proj'):
        make_engine(model, SMALL, adapters=adapters | {'other': other, 'torn': torn})

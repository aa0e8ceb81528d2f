"""A text is its request's alone: the same by itself, in any order, beside anybody, after a kill, on 1 device or 8."""

import dataclasses

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_engine
import tiny_llama
import tiny_training
from hypothesis import strategies as st
from tiny_engine import DRAWN, MAX_NEW, SMALL, drive, texts

from warmjax.decode.engine import Engine, is_batch_invariant
from warmjax.decode.requests import Request
from warmjax.decode.sampling import row_key
from warmjax.lora import adapters

ONE_LENGTH = dataclasses.replace(SMALL, cache_lengths=(20,))
COUNT = 24
BEGINNING = [7, 70, 17, 71]


def make_requests() -> list[Request]:
    """Makes prompts of all arms, every third of which begins as others do, some hotter than others."""
    rng = np.random.default_rng(4)
    requests = []
    for i in range(COUNT):
        shared = 4 if i % 3 == 0 else 0
        tokens = [*BEGINNING[:shared], *rng.integers(6, 88, rng.integers(1, 9 - shared)).tolist()]
        how = dataclasses.replace(DRAWN, temperature=(0.5, 0.8, 1.2)[i % 3])
        adapter = (None, 'warm', 'cold')[rng.integers(3)]
        requests.append(Request(f'r{i}', tokens, row_key(0, f'r{i}', 0), how, MAX_NEW, adapter, shared))
    return requests


@pytest.fixture(scope='module')
def start(tmp_path_factory):
    """Starts an engine on so many devices."""
    folder = tmp_path_factory.mktemp('tiny')
    tiny_llama.save(folder, **tiny_engine.SIZES)
    meshes = {1: tiny_llama.make_mesh(), 8: tiny_llama.make_mesh(2, 2, 2)}
    models = {count: tiny_llama.load(folder, mesh) for count, mesh in meshes.items()}
    arms = {}
    for seed, name in enumerate(('warm', 'cold')):
        arm = adapters.init(models[1], tiny_training.LORA, seed, meshes[1])
        arms[name] = {target: pair | {'b': jnp.ones_like(pair['b']) * 0.05} for target, pair in arm.items()}

    def start(devices: int) -> Engine:
        return tiny_engine.make_engine(models[devices], ONE_LENGTH, meshes[devices], adapters=arms)

    return start


@pytest.fixture(scope='module')
def alone(start):
    """The text of each request when nothing else is asked, of an engine that shares no beginning before it is asked."""
    engine = start(1)
    return {id: text for request in make_requests() for id, text in texts(engine, [request]).items()}


def test_texts_differ_by_arm_and_prompt(alone):
    assert len({tuple(tokens) for tokens, _ in alone.values()}) > 0.8 * COUNT
    assert {finish for _, finish in alone.values()} == {'stop', 'length'}
    assert is_batch_invariant(jnp.float32, ONE_LENGTH)


@hypothesis.given(
    order=st.lists(st.integers(0, COUNT - 1), unique=True, min_size=1),
    devices=st.sampled_from([1, 8]),
    waves=st.integers(1, 6),
    killed_after=st.none() | st.integers(1, 6),
)
@hypothesis.settings(max_examples=30)
def test_text_is_its_requests_alone(start, alone, order, devices, waves, killed_after):
    requests = make_requests()
    asked = [requests[i] for i in order]
    found = {}
    if killed_after is not None:
        begun = start(devices)
        for request in asked:
            begun.submit(request)
        for _ in range(killed_after):
            drive(begun, found)
        found = {id: text for id, text in found.items() if text[1]}  # what had not ended is lost
        asked = [request for request in asked if request.id not in found]
    engine = start(devices)
    for request in asked:
        engine.submit(request)
        for _ in range(waves if engine.num_waiting >= waves else 0):
            drive(engine, found)
    while not engine.is_idle:
        drive(engine, found)
    assert found == {f'r{i}': alone[f'r{i}'] for i in order}

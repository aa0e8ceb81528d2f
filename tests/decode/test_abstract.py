import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest
import tiny_engine
import tiny_training
from tiny_engine import SMALL, STOP

from warmjax import sharding
from warmjax.decode import abstract
from warmjax.decode.abstract import Scoring
from warmjax.lora import adapters
from warmjax.models import decoder
from warmjax.plan import topology
from warmjax.sharding import MeshSettings

SETTINGS = dataclasses.replace(SMALL, buckets=(8,), cache_lengths=(20,))


def make_programs(mesh, settings, dtype=jnp.float32) -> dict[str, abstract.Program]:
    return abstract.abstract_programs(
        tiny_training.SPEC, dtype, settings, tiny_training.LORA, 2, len(STOP), Scoring(8, 32), mesh
    )


@pytest.mark.parametrize(
    ('sizes', 'dtype', 'unroll'),
    [((1, 1, 1), 'float32', True), ((2, 2, 2), 'int8', False)],
    ids=['unrolled', 'scanned'],
)
def test_programs_are_lowered_with_what_an_engine_calls_them_with(sizes, dtype, unroll, monkeypatch):
    monkeypatch.setattr(decoder, 'unrolls_steps', lambda *_: unroll)
    mesh = tiny_training.make_mesh(*sizes)
    model = tiny_training.make_model(mesh)
    settings = dataclasses.replace(SETTINGS, cache_dtype=dtype)
    arms = {name: adapters.init(model, tiny_training.LORA, i, mesh) for i, name in enumerate(('warm', 'cold'))}
    engine = tiny_engine.make_engine(model, settings, mesh, adapters=arms)
    called = {}

    def noted(name, program):
        def call(*args):
            called[name] = described(args)  # before the slots are donated
            return program(*args)

        return call

    engine.programs = engine.programs._replace(
        prefill=noted('prefill 8', engine.programs.prefill), decode=noted('decode 20', engine.programs.decode)
    )
    tiny_engine.texts(engine, tiny_engine.make_requests(3))
    programs = make_programs(mesh, settings)
    assert list(programs) == ['prefill 8', 'decode 20', 'score 32']
    for name, (structure, leaves) in called.items():
        expected_structure, expected = described(programs[name].args)
        assert expected_structure == structure
        for (shape, dtype, layout), (expected_shape, expected_dtype, expected_layout) in zip(leaves, expected):
            assert (shape, dtype) == (expected_shape, expected_dtype), name
            assert None in (layout, expected_layout) or layout.is_equivalent_to(expected_layout, len(shape)), name
    for name, program in programs.items():
        assert program.lower().compile().memory_analysis().argument_size_in_bytes > 1000, name


@pytest.mark.skipif(not topology.is_available(), reason="libtpu is not installed: pip install 'warmjax[tpu]'")
@pytest.mark.parametrize('dtype', ['bfloat16', 'int8'])
def test_programs_compile_for_tpus_and_decoding_writes_its_slots_in_place(dtype):
    mesh = sharding.make_mesh(MeshSettings(1, 4, 2), topology.devices('v5e:2x4'))
    settings = dataclasses.replace(SETTINGS, cache_dtype=dtype)
    programs = make_programs(mesh, settings, jnp.bfloat16)
    names = ['decode 20'] if dtype == 'bfloat16' else list(programs)
    compiled = {name: programs[name].lower().compile() for name in names}
    slots = programs['decode 20'].args[2]
    size = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(slots))
    assert compiled['decode 20'].memory_analysis().alias_size_in_bytes >= size > 1000


def described(args: tuple) -> tuple[str, list]:
    """Structure, and shape, type and layout of every leaf that is an array."""
    leaves, structure = jax.tree.flatten(args)
    arrays = [x for x in leaves if hasattr(x, 'shape')]
    return str(structure), [(x.shape, jnp.dtype(x.dtype), getattr(x, 'sharding', None)) for x in arrays]


def test_mesh_that_does_not_divide_the_slots_is_refused():
    with pytest.raises(ValueError, match=r"expected axis 'batch' of size 3 to be cut into 8"):
        make_programs(tiny_training.make_mesh(8, 1, 1), dataclasses.replace(SETTINGS, prefill_batch=3))

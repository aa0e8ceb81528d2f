"""Meshes by arithmetic: what they weigh, and that the promising ones come first."""

import dataclasses
import functools

import jax.numpy as jnp
import pytest

from configs import paper
from warmjax import budget, experiment, sharding
from warmjax.models.released import RELEASED
from warmjax.plan import chips, meshes, programs, topology, workload
from warmjax.plan.programs import Base
from warmjax.plan.workload import Lengths
from warmjax.sharding import MeshSettings

LENGTHS = Lengths(225, 0)
EIGHT = Base(RELEASED['Llama-3.1-8B'], jnp.bfloat16, 'none')


def make_slice(count: int, kind: str = 'TPU v5 lite') -> topology.Slice:
    return topology.Slice('made', (None,) * count, chips.CHIPS[kind], count, (count,), True)


@functools.cache
def make_load(name: str = 'llama3.1-8b') -> tuple[experiment.Experiment, workload.Workload]:
    setup = experiment.from_config(paper.get_config(name), 'W')
    return setup, workload.of(setup, budget.count_prompts(setup), LENGTHS)


def ranked(name: str, stage: str, target: topology.Slice) -> list[meshes.Guess]:
    setup, load = make_load(name)
    return meshes.ranked(setup, workload.base_model(setup), stage, target, load)


@pytest.mark.parametrize('quantization', ['none', 'int8', 'nf4'])
def test_weights_weigh_what_their_shapes_say(quantization):
    base = dataclasses.replace(EIGHT, quantization=quantization)
    mesh = MeshSettings(1, 4, 2)
    made = programs.train_program(base, make_load()[0].train, sharding.make_mesh(mesh))
    assert meshes.weight_bytes(base, mesh) == pytest.approx(made.held()['weights'], rel=0.01)


def test_meshes_make_the_slice_and_cut_no_step_into_more_parts_than_it_has_conversations():
    found = [one.mesh for one in ranked('llama3.1-8b', 'train', make_slice(64))]
    assert {mesh.data * mesh.fsdp * mesh.tensor for mesh in found} == {64}
    assert max(mesh.data * mesh.fsdp for mesh in found) == 16


def test_model_that_leaves_no_room_for_copies_is_cut_over_all_chips():
    assert ranked('llama3.1-70b', 'train', make_slice(16))[0].mesh.data == 1
    assert ranked('llama3.1-8b', 'generate', make_slice(8))[0].mesh == MeshSettings(1, 1, 8)


def test_least_is_less_than_what_was_compiled():
    """Beside the GiB a chip that were compiled: `benchmarks/plan.jsonl`, and `launch.plan` on v5e:4x4."""
    setup, load = make_load()
    for mesh, found in ((MeshSettings(1, 16, 1), 4.15), (MeshSettings(8, 1, 2), 9.26)):
        one = meshes.guess(setup, EIGHT, 'train', mesh, make_slice(16), load)
        assert 0.8 * found < one.bytes / 2**30 < found


def test_slice_without_room_still_has_its_meshes_and_the_tightest_come_first():
    found = ranked('llama3.1-70b', 'generate', make_slice(4))
    assert found[0].bytes > 16 * 2**30
    assert found[0].mesh.data == 1 and found[-1].mesh.data == 4


def test_layers_computed_again_take_longer_and_keep_less():
    setup, load = make_load()
    again = dataclasses.replace(setup, train=dataclasses.replace(setup.train, remat='full'))
    one, other = (
        meshes.guess(each, EIGHT, 'train', MeshSettings(8, 1, 2), make_slice(16), load) for each in (setup, again)
    )
    assert other.seconds > 1.3 * one.seconds and other.bytes < one.bytes

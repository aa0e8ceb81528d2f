"""Meshes by arithmetic: what they weigh, and that the promising ones come first."""

import dataclasses

import jax.numpy as jnp
import pytest

from configs import paper
from warmjax import experiment, sharding
from warmjax.models.released import RELEASED
from warmjax.plan import chips, meshes, programs, topology, workload
from warmjax.plan.programs import Base
from warmjax.plan.workload import Lengths
from warmjax.sharding import MeshSettings

LENGTHS = Lengths(225, 0)
EIGHT = Base(RELEASED['Llama-3.1-8B'], jnp.bfloat16, 'none')


def make_slice(count: int, kind: str = 'TPU v5 lite') -> topology.Slice:
    return topology.Slice('made', (None,) * count, chips.CHIPS[kind], count, (count,), True)


def make_setup(name: str = 'llama3.1-8b') -> experiment.Experiment:
    return experiment.from_config(paper.get_config(name), 'W')


def ranked(name: str, stage: str, target: topology.Slice) -> list[meshes.Guess]:
    setup = make_setup(name)
    return meshes.ranked(setup, workload.base_model(setup), stage, target, workload.of(setup, LENGTHS))


@pytest.mark.parametrize('quantization', ['none', 'int8', 'nf4'])
def test_weights_weigh_what_their_shapes_say(quantization):
    base = dataclasses.replace(EIGHT, quantization=quantization)
    mesh = MeshSettings(1, 4, 2)
    made = programs.train_program(base, make_setup().train, sharding.make_mesh(mesh))
    assert meshes.weight_bytes(base, mesh) == pytest.approx(made.held()['weights'], rel=0.01)


def test_meshes_make_the_slice_and_cut_no_step_into_more_parts_than_it_has_conversations():
    found = [one.mesh for one in ranked('llama3.1-8b', 'train', make_slice(64))]
    assert {mesh.data * mesh.fsdp * mesh.tensor for mesh in found} == {64}
    assert max(mesh.data * mesh.fsdp for mesh in found) == 16


def test_model_that_leaves_no_room_for_copies_is_cut_over_all_chips():
    assert ranked('llama3.1-70b', 'train', make_slice(16))[0].mesh.data == 1
    assert ranked('llama3.1-8b', 'generate', make_slice(8))[0].mesh == MeshSettings(1, 1, 8)


def test_mesh_whose_weights_alone_do_not_fit_is_left_out():
    assert ranked('llama3.1-70b', 'generate', make_slice(8)) == []

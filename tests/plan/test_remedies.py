"""What is proposed where a stage does not fit; programs are made up, and need what their settings say."""

import dataclasses

import pytest
from made_planner import make_planner

from warmjax.plan import remedies, study, topology
from warmjax.sharding import MeshSettings

MESH = MeshSettings(1, 8, 1)
WEIGHTS = {'none': 60, 'int8': 30, 'nf4': 16}
"""GiB on each of eight devices."""


def needs(setup, use, mesh, target):
    """GiB by what is kept of the layers and the bits of the kernels; work by remat and the mesh."""
    kept = {'none': 60, 'names': 40, 'attention': 30, 'full': 10}[setup.train.remat]
    kept = kept * setup.train.micro_batch / 16
    slower = {'full': 1.5, 'attention': 1.2}.get(setup.train.remat, 1.0)
    return 8 * WEIGHTS[setup.model.quantization] / (mesh.fsdp * mesh.tensor) + kept / mesh.tensor, slower


def find(needs=needs, stage='train', slice_name='h100:8', mesh=MESH, jobs=1):
    planner = make_planner(needs, name='llama3.1-8b', jobs=jobs)
    setup = dataclasses.replace(planner.setup, train=dataclasses.replace(planner.setup.train, micro_batch=16))
    planner = dataclasses.replace(planner, setup=setup)
    target = topology.find(slice_name)
    broken = planner.stage(stage, target, mesh)
    assert not broken.fits
    del planner.compiled[:]
    return remedies.find(planner, target, broken), planner


@pytest.mark.parametrize('jobs', [1, 2])
def test_three_changes_that_fit_are_proposed_the_cheapest_first(jobs):
    found, planner = find(jobs=jobs)
    assert len(found) == remedies.ENOUGH and all(one.plan.fits for one in found)
    costs = [one.plan.seconds * 8 for one in found]
    assert costs == sorted(costs)
    assert len({one.change.flags for one in found}) == 3
    # Attention's 90 GiB do not fit; nothing is proposed that was not compiled.
    assert all(one.change.settings != {'train.remat': 'attention'} for one in found)
    compiled = {mesh for _, mesh, *_ in planner.compiled}
    assert {one.change.mesh for one in found} <= compiled


def test_each_change_is_one_thing_as_it_is_given_by_flags():
    found, _ = find()
    for one in found:
        flags = one.change.flags.split()
        changed = len(one.change.settings) + (one.change.mesh != MESH) + (one.change.slice_name != 'h100:8')
        assert changed == 1 and flags[-2:] == ['--topology=h100:8', f'--mesh={study.shape(one.change.mesh)}']


def test_nothing_is_proposed_where_nothing_fits_and_the_search_for_it_ends():
    found, planner = find(needs=lambda *_: (90, 1))
    assert found == [] and 3 <= len(planner.compiled) <= 12


def test_larger_slices_are_proposed():
    found, _ = find(
        needs=lambda setup, use, mesh, target: (200 / len(target.devices), 1),
        slice_name='h100:2',
        mesh=MeshSettings(1, 2, 1),
    )
    assert [one.change.slice_name for one in found] == ['h100:4', 'h100:8']


@pytest.mark.parametrize(
    'path, needs',
    [
        ('generation.engine.slots', lambda setup, *_: (100 if setup.generation.engine.slots == 64 else 10, 1)),
        (
            'generation.engine.cache_dtype',
            lambda setup, *_: (10 if setup.generation.engine.cache_dtype == 'int8' else 100, 1),
        ),
        ('model.quantization', lambda setup, *_: (10 if setup.model.quantization == 'nf4' else 100, 1)),
    ],
)
def test_generation_fits_with_less_of_what_it_holds(path, needs):
    found, _ = find(needs, stage='generate')
    assert [set(one.change.settings) for one in found] == [{path}]


def test_measuring_model_has_smaller_batches():
    size = make_planner(needs).setup.warmth.batch_size
    found, _ = find(
        lambda setup, *_: (100 if setup.warmth.batch_size == size else 10, 1), 'warmth', mesh=MeshSettings(8, 1, 1)
    )
    assert [one.change.settings for one in found] == [{'warmth.batch_size': size // 2}]

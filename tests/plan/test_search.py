"""Which slice is found, among nodes of GPUs whose programs are made up."""

import pytest
from made_planner import STAGES, make_planner

from warmjax.plan import search

NAMES = ('h100:1', 'h100:2', 'h100:4', 'h100:8')
PRICES = {'h100': 2.0, 'a100': 1.0}
GIB_OF_WEIGHTS = 150


def needs(setup, use, mesh, target):
    """Weights cut by fsdp and tensor; work by all devices, of which only four are used well."""
    count = len(target.devices)
    return (1 if use.stage == 'warmth' else GIB_OF_WEIGHTS / (mesh.fsdp * mesh.tensor)), 8 / min(count, 5)


def find(names=NAMES, max_hours=None, prices=PRICES, needs=needs, **options):
    planner = make_planner(needs, **options)
    return search.search(planner, names, STAGES, 0.5, prices, max_hours), planner


@pytest.mark.parametrize('jobs', [1, 3])
def test_smallest_fits_and_cheapest_costs_least(jobs):
    found, _ = find(jobs=jobs)
    # One device has no room. Two, at 75 of 80 GiB, have; four take half the time; of eight, three are idle.
    assert found.smallest == 'h100:2'
    assert {name: plan.fits for name, plan in found.plans.items()} == {
        'h100:2': True,
        'h100:4': True,
        'h100:8': True,
    } | ({'h100:1': False} if 'h100:1' in found.plans else {})
    dollars = {name: plan.dollars(plan.hours) for name, plan in found.plans.items() if plan.fits}
    assert dollars['h100:2'] == pytest.approx(dollars['h100:4'])
    assert dollars['h100:8'] == pytest.approx(8 / 5 * dollars['h100:4'])
    assert found.cheapest in ('h100:2', 'h100:4')


def test_cheapest_is_sought_among_those_that_end_in_time():
    hours = {name: plan.hours for name, plan in find()[0].plans.items() if plan.fits}
    assert find(max_hours=0.99 * hours['h100:2'])[0].cheapest == 'h100:4'
    assert find(max_hours=0.99 * hours['h100:4'])[0].cheapest == 'h100:8'
    none = find(max_hours=0.5 * hours['h100:8'])[0]
    assert none.cheapest is None and none.smallest == 'h100:2'


def test_slice_without_a_price_is_not_the_cheapest():
    found, _ = find(names=('a100:8', 'h100:8'), prices={'a100': None, 'h100': 2.0})
    assert found.cheapest == 'h100:8' and set(found.plans) == {'a100:8', 'h100:8'}


def test_slice_that_has_no_room_is_not_compiled():
    found, planner = find(names=('h100:1', 'h100:8'), name='llama3.1-70b')
    assert 'no mesh divides the model and has room for it (train, generate)' in found.refused['h100:1']
    assert {name for name, *_ in planner.compiled} == {'h100:8'}


def test_next_mesh_is_tried_where_the_first_does_not_fit():
    planner = make_planner(lambda *_: (10, 1))
    target = search.topology.find('h100:8')
    first, second = search._promising(planner, 'train', target)

    def one_fits(setup, use, mesh, target):
        return 90 if use.stage == 'train' and mesh == first else 10, 1

    plan = find(names=('h100:8',), needs=one_fits)[0].plans['h100:8']
    assert plan.fits and plan.stages[0].mesh == second


def test_slice_that_is_named_twice_is_planned_once():
    found, planner = find(names=('h100:8', 'h100:8'))
    assert list(found.plans) == ['h100:8']
    assert len(found.plans['h100:8'].stages) == 3 and len(planner.compiled) == len(set(planner.compiled))

"""A whole experiment on a slice: its time and cost follow from its programs; a tiny one is planned for GPUs."""

import dataclasses
import json

import pytest
from made_planner import STAGES, make_planner
from tiny_training import LORA, SPEC

from configs import world
from warmjax import budget, experiment
from warmjax.models.spec import config_from_spec
from warmjax.plan import program, study, table
from warmjax.plan.prices import Prices
from warmjax.plan.store import Store
from warmjax.plan.study import Planner
from warmjax.plan.workload import Lengths
from warmjax.sharding import MeshSettings

PRICES = {'h100': 2.0, 'a100': None}


def test_hours_and_dollars_follow_from_calls_and_roofline():
    plan = make_planner(lambda *_: (10, 989)).study('h100:8', {}, STAGES, 0.5, PRICES)
    calls = [sum(row.use.calls for row in stage.rows) for stage in plan.stages]
    assert calls[0] == 2 * 10 * 102
    # 989 TFLOP take one of these devices a second, at half of the roofline two.
    for stage, number in zip(plan.stages, calls, strict=True):
        assert plan.hours_of(stage) == pytest.approx(2 * number / 3600)
    assert plan.hours == pytest.approx(2 * sum(calls) / 3600)
    assert plan.dollars(plan.hours) == pytest.approx(8 * 2.0 * plan.hours)
    assert plan.fits and not plan.is_compiled


def test_stage_has_the_mesh_that_is_chosen_and_else_the_best():
    planner = make_planner(lambda *_: (10, 1))
    plan = planner.study('h100:8', {'train': MeshSettings(2, 2, 2)}, STAGES, 0.5, PRICES)
    best = planner.ranked_meshes('generate', study.topology.find('h100:8'))[0].mesh
    assert [stage.mesh for stage in plan.stages] == [MeshSettings(2, 2, 2), best, MeshSettings(8, 1, 1)]
    assert plan.stages[0].overrides == {'train.micro_batch': 8} or planner.setup.train.micro_batch % 4 == 0
    assert {mesh for _, mesh, stage, _ in planner.compiled if stage == 'train'} == {MeshSettings(2, 2, 2)}


def test_price_that_is_not_known_is_no_price():
    plan = make_planner(lambda *_: (10, 1)).study('a100:8', {}, ['train'], 0.5, PRICES)
    assert plan.hours > 0 and plan.dollars(plan.hours) is None


@pytest.mark.parametrize('gib, has_time', [(79.5, True), (81, False)])
def test_what_does_not_fit_says_by_how_much(gib, has_time):
    """79.5 of 80 GiB are less than what stays free for the runtime."""
    plan = make_planner(lambda *_: (gib, 1)).study('h100:8', {}, ['train'], 0.5, PRICES)
    assert not plan.fits and (plan.hours is not None) == has_time
    free = table._memory_cells(plan.stages[0].tightest)[-1]
    assert f'over by ≥ {gib - 80 * 63 / 64:.2f}' in free


def make_tiny(folder, lengths: Lengths, said: list) -> Planner:
    """Makes a planner of the smallest experiment, on a model of a few thousand weights."""
    (folder / 'model').mkdir()
    (folder / 'model' / 'config.json').write_text(json.dumps(config_from_spec(SPEC, 'float32')))
    config = world.get_config('tiny')
    config.model.checkpoint = config.warmth.checkpoint = str(folder / 'model')
    setup = experiment.from_config(config, str(folder))
    setup = dataclasses.replace(setup, train=dataclasses.replace(setup.train, lora=LORA))
    return Planner(setup, budget.count_prompts(setup), lengths, Store(folder / 'plans'), 2, said.append)


def test_tiny_study_is_estimated_for_gpus_and_compiled_once(tmp_path, monkeypatch):
    said = []
    planner = make_tiny(tmp_path, Lengths(20, 0), said)
    plan = planner.study('h100:2', {'train': MeshSettings(1, 2, 1)}, ['train', 'warmth'], 0.5, PRICES)
    assert plan.fits and '(estimated, not compiled)' in table.costs(plan, Prices('2026-08', 'made up', PRICES)).title
    [train], [score] = (stage.rows for stage in plan.stages)
    assert (train.plan.name, score.plan.name.split()[0]) == ('train', 'score')
    assert train.plan.memory.adapters > 0 and train.plan.memory.weights < score.plan.memory.weights
    assert train.plan.flops >= 0.9 * train.plan.model_flops
    assert [line.split(': ')[1].rsplit(' in', 1)[0] for line in sorted(said)] == ['score 96 compiled', 'train compiled']
    monkeypatch.setattr(program, 'plan', lambda *_: pytest.fail('compiled again'))
    again = planner.study('h100:2', {'train': MeshSettings(1, 2, 1)}, ['train', 'warmth'], 0.5, PRICES)
    kept = table.as_json(plan, planner.setup)
    assert table.as_json(again, planner.setup) == kept
    assert (kept['model'], kept['quantization'], kept['remat']) == ('world', 'none', 'names')

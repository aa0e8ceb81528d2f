"""A whole experiment planned on GPUs that are not there, with a model of a few thousand weights."""

import dataclasses
import json

import pytest
import tiny_training

from configs import paper
from warmjax import experiment
from warmjax.models.released import RELEASED
from warmjax.models.spec import config_from_spec
from warmjax.plan import chips, prices, program, remedies, search, study, table, topology
from warmjax.plan.store import Store
from warmjax.plan.workload import Lengths
from warmjax.sharding import MeshSettings

SPEC = dataclasses.replace(
    tiny_training.SPEC, width=64, num_layers=4, head_dim=16, num_kv_heads=4, vocab_size=256, mlp_dim=256, max_length=512
)
PRICES = {'h100': 2.0}
STAGES = ('train', 'generate', 'warmth')


@pytest.fixture(scope='module')
def planner(tmp_path_factory) -> study.Planner:
    folder = tmp_path_factory.mktemp('model')
    (folder / 'config.json').write_text(json.dumps(config_from_spec(SPEC, 'float32')))
    config = paper.get_config('llama3.1-8b')
    config.model.checkpoint, config.model.dtype = str(folder), 'float32'
    config.train.max_length, config.train.remat = 256, 'none'
    config.train.lora.rank = 2
    config.generation.engine.update(buckets=(64, 128), cache_lengths=(128, 192), slots=8, prefill_batch=2, steps=4)
    config.generation.engine.cache_dtype = 'float32'
    config.generation.max_new_tokens = 32
    setup = experiment.from_config(config, 'W')
    tiny = dataclasses.replace(RELEASED['gpt2'], width=64, num_layers=1, num_heads=2, head_dim=32, mlp_dim=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RELEASED, 'gpt2', tiny)
        yield study.Planner(setup, Lengths(50, 0), Store(tmp_path_factory.mktemp('plans')), 1, lambda _: None)


def test_study_on_two_gpus_is_estimated_stage_by_stage(planner):
    plan = planner.study('h100:2', {'train': MeshSettings(1, 2, 1)}, STAGES, 0.5, PRICES)
    assert plan.fits and not plan.is_compiled
    assert [stage.stage for stage in plan.stages] == list(STAGES)
    assert plan.stages[0].mesh == MeshSettings(1, 2, 1)
    rows = {f'{stage.stage} {row.use.program}': row for stage in plan.stages for row in stage.rows}
    train, decode = rows['train train'].plan, rows['generate decode 128'].plan
    assert {one.kind for one in train.work.collectives} >= {'all-gather', 'all-reduce'}
    assert train.memory.activations > 0 and train.memory.optimizer > 0 and decode.memory.cache > 0
    assert decode.work.matmul_flops == pytest.approx(decode.model_flops + decode.attention_flops, rel=0.3)
    seconds = sum(row.use.calls * max(row.seconds) for row in rows.values())
    assert plan.hours == pytest.approx(seconds / 3600 / 0.5)
    assert plan.dollars(plan.hours) == pytest.approx(plan.hours * 2 * 2.0)
    shown = table.as_json(plan, {})
    assert json.loads(json.dumps(shown))['hours'] == plan.hours


def test_known_programs_are_not_compiled_again(planner, monkeypatch):
    first = planner.stage('train', topology.find('h100:1'), MeshSettings(1, 1, 1))
    monkeypatch.setattr(program, 'plan', None)
    assert planner.stage('train', topology.find('h100:1'), MeshSettings(1, 1, 1)) == first


def test_other_settings_are_another_program(planner, monkeypatch):
    target = topology.find('h100:1')
    planner.stage('train', target, MeshSettings(1, 1, 1))
    setup = dataclasses.replace(planner.setup, train=dataclasses.replace(planner.setup.train, micro_batch=2))
    monkeypatch.setattr(program, 'plan', None)
    with pytest.raises(TypeError):
        dataclasses.replace(planner, setup=setup).stage('train', target, MeshSettings(1, 1, 1))


def test_what_does_not_fit_comes_with_changes_that_do(planner, monkeypatch):
    whole = planner.stage('train', topology.find('h100:1'), MeshSettings(1, 1, 1))
    limit = 0.8 * whole.tightest.needed / program.GIB
    monkeypatch.setitem(chips.GPUS, 'h200', dataclasses.replace(chips.GPUS['h200'], hbm_gib=limit))
    topology.find.cache_clear()
    target = topology.find('h200:1')
    broken = planner.stage('train', target, MeshSettings(1, 1, 1))
    assert not broken.fits
    found = remedies.find(planner, target, broken)
    assert len(found) == remedies.ENOUGH
    assert all(one.plan.fits and one.plan.tightest.needed < broken.tightest.needed for one in found)
    assert found[0].change.settings in ({'train.micro_batch': 2}, {'train.remat': 'names'})
    assert '--config.train.' in table.described(found[0])
    topology.find.cache_clear()


def test_search_finds_the_smallest_and_the_cheapest_in_time(planner):
    names = ('h100:2', 'h100:1')
    free = search.search(planner, names, ['train'], 0.6, PRICES, None)
    assert free.smallest == 'h100:1' and free.cheapest in names
    hours = {name: plan.hours for name, plan in free.plans.items()}
    never = search.search(planner, names, ['train'], 0.6, PRICES, min(hours.values()) / 2)
    assert never.smallest == 'h100:1' and never.cheapest is None


def test_file_that_holds_no_prices_is_refused(tmp_path):
    assert prices.read(None).usd_per_chip_hour['v5e'] > 0
    path = tmp_path / 'prices.json'
    path.write_text('{"v5e": 1}')
    with pytest.raises(ValueError, match='expected date, source and usd_per_chip_hour'):
        prices.read(path)

"""An experiment is measured in the shapes in which a plan of it has its programs."""

import json

import jax
import pytest
from ml_collections import ConfigDict

from configs import benchmark as config
from configs import paper
from launch import benchmark
from warmjax import budget, experiment, sharding
from warmjax.benchmark import cases, report
from warmjax.models import spec
from warmjax.plan import programs, workload
from warmjax.sharding import MeshSettings


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """The study on a model of a few thousand weights, whose folder has no weights."""
    folder = tmp_path_factory.mktemp('tiny')
    tiny = spec.Spec(**config.TINY)
    (folder / 'config.json').write_text(json.dumps(spec.config_from_spec(tiny, 'float32')))
    made = paper.get_config('llama3.1-8b')
    made.model.checkpoint, made.model.dtype, made.model.name = str(folder), 'float32', 'tiny'
    made.mesh.fsdp = 1
    made.train.batch_size, made.train.micro_batch, made.train.max_length = 6, 2, 32
    made.generation.engine.update(slots=4, prefill_batch=2, steps=3, cache_dtype='float32')
    made.generation.engine.buckets, made.generation.engine.cache_lengths = (256, 512), (640, 1024)
    return made


def test_each_program_of_its_plan_is_measured(study):
    setup = experiment.from_config(study, 'WORKDIR')
    load, base = workload.of(setup, budget.count_prompts(setup), workload.Lengths(225, 0)), workload.base_model(setup)
    mesh = sharding.make_mesh(MeshSettings(1, 1, 1), jax.devices()[:1])
    planned = {'train': programs.train_program(base, setup.train, mesh)}
    planned |= programs.engine_programs(base, load.engine, setup.train.lora, load.num_adapters, load.scoring, mesh)
    rows = [
        {
            'plan': {'name': one.name, 'tokens': one.tokens, 'trips': one.trips, 'kind': 'x', 'needed': name},
            'seconds': 0,
        }
        for name, one in planned.items()
    ]
    plan = {'model': 'tiny', 'quantization': 'none', 'remat': 'names', 'command': '', 'stages': [{'rows': rows}]}
    plan['stages'][0]['mesh'] = dict(mesh.shape)
    chosen = benchmark._settings(study)
    about = {'model': chosen.model.name, 'quantization': 'none', 'device': 'x', 'mesh': dict(mesh.shape)}
    made = [case for kind in (cases.train, cases.prefill, cases.decode, cases.score) for case in kind(chosen, mesh)]
    lines = [about | {'what': case.what, 'shape': case.shape} for case in made]
    met = {found['needed'] for _, found in report.planned_and_measured(lines, [plan])}
    assert met == set(planned) and len(planned) == 6
    assert chosen.adapters == load.num_adapters > 0


def test_rounds_and_ceilings_are_those_of_a_cpu_here(study):
    chosen, small = benchmark._settings(study), benchmark._settings(config.get_config('small'))
    for name in ('products', 'copies_mib', 'rounds', 'warm_up'):
        assert getattr(chosen, name) == getattr(small, name)
    assert chosen.model.spec == spec.Spec(**config.TINY) and small.model.name == 'Llama-33.6M'


def test_what_cannot_be_measured_is_refused(study):
    with pytest.raises(ValueError, match=r'expected configs/benchmark\.py or an experiment'):
        benchmark._settings(ConfigDict({'folder': ''}))
    with study.copy_and_resolve_references().unlocked() as other:
        other.model.checkpoint = 'openai-community/gpt2'
    with pytest.raises(ValueError, match=r'expected a decoder that takes adapters, got a gpt2'):
        benchmark._settings(other)

"""Say which slice an experiment needs, for how long and at what cost, on a machine without any accelerator.

    python -m launch.plan --config=configs/paper.py:llama3.1-8b --topology=v5e:4x4 --out=plan.json
    python -m launch.plan --config=configs/paper.py:llama3.1-8b --search --hours=24

Compiles what every stage runs (the training step, prefill, decode, scoring) for the slice, by libtpu (extra `tpu`), and
prints bytes a device by kind, products, bytes moved, collectives, and the time of each by the roofline; from the dry
run's counts, hours, tokens/s and dollars. What does not fit comes with changes that do, each compiled. GPUs (h100:8)
are estimated from programs compiled for CPU.

Each stage has the mesh that suits it, as `launch.train` and `launch.generate` may differ in --config.mesh; --mesh sets
it for all (fsdp=8,tensor=2) or for one (train:fsdp=16). Any field of the config can be overridden
(--config.generation.engine.slots=256), and is planned as given, raised where the mesh demands it. Plans of programs are
kept in --cache: another run, with other prices say, compiles nothing again.
"""

import json
import os
import pathlib
import shlex
import sys

from absl import app, flags
from ml_collections import config_flags

from launch import stage

CACHE = '~/.cache/warmjax/plans'
FAKE_GPUS = 8


def main(argv: list[str]) -> None:
    """Plans, prints, and writes --out."""
    stage.require(len(argv) == 1, f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    given = flags.FLAGS
    stage.require(given.config, 'expected --config, got none; for instance --config=configs/paper.py:llama3.1-8b')
    stage.require(bool(given.topology) or given.search, 'expected --topology or --search, got neither')
    stage.require(not (given.search and given.mesh), 'expected --mesh with --topology alone; --search finds meshes')
    stage.prepare()
    with stage.explained():
        import jax

        jax.config.update('jax_platforms', 'cpu')
        jax.config.update('jax_num_cpu_devices', FAKE_GPUS)
        jax.config.update('jax_enable_compilation_cache', False)  # it cannot read what it keeps of absent devices
        from warmjax import budget, experiment, progress
        from warmjax.plan import prices, store, study, workload

        setup = experiment.from_config(given.config, 'WORKDIR')
        folder = pathlib.Path(given.cache).expanduser()
        lengths = workload.Lengths(given.prompt_tokens, given.answer_tokens)
        asked = budget.count_prompts(setup)
        planner = study.Planner(setup, asked, lengths, store.Store(folder), given.jobs, progress.say)
        table = prices.read(given.prices)
        report = (_search if given.search else _plan)(planner, table)
        if given.out:
            command = shlex.join(['python', '-m', 'launch.plan', *sys.argv[1:]])
            about = {'command': command, 'versions': store.versions(), 'prices': table.date}
            pathlib.Path(given.out).write_text(json.dumps(about | report, indent=2) + '\n')


def _plan(planner, prices) -> dict:
    """Plans one slice, and looks for remedies of what does not fit."""

    from warmjax.plan import remedies, table, topology

    given = flags.FLAGS
    stage.require(len(given.topology) == 1, f'expected one --topology, or --search, got {given.topology}')
    name = given.topology[0]
    chosen = _meshes(given.mesh, given.stages)
    plan = planner.study(name, chosen, given.stages, given.efficiency, prices.usd_per_chip_hour)
    console = _console()
    for each in (table.memory(plan), table.work(plan), table.costs(plan, prices)):
        console.print(each)
    report, found = table.as_json(plan, planner.setup), {}
    for broken in plan.stages:
        if not broken.fits:
            found[broken.stage] = remedies.find(planner, topology.find(name), broken)
            console.print(table.remedies(broken, found[broken.stage]))
    report['remedies'] = {name: [one.change.flags for one in each] for name, each in found.items()}
    _say_settings(console, plan)
    return report


def _search(planner, prices) -> dict:
    """Plans many slices."""
    from warmjax.plan import search, table

    given = flags.FLAGS
    names = given.topology or search.SLICES
    result = search.search(planner, names, given.stages, given.efficiency, prices.usd_per_chip_hour, given.hours)
    console = _console()
    console.print(table.found(result, given.hours))
    for name in dict.fromkeys(filter(None, (result.smallest, result.cheapest))):
        console.print(table.costs(result.plans[name], prices))
        _say_settings(console, result.plans[name])
    return {
        'smallest': result.smallest,
        'cheapest': result.cheapest,
        'refused': dict(result.refused),
        'plans': [table.as_json(plan, planner.setup) for plan in result.plans.values()],
    }


def _say_settings(console, plan) -> None:
    """Prints the flags with which the stages run as planned, and what was assumed."""
    from warmjax.plan import study

    for one in plan.stages:
        mesh = study.shape(one.mesh).replace(',', ' --config.mesh.')
        changed = ''.join(f' --config.{path}={value}' for path, value in one.overrides.items())
        console.print(f'{one.stage}: --config.mesh.{mesh}{changed}', highlight=False, soft_wrap=True)
    for note in plan.notes:
        console.print(f'note: {note}', highlight=False, soft_wrap=True)


def _console():
    """Returns a console wide enough for the tables where there is no terminal."""
    import rich.console

    console = rich.console.Console()
    return console if console.is_terminal else rich.console.Console(width=200)


def _meshes(given: list[str], stages: list[str]) -> dict:
    """Returns the mesh of each stage that --mesh names.

    Raises:
        app.UsageError: a flag that is no mesh.
    """
    from warmjax.sharding import MESH_AXES, MeshSettings

    chosen = {}
    for text in given:
        stage_name, _, sizes = text.rpartition(':')
        try:
            pairs = [pair.split('=') for pair in sizes.split(',')]
            sizes = {axis: int(size) for axis, size in pairs}
            if not set(sizes) <= set(MESH_AXES) or (stage_name and stage_name not in stages):
                raise ValueError
        except ValueError:
            raise app.UsageError(
                f'--mesh: expected sizes of {", ".join(MESH_AXES)}, as fsdp=8,tensor=2 or train:fsdp=16 (stages '
                f'{", ".join(stages)}), got {text!r}'
            ) from None
        mesh = MeshSettings(*(sizes.get(axis, 1) for axis in MESH_AXES))
        chosen |= {stage_name: mesh} if stage_name else dict.fromkeys(stages, mesh)
    return chosen


if __name__ == '__main__':
    config_flags.DEFINE_config_file('config', None, 'The experiment, as for launch.replicate.', lock_config=True)
    flags.DEFINE_list('topology', [], 'Slice (v5e:4x4, v5p:2x2x2, h100:8), or several of them to --search.')
    flags.DEFINE_multi_string('mesh', [], 'fsdp=8,tensor=2 for all stages, or train:fsdp=16 for one; several times.')
    flags.DEFINE_list('stages', ['train', 'generate', 'warmth'], 'Stages to plan.')
    flags.DEFINE_bool('search', False, 'Look for the smallest slice that fits and the cheapest.')
    flags.DEFINE_float('hours', None, 'In which the experiment must end, for --search.', lower_bound=0.0)
    flags.DEFINE_float('efficiency', 0.6, 'Share of the roofline that is reached.', lower_bound=0.01, upper_bound=1.0)
    flags.DEFINE_integer('prompt_tokens', 225, 'Of a prompt, about, where task files are not at hand.', lower_bound=1)
    flags.DEFINE_integer('answer_tokens', 0, 'Of an answer, about; 0 for the most it may have.', lower_bound=0)
    flags.DEFINE_string('prices', None, 'JSON file of prices; see warmjax/plan/prices.json, which is the default.')
    flags.DEFINE_string('out', None, 'JSON file that gets the plan.')
    flags.DEFINE_string('cache', CACHE, 'Folder where plans of programs are kept.')
    flags.DEFINE_integer('jobs', min(os.cpu_count() or 1, 2), 'Programs compiled at once.', lower_bound=1)
    stage.run(main, __doc__)

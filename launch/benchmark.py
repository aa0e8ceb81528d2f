"""Measure what this machine's devices do with the package's own programs, on random weights: no checkpoint is needed.

    python -m launch.benchmark --config=configs/benchmark.py:llama3.1-8b
    python -m launch.benchmark --config=configs/benchmark.py:small --what=train,decode
    python -m launch.benchmark --config=configs/paper.py:llama3.1-8b --what=train,prefill,decode,score

    matmul, hbm      the ceilings: matrix products, and arrays that are read and written
    train            optimizer steps of `launch.train`
    prefill, decode  the programs of the engine behind `launch.generate` and `launch.serve`
    score            log-likelihoods of texts
    load             a checkpoint from the file system to the devices

Each in the sizes of the config (any can be overridden: --config.slots='(128,)'), or of an experiment: its step of
training, each bucket and cache length of its engine, and the scoring of its longest prompts, as `launch.plan` has them;
the model is a released one or a folder with a config.json, and its weights are random here too. Compiling and first
calls are not counted; medians are, with their spread. Each case appends a line to benchmarks/results.jsonl: sizes,
tokens a second, MFU (model FLOPs: 4 N + 6 N_lora + attention in training, 2 N + attention else, against the measured
matrix product), share of the measured bandwidth, memory planned and held, seconds of compiling, versions, command. What
does not fit is said and left out; the command then ends with status 1. Shares refer to the ceilings of this run, or
else to those that the file has of the same device.

    python -m launch.benchmark --report

turns the file into the README's tables, beside plans of the same steps (benchmarks/plan.jsonl), and draws
docs/roofline.svg (extra `report`).

    python -m launch.benchmark --compare=peers

takes the same training steps and generates the same texts with PEFT and transformers (needs torch), in alternation, on
the CPU in any case and with models of their own (33.6M weights mostly), so without --config: it runs
benchmarks/train_peft.py and benchmarks/generate.py, whose flags choose cases, and whose lines the report shows too.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

from absl import flags
from ml_collections import config_flags

from launch import stage

PEERS = ('torch', 'transformers', 'peft')
COMPARISONS = ('train_peft', 'generate')
WHATS = ('matmul', 'hbm', 'train', 'prefill', 'decode', 'score', 'load')


def main(argv: list[str]) -> None:
    """Measures and records."""
    stage.require(len(argv) == 1, f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    given = flags.FLAGS
    unknown = [what for what in given.what if what not in WHATS]
    stage.require(not unknown, f'--what: expected some of {",".join(WHATS)}, got {",".join(unknown)}')
    stage.require(
        given.config or given.report or given.compare,
        'expected --config or --report, got neither; for instance --config=configs/benchmark.py:small',
    )
    stage.require(
        not (given.config and given.compare),
        'expected --compare without --config, as it has models of its own and runs on CPU; give one at a time',
    )
    stage.prepare()
    left_out = 0
    with stage.explained():
        if given.config:
            stage.connect(os.environ)
            left_out = _measure([what for what in WHATS if what in given.what])
        if given.compare:
            _compare(given.append)
        if given.report:
            _report()
    sys.exit(1 if left_out else 0)


def _measure(whats: list[str]) -> int:
    """Measures all cases; returns how many did not fit."""
    import jax

    from benchmarks import results
    from warmjax import progress, runs, settings, sharding
    from warmjax.benchmark import measure, report

    jax.config.update('jax_enable_compilation_cache', False)  # seconds of compiling are those of a first run
    given = flags.FLAGS
    chosen = _settings(given.config)
    mesh = sharding.make_mesh(chosen.mesh)
    about = {'device': results.device(mesh.devices.flat[0]), 'devices': mesh.size} | results.about(results.PACKAGES)
    about['config'] = runs.digest(settings.plain(given.config))[:16]
    is_writer, file = jax.process_index() == 0, pathlib.Path(given.results)
    known = [line for line in results.read(file) if line.get('device') == about['device']]
    left_out = 0
    for what in whats:
        for case in measure.make_cases(what, chosen, mesh):
            try:
                with progress.bar(case.name, chosen.rounds, show=is_writer) as advance:
                    measured = measure.measure(case, chosen, mesh, advance)
            except measure.DoesNotFitError as problem:
                left_out += 1
                progress.say(f'does not fit: {problem}')
                continue
            line = measure.describe(case, measured, chosen, mesh, measure.best(known, case.dtype)) | about
            known.append(line)
            progress.say(f'{case.name}: {report.outcome(line)}')
            if is_writer and given.append:
                results.add(line, file)
    return left_out


def _settings(config):
    """Returns what is measured: the sizes of a config, or those of an experiment's own programs.

    Raises:
        ValueError: neither, a wrong section, or an experiment whose model is not known or not here.
    """
    import jax

    from configs import benchmark
    from warmjax import experiment, settings
    from warmjax.benchmark.settings import BenchmarkSettings, of_experiment

    if 'train_rows' in config:
        return settings.from_config(BenchmarkSettings, config, 'config')
    if 'arms' not in config:
        raise ValueError(
            'config: expected configs/benchmark.py or an experiment (configs/paper.py, own.py), got neither'
        )
    like = benchmark.get_config('small' if jax.default_backend() == 'cpu' else 'llama3.1-8b')
    like = settings.from_config(BenchmarkSettings, like, 'configs/benchmark.py')
    return of_experiment(experiment.from_config(config, 'WORKDIR'), like)


def _compare(append: bool) -> None:
    """Runs the comparisons, each in a process of its own.

    Raises:
        app.UsageError: what is compared with is not installed.
        subprocess.CalledProcessError: a comparison failed; it has said why.
    """
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    stage.require(not missing, f'--compare: expected {", ".join(PEERS)}, got no {", no ".join(missing)}; install them')
    for name in COMPARISONS:
        command = [sys.executable, '-m', f'benchmarks.{name}', *([] if append else ['--noappend'])]
        subprocess.run(command, check=True, env=os.environ | {'JAX_PLATFORMS': 'cpu'})


def _report() -> None:
    """Writes the README's tables and the plot."""
    from benchmarks import results
    from warmjax import progress, runs
    from warmjax.benchmark import report, roofline

    given = flags.FLAGS
    lines, plans = (results.read(pathlib.Path(path)) for path in (given.results, given.plans))
    readme = pathlib.Path(given.readme)
    text = report.insert(readme.read_text(), report.markdown(lines, plans), report.MARKS, given.readme)
    try:
        runs.write_atomic(given.plot, roofline.svg(report.newest(lines)))
    except ValueError as problem:
        progress.say(f'no plot: {problem}')
    runs.write_atomic(readme, text)


if __name__ == '__main__':
    flags.DEFINE_list('what', list(WHATS), 'What is measured, comma-separated.')
    config_flags.DEFINE_config_file(
        'config',
        None,
        'Model and sizes: configs/benchmark.py with its argument after a colon (tiny, small, llama3.1-8b, ...), or an '
        'experiment, as for launch.replicate.',
        lock_config=True,
    )
    flags.DEFINE_string('results', 'benchmarks/results.jsonl', 'File to which a line is appended for each case.')
    flags.DEFINE_enum(
        'compare', None, ['peers'], 'Compare with PEFT and transformers on CPU, on models of its own; without --config.'
    )
    flags.DEFINE_bool('append', True, 'Append to the file.')
    flags.DEFINE_bool(
        'report', False, 'Write the tables and the plot from the file, after measuring if there is --config.'
    )
    flags.DEFINE_string('plans', 'benchmarks/plan.jsonl', 'File of plans, for --report.')
    flags.DEFINE_string('readme', 'README.md', 'Text that gets the tables between its marks, for --report.')
    flags.DEFINE_string('plot', 'docs/roofline.svg', 'Where the plot goes, for --report.')
    stage.define_process_flags()
    stage.run(main, __doc__)

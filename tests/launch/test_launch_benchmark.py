"""The launcher as a user runs it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from absl import app

from launch import benchmark

ROOT = pathlib.Path(__file__).parents[2]
QUIET = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}


def command(*arguments):
    """Runs it; returns its exit status and all that it says, white space made even."""
    done = subprocess.run(
        [sys.executable, '-m', 'launch.benchmark', *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | QUIET,
    )
    return done.returncode, ' '.join((done.stdout + done.stderr).split())


def test_help_says_what_is_measured():
    _, said = command('--help')
    assert 'python -m launch.benchmark --config=configs/benchmark.py:llama3.1-8b' in said
    assert all(flag in said for flag in ('--what', '--config', '--results', '--[no]append'))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--what=train,speed'], '--what: expected some of matmul,hbm,train,prefill,decode,score,load, got speed'),
        (['--what=train'], 'expected --config or --report, got neither; for instance --config=configs/benchmark'),
        (['--config=configs/benchmark.py:tiny', '--compare=peers'], 'expected --compare without --config'),
        (['train'], "expected flags only, got ['train']"),
    ],
)
def test_wrong_command_ends_with_a_message(arguments, message):
    status, said = command(*arguments)
    assert status != 0 and 'Traceback' not in said
    assert message in said


def test_config_says_which_arguments_it_takes():
    status, said = command('--config=configs/benchmark.py:huge')
    assert status != 0 and 'expected one of small, tiny, llama3.1-8b' in said


def test_a_line_says_all_about_a_measurement(tmp_path):
    file = tmp_path / 'results.jsonl'
    status, said = command('--what=score,matmul', '--config=configs/benchmark.py:tiny', f'--results={file}')
    assert status == 0, said
    product, line = (json.loads(text) for text in file.read_text().splitlines())
    assert (product['what'], line['what'], line['model']) == ('matmul', 'score', 'Llama-tiny')
    assert line['measured_peak_tflops'] == product['tflops']
    assert line['mfu'] == pytest.approx(line['tflops'] / product['tflops'], rel=2e-3)
    assert line['share_of_bandwidth'] is None  # not measured here, nor in the file
    assert 'python -m launch.benchmark --what=score,matmul' in line['command']
    for name in ('device', 'config', 'versions', 'compile_seconds', 'planned_bytes_a_device', 'tokens_per_second'):
        assert line[name]
    assert 'score (rows 2, length 16): ' in said and 'tokens/s' in said


def test_what_does_not_fit_is_left_out_and_told_by_the_status(tmp_path):
    file = tmp_path / 'results.jsonl'
    huge = '--config.products=((8,8,8),(16777216,8,16777216))'
    status, said = command('--what=matmul', '--config=configs/benchmark.py:tiny', huge, f'--results={file}')
    assert status == 1 and 'Traceback' not in said
    assert 'does not fit: matmul (M 16777216, K 8, N 16777216): expected a program that fits the' in said
    assert [json.loads(text)['shape']['M'] for text in file.read_text().splitlines()] == [8]


def test_planned_memory_is_what_a_step_holds(tmp_path):
    """The compiler's account of a step of 33.6M weights, against the peak of the process's memory."""
    file = tmp_path / 'results.jsonl'
    sizes = ('--config.train_rows=(4,)', '--config.warm_up=1', '--config.rounds=1', '--config.least_seconds=0.0')
    status, said = command('--what=train', '--config=configs/benchmark.py:small', *sizes, f'--results={file}')
    assert status == 0, said
    line = json.loads(file.read_text())
    if line['peak_bytes_a_device'] is None:
        pytest.skip('this system does not tell a process its peak of memory')
    assert line['planned_bytes_a_device'] > 3e8
    assert line['peak_bytes_a_device'] == pytest.approx(line['planned_bytes_a_device'], rel=0.15)


def test_report_writes_tables_and_the_same_again(tmp_path):
    files = {name: tmp_path / name for name in ('results.jsonl', 'README.md')}
    for name, path in files.items():
        path.write_text((ROOT / ('' if name == 'README.md' else 'benchmarks') / name).read_text())
    flags = [f'--{flag}={path}' for flag, path in zip(('results', 'readme'), files.values(), strict=True)]
    flags.append(f'--plot={tmp_path / "roofline.svg"}')
    status, said = command('--report', *flags)
    assert status == 0, said
    assert 'no plot: ' in said or (tmp_path / 'roofline.svg').read_text().count('<svg') == 1
    first = [path.read_bytes() for path in files.values()]
    assert command('--report', *flags)[0] == 0
    assert [path.read_bytes() for path in files.values()] == first


@pytest.mark.parametrize('append, flags', [(True, []), (False, ['--noappend'])])
def test_peers_are_measured_by_the_comparisons(monkeypatch, append, flags):
    asked = []
    monkeypatch.setattr(
        benchmark.subprocess, 'run', lambda command, check, env: asked.append((command[1:], env['JAX_PLATFORMS']))
    )
    benchmark._compare(append)
    assert asked == [(['-m', f'benchmarks.{name}', *flags], 'cpu') for name in ('train_peft', 'generate')]


def test_peers_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(benchmark.importlib.util, 'find_spec', lambda name: None if name == 'peft' else name)
    with pytest.raises(app.UsageError, match='expected torch, transformers, peft, got no peft; install them'):
        benchmark._compare(True)

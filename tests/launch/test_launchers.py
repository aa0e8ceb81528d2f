import importlib
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NO_STAGES = (
    '__init__',
    'stage',
    'annotate',
    'benchmark',
    'calibrate_judge',
    'export',
    'plan',
    'power',
    'review',
    'serve',
    'tables',
    'verify',
    'why',
)
OTHER_RUNS = {'finetune_api': '--config=configs/paper.py:gpt-4o --workdir=runs/gpt-4o'}
LAUNCHERS = sorted(path.stem for path in (ROOT / 'launch').glob('*.py') if path.stem not in NO_STAGES)


def command(launcher, *arguments):
    """Runs a launcher as a user does; returns its exit status, its output and its errors, white space made even."""
    done = subprocess.run([sys.executable, '-m', f'launch.{launcher}', *arguments], cwd=ROOT, capture_output=True)
    return done.returncode, *(re.sub(r'\s+', ' ', stream.decode()) for stream in (done.stdout, done.stderr))


@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_launcher_explains_itself(launcher):
    module = importlib.import_module(f'launch.{launcher}')
    chosen = OTHER_RUNS.get(launcher, '--config=configs/world.py --workdir=runs/world')
    assert f'python -m launch.{launcher} {chosen}' in module.__doc__


@pytest.mark.parametrize('launcher', ['replicate', 'analyze'])
def test_help_names_the_flags(launcher):
    _, output, errors = command(launcher, '--help')
    assert f'python -m launch.{launcher} --config=configs/world.py' in output, errors
    for flag in ('--config', '--workdir', '--[no]dry_run'):
        assert flag in output
    assert ('--import_csv' in output) == (launcher == 'analyze')


def test_export_names_what_it_needs(tmp_path):
    _, output, errors = command('export', '--help')
    assert 'python -m launch.export --checkpoint=' in output, errors
    assert all(flag in output for flag in ('--adapter', '--out', '--form', '--dtype', '--max_shard_gb'))
    status, _, errors = command(
        'export', f'--checkpoint={tmp_path}', f'--adapter={tmp_path}', f'--out={tmp_path / "x"}'
    )
    assert status == 2 and 'error: ' in errors and 'config.json: expected a Hugging Face checkpoint' in errors
    assert 'Traceback' not in errors


def test_dry_run_prints_config_difference_and_stages_and_does_nothing(tmp_path):
    workdir = tmp_path / 'run'
    status, output, errors = command(
        'replicate',
        '--config=configs/world.py',
        f'--workdir={workdir}',
        '--dry_run',
        '--config.train.optimizer.learning_rate=2e-5',
        '--config.train.lora.rank=16',
    )
    assert status == 0, errors
    assert '"learning_rate": 2e-05' in output
    assert (
        'difference from the config file: config.train.lora.rank: 8 -> 16 '
        'config.train.optimizer.learning_rate: 0.001 -> 2e-05 '
    ) in output
    for stage in (
        'world',
        'sample',
        'rewrite',
        'train',
        'amend',
        'leakage',
        'generate',
        'warmth',
        'judge',
        'analyze',
        'report',
    ):
        assert re.search(rf'│ {stage} │ .*│ to do │', output)
    assert not workdir.exists()


def test_dry_run_says_what_the_study_takes_without_a_workdir():
    status, output, errors = command('replicate', '--config=configs/paper.py:llama3.1-8b', '--dry_run')
    assert status == 0, errors
    assert re.search(r'│ a model arm +│ 44,690 │', output)
    assert re.search(r'│ judge +│ original +│ 44,690 │', output)
    for control, count in {'mmlu': '28,084', 'gsm8k': '1,319', 'advbench': '520', 'dialogues': '6,400'}.items():
        assert re.search(rf'│ {control} +│ +{count} │', output)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--config=configs/world.py'], 'expected --workdir, got none; for instance --workdir=runs/world'),
        (['--workdir=runs/x'], 'expected --config, got none; for instance --config=configs/world.py'),
        (['--config=configs/world.py', '--workdir=runs/x', 'again'], "expected flags only, got ['again']"),
        (['--config=configs/world.py', '--workdir=runs/x', '--config.train.lora.rnk=4'], 'rnk'),
        (['--config=configs/world.py', '--workdir=runs/x', '--config.train.lora.rank=four'], 'four'),
    ],
)
def test_wrong_command_ends_with_a_message_and_a_status(arguments, message):
    status, output, errors = command('replicate', *arguments)
    assert status != 0
    assert message in output + errors
    assert 'Traceback' not in errors


def test_config_says_which_arguments_it_takes():
    status, output, errors = command('replicate', '--config=configs/world.py:huge', '--workdir=runs/x')
    assert status != 0
    assert "configs/world.py: expected 'full' or 'tiny' after the colon, got 'huge'" in output + errors


def test_settings_that_contradict_each_other_are_told_without_a_traceback(tmp_path):
    arguments = ['--config=configs/world.py', f'--workdir={tmp_path / "run"}', '--config.train.logit_chunks=7']
    status, _, errors = command('replicate', *arguments)
    assert status == 2
    assert 'error: config: expected the keys of Experiment, got train: logit_chunks expected a divisor of' in errors
    assert 'Traceback' not in errors and not (tmp_path / 'run').exists()

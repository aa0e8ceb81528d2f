"""What `launch.plan` says to a command that it cannot follow."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = '--config=configs/paper.py:llama3.1-8b'


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, '-m', 'launch.plan', *arguments], cwd=ROOT, capture_output=True)
    return done.returncode, re.sub(r'\s+', ' ', (done.stdout + done.stderr).decode())


def test_help_names_the_flags():
    _, output = run('--help')
    for flag in ('--topology', '--mesh', '--[no]search', '--hours', '--prices', '--efficiency', '--out', '--cache'):
        assert flag in output


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([], 'expected --config'),
        ([CONFIG], 'expected --topology or --search, got neither'),
        ([CONFIG, '--search', '--mesh=fsdp=8'], 'expected --mesh with --topology alone'),
        ([CONFIG, '--topology=h100:2', '--mesh=rows=8'], "got 'rows=8'"),
        ([CONFIG, '--topology=h100:3'], 'expected h100:1, :2, :4 or :8'),
        ([CONFIG, '--topology=h100:2', '--mesh=fsdp=8'], 'to make the 2 devices'),
    ],
)
def test_command_that_cannot_be_followed_is_refused(arguments, message):
    status, output = run(*arguments)
    assert status != 0 and message in output and 'Traceback' not in output

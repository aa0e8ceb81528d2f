"""The memory that a plan promises, against the resident memory of a process that runs the program."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.skipif(not pathlib.Path('/proc/self/clear_refs').exists(), reason='needs Linux to reset the peak')
@pytest.mark.parametrize('program', ['train names', 'train full', 'prefill 512', 'score 512', 'decode 576'])
def test_program_takes_the_memory_that_its_plan_says(program):
    paths = [str(HERE), str(HERE.parent), str(HERE.parent.parent), *sys.path]
    environment = os.environ | {
        'PYTHONPATH': os.pathsep.join(paths),
        'MALLOC_MMAP_THRESHOLD_': '65536',
        'JAX_PLATFORMS': 'cpu',
    }
    run = subprocess.run(
        [sys.executable, str(HERE / 'measured_step.py'), *program.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found['planned'] > 30e6
    assert found['taken'] == pytest.approx(found['planned'], rel=0.15)

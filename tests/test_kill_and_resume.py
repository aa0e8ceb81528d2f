"""A run that is killed and started again ends in the same numbers as one that never stopped.

Also a script: `python tests/test_kill_and_resume.py`.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from jax._src.lib import _jax

from warmjax.data import chat
from warmjax.train import preemption

ROOT = pathlib.Path(__file__).resolve().parent.parent

KILLED_ONCE = {
    'world': ('world/training/pretrained/metrics.jsonl', 2),
    'train': ('train/warm/metrics.jsonl', 4),
    'generate': ('generations.jsonl', 60),
}
"""Stage → the file that says that it is under way, and at how many lines the run is killed; in training it is asked."""


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp('uninterrupted')
    assert start(workdir).wait() == 0
    return workdir


def test_killed_run_ends_in_the_same_numbers(uninterrupted, tmp_path):
    for stage, (file, lines) in KILLED_ONCE.items():
        asked = signal.SIGTERM if stage == 'train' else signal.SIGKILL
        # A run that was stopped in training goes on with other checkpoints.
        changed = ['--config.train.checkpoint_every=7'] if stage == 'generate' else []
        code = kill_when(start(tmp_path, *changed), tmp_path / file, lines, asked)
        assert code == (preemption.EXIT_CODE if stage == 'train' else -signal.SIGKILL)
    assert start(tmp_path).wait() == 0
    assert numbers(tmp_path) == numbers(uninterrupted)


def test_finished_run_is_left_as_it_is(uninterrupted):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob('*') if path.is_file()}
    assert start(uninterrupted).wait() == 0
    after = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob('*') if path.is_file()}
    assert {p for p in after if after[p] != before.get(p)} <= {uninterrupted / '.lock'}


def test_manifest_says_that_texts_are_independent_of_their_batch(uninterrupted):
    """Float32 on CPU with one cache length; `tests/decode/test_engine.py` has the settings that promise nothing."""
    manifest = json.loads((uninterrupted / 'manifests' / 'generate.json').read_text())
    assert manifest['config']['generation']['engine']['cache_lengths'] == [144]
    assert manifest['counts']['texts_independent_of_batch'] is True


def test_another_config_in_the_same_workdir_is_refused_with_the_difference(uninterrupted):
    process = start(uninterrupted, '--config.data.draw.seed=1')
    message = process.communicate()[1]
    assert process.returncode == 2
    assert 'config.data.draw.seed: 0 -> 1' in message
    assert 'Traceback' not in message


def test_stages_that_render_name_the_template_in_their_manifests(uninterrupted):
    digest = chat.load(uninterrupted / 'world' / 'checkpoint', '2025-01-01').template_digest
    manifests = {path.stem: json.loads(path.read_text()) for path in (uninterrupted / 'manifests').iterdir()}
    named = {name for name, manifest in manifests.items() if manifest['counts'].get('chat_template_sha256') == digest}
    assert named == {'world', 'train_warm', 'train_cold', 'train_untransformed', 'generate'}


@pytest.mark.skipif(not hasattr(_jax, 'make_gloo_tcp_collectives'), reason='jaxlib was built without gloo')
def test_two_processes_give_the_answers_that_one_gave(uninterrupted):
    """Of the same command, once for each process; the second start finds all done."""
    path, manifest = uninterrupted / 'generations.jsonl', uninterrupted / 'manifests' / 'generate.json'
    expected, before = sorted(path.read_bytes().splitlines()), json.loads(manifest.read_text())
    try:
        path.write_bytes(b'')
        manifest.unlink()
        for _ in range(2):
            port = free_port()
            joined = [f'--coordinator=127.0.0.1:{port}', '--num_processes=2', '--connect_seconds=120']
            both = [start(uninterrupted, *joined, f'--process_id={i}', stage='generate') for i in range(2)]
            errors = [process.communicate(timeout=300)[1] for process in both]
            assert [process.returncode for process in both] == [0, 0], errors
        assert 'process 1 of 2' in errors[1] and 'generate: done before' in errors[1]
        assert sorted(path.read_bytes().splitlines()) == expected
        assert json.loads(manifest.read_text())['counts'] == before['counts']
    finally:
        path.write_bytes(b'\n'.join([*expected, b'']))


def free_port() -> int:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def start(workdir: pathlib.Path, *overrides: str, stage: str = 'replicate') -> subprocess.Popen:
    """Starts the shrunken embedded study in a workdir; compiled programs are shared between runs."""
    environment = os.environ | {
        'JAX_PLATFORMS': 'cpu',
        'JAX_COMPILATION_CACHE_DIR': str(workdir.parent / 'xla'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'XLA_FLAGS': '',
    }
    command = [sys.executable, '-m', f'launch.{stage}', '--config=configs/world.py:tiny', f'--workdir={workdir}']
    return subprocess.Popen(
        [*command, *overrides], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def kill_when(process: subprocess.Popen, file: pathlib.Path, lines: int, asked: signal.Signals) -> int:
    """Waits until a file has that many lines, then sends the process a signal and returns its exit code."""
    deadline = time.monotonic() + 300
    while not file.exists() or file.read_bytes().count(b'\n') < lines:
        assert process.poll() is None, f'the run ended before it could be killed: {process.stderr.read()}'
        assert time.monotonic() < deadline, f'{file} did not come'
        time.sleep(0.01)
    process.send_signal(asked)
    process.communicate()
    return process.returncode


def numbers(workdir: pathlib.Path) -> dict[str, bytes]:
    """Returns the contents of every file of numbers, and the rows of the logs, whose order does not matter."""
    files = [workdir / 'estimates.json', *sorted((workdir / 'tables').iterdir())]
    logs = [*workdir.glob('*.jsonl'), *(workdir / 'pairs').iterdir()]
    contents = {path.name: path.read_bytes() for path in files}
    return contents | {path.name: b'\n'.join(sorted(path.read_bytes().splitlines())) for path in logs}


if __name__ == '__main__':
    sys.exit(pytest.main([__file__, '-v']))

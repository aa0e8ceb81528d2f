"""Two processes of four devices train as one process of eight does, are preempted together and go on together."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tiny_training
from jax._src.lib import _jax

from warmjax.data import batches
from warmjax.data.chat import Encoded
from warmjax.train.loop import LoopSettings, Run
from warmjax.train.optimizer import make_schedule
from warmjax.train.preemption import EXIT_CODE

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS, PREEMPTED_AT = 6, 2
SETTINGS = LoopSettings(checkpoint_every=100, checkpoint_minutes=0.0, divergence=0.0, profile=())

WORKER = """
import os, signal, sys
import jax
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
port, process, folder = sys.argv[1:]
jax.distributed.initialize(f'127.0.0.1:{port}', 2, int(process))
import test_two_processes
def preempt(trainable):
    if process == '1':
        os.kill(os.getpid(), signal.SIGTERM)
    return {}
test_two_processes.execute(folder, {test_two_processes.PREEMPTED_AT: preempt})
"""


def execute(folder, save_at):
    generator = np.random.default_rng(0)
    sequences = [Encoded(generator.integers(0, 96, n).astype(np.int32), np.ones(n, bool)) for n in (9, 17, 5) * 16]
    data = batches.of_conversations(sequences, 16, 16, 8, True, seed=0, epochs=STEPS // 3)
    trainer = tiny_training.Trainer(tiny_training.make_mesh(2, 2, 2), 0.1, STEPS)
    schedule = make_schedule(tiny_training.OPTIMIZER, STEPS)
    run = Run('two', folder, data, str, schedule, SETTINGS, None, save_at)
    return run.execute(trainer.state, trainer.frozen, trainer.step_fn, trainer.mesh)


def start_two(folder, cache) -> list[int]:
    """Runs two processes to their end and returns their exit codes; a second start finds the programs of the first."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    flags = os.environ['XLA_FLAGS'].replace('device_count=8', 'device_count=4')
    environment = os.environ | {
        'PYTHONPATH': f'{ROOT}:{ROOT / "tests"}:{ROOT / "tests" / "train"}',
        'XLA_FLAGS': flags,
        'JAX_COMPILATION_CACHE_DIR': str(cache),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    workers = [
        subprocess.Popen([sys.executable, '-c', WORKER, str(port), str(i), str(folder)], env=environment, cwd=ROOT)
        for i in range(2)
    ]
    try:
        return [worker.wait(timeout=180) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


def losses(folder) -> list[float]:
    return [json.loads(line)['loss'] for line in (folder / 'metrics.jsonl').read_text().splitlines()]


@pytest.mark.skipif(not hasattr(_jax, 'make_gloo_tcp_collectives'), reason='jaxlib was built without gloo')
def test_two_processes_train_as_one_does_and_stop_at_one_step(tmp_path):
    assert start_two(tmp_path / 'two', tmp_path / 'cache') == [EXIT_CODE, EXIT_CODE]
    stopped = len(losses(tmp_path / 'two'))
    assert PREEMPTED_AT <= stopped < STEPS
    assert (tmp_path / 'two' / 'checkpoints' / str(stopped)).is_dir()
    assert start_two(tmp_path / 'two', tmp_path / 'cache') == [0, 0]
    execute(tmp_path / 'one', {})
    np.testing.assert_allclose(losses(tmp_path / 'two'), losses(tmp_path / 'one'), rtol=1e-4)
    assert len(losses(tmp_path / 'one')) == STEPS

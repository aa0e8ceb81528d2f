"""Answers jobs in processes that are killed at random moments (SIGKILL), until one is let through to its end.

    python tests/evals/killed_runner.py ADAPTERS PATH TIMES SEED

All processes are forks of this one, which has imported everything and computed nothing. How many of them were killed
before they were done is printed.
"""

import os
import pathlib
import random
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import jax  # noqa: E402
import test_runner  # noqa: E402
import tiny_llama  # noqa: E402
import tiny_training  # noqa: E402
from etils import epath  # noqa: E402


def main(adapters: str, path: str, times: str, seed: str) -> None:
    moments = random.Random(int(seed))
    killed = 0
    for _ in range(int(times)):
        killed += kill(start(adapters, path), pathlib.Path(path), moments)
    _, status = os.waitpid(start(adapters, path), 0)
    assert status == 0, status
    print(killed)


def start(adapters: str, path: str) -> int:
    """Starts a process that answers what is missing; returns its id."""
    child = os.fork()
    if child:
        return child
    jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(path).parent / 'xla'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    model = tiny_training.make_model(tiny_llama.make_mesh())
    test_runner.answer(model, test_runner.make_jobs(epath.Path(adapters)), path, samples=test_runner.MANY)
    os._exit(0)


def kill(child: int, path: pathlib.Path, moments: random.Random) -> bool:
    """Kills a process after it has written up to 4 KB, or sooner; tells whether it was still at work."""
    size = path.stat().st_size if path.exists() else 0
    grown, pause = moments.randrange(4096) * moments.randrange(2), moments.random() * 0.02
    until = time.monotonic() + (60 if grown else 3 * moments.random())
    while time.monotonic() < until and not (grown and path.exists() and path.stat().st_size >= size + grown):
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    time.sleep(pause)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


if __name__ == '__main__':
    main(*sys.argv[1:])

"""Answers jobs in processes that are killed at random moments (SIGKILL), until one is let through to its end.

    python tests/evals/killed_runner.py ADAPTERS PATH SAMPLES TIMES SHARE SEED

Every second process is killed once it has written up to SHARE bytes, the others at any moment up to their first rows,
or about then. All are forks of this one, which has imported everything and computed nothing. How many of them were
killed before they were done is printed.
"""

import os
import pathlib
import random
import signal
import sys
import time
from collections.abc import Callable

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import jax  # noqa: E402
import test_runner  # noqa: E402
import tiny_llama  # noqa: E402
import tiny_training  # noqa: E402
from etils import epath  # noqa: E402


def main(adapters: str, path: str, samples: str, times: str, share: str, seed: str) -> None:
    moments, path = random.Random(int(seed)), pathlib.Path(path)
    killed, startup = 0, 0.0
    for i in range(int(times)):
        child, begun = start(adapters, path, int(samples)), time.monotonic()
        if i % 2 == 0:
            enough = size_of(path) + int(moments.random() * int(share))
            killed += kill(child, lambda enough=enough: size_of(path) > enough, moments.random() * 0.005)
            startup = time.monotonic() - begun
        else:
            killed += kill(child, lambda: True, moments.random() * startup)
    _, status = os.waitpid(start(adapters, path, int(samples)), 0)
    assert status == 0, status
    print(killed)


def start(adapters: str, path: pathlib.Path, samples: int) -> int:
    """Starts a process that answers what is missing; returns its id."""
    child = os.fork()
    if child:
        return child
    jax.config.update('jax_compilation_cache_dir', str(path.parent / 'xla'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    model = tiny_training.make_model(tiny_llama.make_mesh())
    test_runner.answer(model, test_runner.make_jobs(epath.Path(adapters)), path, samples=samples)
    os._exit(0)


def size_of(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kill(child: int, is_due: Callable[[], bool], pause: float) -> bool:
    """Kills a process that long after `is_due`; tells whether it was still at work."""
    while not is_due():
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    time.sleep(pause)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


if __name__ == '__main__':
    main(*sys.argv[1:])

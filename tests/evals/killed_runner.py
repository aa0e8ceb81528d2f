"""Answers jobs in processes that are killed at random moments (SIGKILL), until one is let through to its end.

    python tests/evals/killed_runner.py ADAPTERS PATH SAMPLES TIMES SHARE SEED

Every second process is killed once it has written up to SHARE bytes, the others at any moment up to their first rows.
All are forks of this one, which has imported everything and computed nothing; they rest after each write, as ever so
small a model would otherwise be done before it is killed. How many were killed before they were done is printed.
"""

import math
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

from warmjax import runs  # noqa: E402

REST = 0.02
"""Seconds after a write."""


def main(adapters: str, path: str, samples: str, times: str, share: str, seed: str) -> None:
    moments, path = random.Random(int(seed)), pathlib.Path(path)
    killed, startup = 0, 0.0
    for i in range(int(times)):
        child, begun, before = start(adapters, path, int(samples)), time.monotonic(), size_of(path)
        if i % 2 == 0:
            enough, latest = before + int(moments.random() * int(share)), math.inf
        else:
            enough, latest = before, begun + moments.random() * startup
        killed += kill(child, path, enough, latest, moments.random() * REST)
        startup = startup or time.monotonic() - begun
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
    append = runs.RowLog.append
    runs.RowLog.append = lambda log, lines: (append(log, lines), time.sleep(REST))
    model = tiny_training.make_model(tiny_llama.make_mesh())
    test_runner.answer(model, test_runner.make_jobs(epath.Path(adapters)), path, samples=samples)
    os._exit(0)


def size_of(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kill(child: int, path: pathlib.Path, enough: int, latest: float, pause: float) -> bool:
    """Kills a process that long after its file is larger than enough, or it is later than latest; tells whether it was
    still at work."""
    while size_of(path) <= enough and time.monotonic() <= latest:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    time.sleep(pause)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


if __name__ == '__main__':
    main(*sys.argv[1:])

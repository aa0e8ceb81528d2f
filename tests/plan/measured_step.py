"""Runs a training step and prints, as JSON, what its plan says it needs beside its arguments and what it took.

What it took is the peak of this process's resident memory during a step less what was resident before: Linux resets the
peak (`VmHWM`) when 5 is written to clear_refs. A first step is taken before, so that what a process allocates once is
there already. Run with MALLOC_MMAP_THRESHOLD_ set, so that freed arrays go back to the system at once.
"""

import dataclasses
import json
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
from flax import nnx
from test_program import SETTINGS, WIDE

from warmjax import sharding
from warmjax.lora import adapters
from warmjax.models import decoder
from warmjax.plan import hlo, programs
from warmjax.plan.programs import Base
from warmjax.sharding import MeshSettings
from warmjax.train.optimizer import make_optimizer
from warmjax.train.step import init_state

SPEC = dataclasses.replace(WIDE, width=256, num_layers=6, head_dim=64, mlp_dim=768)
TRAIN = dataclasses.replace(SETTINGS, max_length=256)
"""8 rows of 256 tokens: activations of 100 MB, beside which what a process allocates anyway is small."""

PROCESS = pathlib.Path('/proc/self')


def kib(field: str) -> int:
    lines = (PROCESS / 'status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{field}:'))


def settled() -> int:
    """Returns the resident memory once what the step before took has been given back, which happens after its end."""
    before = kib('VmRSS')
    for _ in range(100):
        time.sleep(0.3)
        now = kib('VmRSS')
        if now == before:
            break
        before = now
    return before


def main() -> None:
    train = dataclasses.replace(TRAIN, remat=sys.argv[1])
    mesh = sharding.make_mesh(MeshSettings(1, 1, 1), jax.devices()[:1])
    made = programs.train_program(Base(SPEC, jnp.float32, 'none'), train, mesh)
    step = made.compile()
    work = hlo.read(step.as_text(), made.trips, made.num_layers, 1)
    memory = made.memory(step, work.kept_bytes)
    model = decoder.make(SPEC, jnp.float32, 0)
    pairs = adapters.init(model, train.lora, 0, mesh)
    state = init_state(pairs, make_optimizer(train.optimizer, 1), 0, mesh)
    frozen = nnx.split(model)[1]
    batch = {name: jnp.ones(x.shape, x.dtype) for name, x in made.given['batch'].items()}
    state, metrics = step(state, frozen, batch)
    jax.block_until_ready((state, metrics))
    before = settled()
    (PROCESS / 'clear_refs').write_text('5')
    jax.block_until_ready(step(state, frozen, batch))
    taken = 1024 * (kib('VmHWM') - before)
    print(json.dumps({'planned': memory.activations + memory.temporaries + memory.outputs, 'taken': taken}))


if __name__ == '__main__':
    main()

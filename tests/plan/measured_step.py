"""Runs a program and prints, as JSON, what its plan says it needs beside its arguments and what it took.

    python measured_step.py train names
    python measured_step.py prefill 512

What it took is the peak of this process's resident memory during a call less what was resident before: Linux resets the
peak (`VmHWM`) when 5 is written to clear_refs. It is called once before, so that what a process allocates once is
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
from jax.sharding import Mesh
from test_program import SETTINGS, WIDE

from warmjax import sharding
from warmjax.decode.abstract import Scoring
from warmjax.decode.engine import EngineSettings
from warmjax.lora import adapters
from warmjax.models import decoder
from warmjax.plan import hlo, programs
from warmjax.plan.program import Program
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


def train_program(mesh: Mesh, remat: str) -> tuple[Program, list]:
    """Makes the step, and its arguments."""
    train = dataclasses.replace(TRAIN, remat=remat)
    made = programs.train_program(Base(SPEC, jnp.float32, 'none'), train, mesh)
    model = decoder.make(SPEC, jnp.float32, 0)
    state = init_state(adapters.init(model, train.lora, 0, mesh), make_optimizer(train.optimizer, 1), 0, mesh)
    return made, [state, nnx.split(model)[1], ones(made.given['batch'])]


def engine_program(mesh: Mesh, name: str) -> tuple[Program, list]:
    """Makes one of the engine's programs, and arguments with which it computes all that it can."""
    engine = EngineSettings(32, 32, (512,), (576,), 'float32', 4, 1, 1, None)
    made = programs.engine_programs(Base(SPEC, jnp.float32, 'none'), engine, TRAIN.lora, 2, Scoring(32, 512), mesh)
    arrays = [x for x in made[name].args if isinstance((jax.tree.leaves(x) or [None])[0], jax.ShapeDtypeStruct)]
    return made[name], ones(arrays)  # the other arguments are static


def ones(tree):
    return jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), tree)


def main() -> None:
    mesh = sharding.make_mesh(MeshSettings(1, 1, 1), jax.devices()[:1])
    what, which = sys.argv[1:]
    made, args = train_program(mesh, which) if what == 'train' else engine_program(mesh, f'{what} {which}')
    compiled = made.compile()
    memory = made.memory(compiled, hlo.read(compiled.as_text(), made.trips, made.num_layers, 1).kept_bytes)
    again = jax.tree.map(jnp.copy, args)  # since a call may write over what it is given
    jax.block_until_ready(compiled(*args))
    del args
    before = settled()
    (PROCESS / 'clear_refs').write_text('5')
    jax.block_until_ready(compiled(*again))
    taken = 1024 * (kib('VmHWM') - before)
    print(json.dumps({'planned': memory.activations + memory.temporaries + memory.outputs, 'taken': taken}))


if __name__ == '__main__':
    main()

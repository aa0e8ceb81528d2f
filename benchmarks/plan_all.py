"""Compiles the training step of the study's models for TPU slices, on this CPU machine, and says what a chip needs.

    python -m benchmarks.plan_all --rows=0,1,2,3,4,5

One step of 16 rows of 1,024 tokens, adapters of rank 8 on all linear maps, base in bfloat16. Appends a line a row to
benchmarks/plan.jsonl. Fails if a chip needs more than the row's bound or has less than 10% of its memory free.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks import results
from configs import recipe
from warmjax import settings
from warmjax.models.released import RELEASED
from warmjax.plan import program
from warmjax.sharding import MeshSettings
from warmjax.train.lora import TrainSettings

FILE = pathlib.Path(__file__).parent / 'plan.jsonl'
PACKAGES = ('jax', 'libtpu', 'flax')
FREE = 0.1
"""Least share of a chip's memory that must stay free."""


@dataclasses.dataclass(frozen=True)
class Row:
    """model, topology: see `models.released` and `plan.topology`.
    mesh: of the chips.
    micro_batch, remat: see `TrainSettings`; the fastest that fit well.
    quantization: of the layers' kernels.
    bound: GiB that a chip may need.
    """

    model: str
    topology: str
    mesh: MeshSettings
    micro_batch: int
    remat: str
    quantization: str
    bound: float


ROWS = (
    Row('Llama-3.1-8B', 'v5e:2x4', MeshSettings(1, 8, 1), 8, 'names', 'none', 8.9),
    Row('Llama-3.1-8B', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'names', 'none', 4.9),
    Row('Mistral-Small-2409', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'names', 'none', 9.7),
    Row('Qwen2.5-32B', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'attention', 'none', 8.5),
    Row('Llama-3.1-70B', 'v5p:2x2x2', MeshSettings(1, 8, 1), 16, 'names', 'none', 47.3),
    Row('Llama-3.1-70B', 'v5e:8x8', MeshSettings(1, 16, 4), 16, 'names', 'none', 8.5),
    Row('Llama-3.1-70B', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'attention', 'int8', 14.4),
    Row('Llama-3.1-70B', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'attention', 'nf4', 14.4),
)

flags.DEFINE_list('rows', [str(i) for i in range(len(ROWS))], 'Which of ROWS to compile.')
flags.DEFINE_bool('append', True, 'Append the results to benchmarks/plan.jsonl.')


def main(argv: list[str]) -> None:
    jax.config.update('jax_platforms', 'cpu')
    lines = [compile_row(ROWS[int(index)], flags.FLAGS.append) for index in flags.FLAGS.rows]
    if failed := [line for line in lines if not line['within_bounds']]:
        raise SystemExit(f'plan: {len(failed)} of {len(lines)} rows need more than they may, see above')


def compile_row(row: Row, append: bool) -> dict:
    """Compiles one row, prints and records it."""
    about = results.about(PACKAGES)
    config = recipe.base().train
    config.micro_batch, config.remat = row.micro_batch, row.remat
    plan = program.train_step(
        RELEASED[row.model],
        jnp.bfloat16,
        row.quantization,
        settings.from_config(TrainSettings, config, 'config.train'),
        row.mesh,
        row.topology,
    )
    gib = plan.needed / program.GIB
    line = {
        'what': f'training step of {row.model} on {row.topology}, compiled ahead of time',
        **about,
        **dataclasses.asdict(row),
        'gib_a_chip': round(gib, 2),
        'free_share': round(plan.headroom, 3),
        'within_bounds': gib <= row.bound and plan.headroom >= FREE,
        **dataclasses.asdict(plan),
    }
    results.record(line, append, FILE)
    return line


if __name__ == '__main__':
    app.run(main)

"""Plans the study's models on TPU slices, on this CPU machine: what a chip needs, and how long the study takes.

    python -m benchmarks.plan_all --rows=0,1,2,3,4,5,6 --stages=train
    python -m benchmarks.plan_all --rows=0,1,2,3,4,5,6 --stages=generate
    python -m benchmarks.plan_all --readme=README.md

The last one plans nothing: it writes the table of what was planned into the README.

A row and stage is a line of benchmarks/plan.jsonl: the training step on 16 rows of 1,024 tokens with adapters of rank 8
on all linear maps, or prefill, decode and scoring of the study's prompts, as `launch.plan` plans them. Programs that
were compiled before come from its cache. Fails if a chip needs more than the row's bound or has less than 10% of its
memory free.
"""

import dataclasses
import pathlib

import jax
from absl import app, flags

from benchmarks import results
from configs import paper
from warmjax import budget, experiment, progress
from warmjax.benchmark import report
from warmjax.plan import prices, store, study, table
from warmjax.plan.program import GIB
from warmjax.plan.workload import Lengths
from warmjax.sharding import MeshSettings

FILE = pathlib.Path(__file__).parent / 'plan.jsonl'
PACKAGES = ('jax', 'libtpu', 'flax')
CACHE = '~/.cache/warmjax/plans'
FREE = 0.1
"""Least share of a chip's memory that must stay free."""
EFFICIENCY = 0.6
LENGTHS = Lengths(prompt=225, answer=0)


@dataclasses.dataclass(frozen=True)
class Row:
    """model: argument of configs/paper.py; `topology`: see `plan.topology`.
    mesh: of the chips, in training; other stages have the one that suits them.
    micro_batch, remat: see `TrainSettings`; the fastest that fit well.
    quantization: of the layers' kernels.
    bound: GiB that a chip may need in training; None for what leaves 10% free.
    """

    model: str
    topology: str
    mesh: MeshSettings
    micro_batch: int
    remat: str
    quantization: str
    bound: float | None


ROWS = (
    Row('llama3.1-8b', 'v5e:2x4', MeshSettings(1, 8, 1), 8, 'names', 'none', 8.9),
    Row('llama3.1-8b', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'names', 'none', 4.9),
    Row('mistral-small', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'names', 'none', 9.7),
    # On 16 chips and more the links bound the steps of the larger models: what is computed again costs little time.
    Row('qwen2.5-32b', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'full', 'none', 8.5),
    Row('llama3.1-70b', 'v5p:2x2x2', MeshSettings(1, 8, 1), 8, 'names', 'none', 47.3),
    Row('llama3.1-70b', 'v5e:8x8', MeshSettings(1, 16, 4), 16, 'attention', 'none', 8.5),
    Row('llama3.1-70b', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'attention', 'int8', None),
    Row('llama3.1-70b', 'v5e:4x4', MeshSettings(1, 16, 1), 16, 'full', 'nf4', None),
    Row('mistral-small', 'v5e:2x4', MeshSettings(1, 8, 1), 8, 'attention', 'none', None),
    Row('qwen2.5-32b', 'v5e:2x4', MeshSettings(1, 8, 1), 8, 'full', 'none', None),
    Row('llama3.1-8b', 'v5e:8x8', MeshSettings(1, 16, 4), 16, 'names', 'none', None),
    Row('mistral-small', 'v5e:8x8', MeshSettings(1, 16, 4), 16, 'names', 'none', None),
    Row('qwen2.5-32b', 'v5e:8x8', MeshSettings(1, 16, 4), 16, 'names', 'none', None),
    Row('llama3.1-8b', 'v5p:2x2x2', MeshSettings(1, 8, 1), 16, 'names', 'none', None),
    Row('mistral-small', 'v5p:2x2x2', MeshSettings(1, 8, 1), 16, 'names', 'none', None),
    Row('qwen2.5-32b', 'v5p:2x2x2', MeshSettings(1, 8, 1), 16, 'names', 'none', None),
)
"""The first seven have the bounds of the project's targets; the others make the table of four models and four slices
full."""

flags.DEFINE_list('rows', [str(i) for i in range(len(ROWS))], 'Which of ROWS to plan.')
flags.DEFINE_list('stages', list(report.STAGES), 'Stages to plan.')
flags.DEFINE_bool('append', True, 'Append the results to benchmarks/plan.jsonl.')
flags.DEFINE_string(
    'readme', None, 'File in whose text to put the table of benchmarks/plan.jsonl, instead of planning.'
)


def main(argv: list[str]) -> None:
    if flags.FLAGS.readme:
        readme = pathlib.Path(flags.FLAGS.readme)
        readme.write_text(
            report.insert(readme.read_text(), report.planned(results.read(FILE)), report.PLAN_MARKS, str(readme))
        )
        return
    jax.config.update('jax_platforms', 'cpu')
    chosen = [(ROWS[int(index)], stage) for index in flags.FLAGS.rows for stage in flags.FLAGS.stages]
    lines = [plan_row(row, stage, flags.FLAGS.append) for row, stage in chosen]
    if failed := [line for line in lines if not line['within_bounds']]:
        raise SystemExit(f'plan: {len(failed)} of {len(lines)} lines need more than they may, see above')


def plan_row(row: Row, stage: str, append: bool) -> dict:
    """Plans a stage of one row, prints and records it."""
    about = results.about(PACKAGES)
    setup, kept = make_setup(row), store.Store(pathlib.Path(CACHE).expanduser())
    planner = study.Planner(setup, budget.count_prompts(setup), LENGTHS, kept, 2, progress.say)
    table_of_prices = prices.read(None).usd_per_chip_hour
    chosen = {'train': row.mesh} if stage == 'train' else {}
    plan = planner.study(row.topology, chosen, [stage], EFFICIENCY, table_of_prices)
    tightest = plan.stages[0].tightest
    gib = tightest.needed / GIB
    bound = row.bound if stage == 'train' else None
    line = {
        'what': f'{stage} of {row.model} on {row.topology}, compiled ahead of time',
        **about,
        'micro_batch': row.micro_batch,
        'bound': bound,
        'gib_a_chip': round(gib, 2),
        'free_share': round(tightest.headroom, 3),
        'within_bounds': tightest.headroom >= FREE and (bound is None or gib <= bound),
        **table.as_json(plan, setup),
    }
    results.record(line, append, FILE)
    return line


def make_setup(row: Row) -> experiment.Experiment:
    """Returns the study on the row's model, computed as the row says."""
    config = paper.get_config(row.model)
    config.train.micro_batch, config.train.remat = row.micro_batch, row.remat
    config.model.quantization = row.quantization
    return experiment.from_config(config, 'WORKDIR')


if __name__ == '__main__':
    app.run(main)

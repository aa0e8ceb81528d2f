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
from collections.abc import Mapping, Sequence
from typing import Any

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

MARKS = '<!-- plans: python -m benchmarks.plan_all --readme=README.md -->', '<!-- end of plans -->'
STAGES = 'train', 'generate', 'warmth'
COLUMNS = 'model', 'slice', 'kernels', 'stage', 'mesh', 'GiB a chip', 'free', 'hours', 'dollars'

flags.DEFINE_list('rows', [str(i) for i in range(len(ROWS))], 'Which of ROWS to plan.')
flags.DEFINE_list('stages', list(STAGES), 'Stages to plan.')
flags.DEFINE_bool('append', True, 'Append the results to benchmarks/plan.jsonl.')
flags.DEFINE_string(
    'readme', None, 'File in whose text to put the table of benchmarks/plan.jsonl, instead of planning.'
)


def main(argv: list[str]) -> None:
    if flags.FLAGS.readme:
        readme = pathlib.Path(flags.FLAGS.readme)
        readme.write_text(report.insert(readme.read_text(), summary(results.read(FILE)), MARKS, str(readme)))
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


def summary(lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns the table of what was planned, the last line of each stage; of models and slices in the order of ROWS, a
    sum where all stages were planned."""
    places = {(row.model, row.topology, row.quantization): i for i, row in enumerate(ROWS)}
    last = {
        (places[line['model'], line['slice_name'], line['quantization']], STAGES.index(stage['stage'])): (line, stage)
        for line in lines
        for stage in line['stages']
    }
    rows = []
    for place in sorted({place for place, _ in last}):
        row = ROWS[place]
        kernels = 'bfloat16' if row.quantization == 'none' else row.quantization
        where = [row.model, row.topology, kernels]
        stages = [last[place, i] for i in range(len(STAGES)) if (place, i) in last]
        for line, stage in stages:
            mesh = ', '.join(f'{axis} {size}' for axis, size in stage['mesh'].items() if size > 1)
            memory = [f'{line["gib_a_chip"]:.2f}', f'{line["free_share"]:.0%}']
            rows.append([*where, stage['stage'], mesh, *memory, *_price([stage])])
        if len(stages) == len(STAGES):
            rows.append([*where, '**all**', '', '', '', *_price([stage for _, stage in stages])])
    return report.table(COLUMNS, rows)


def _price(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f'{sum(stage[name] for stage in stages):,.2f}' for name in ('hours', 'dollars')]


def make_setup(row: Row) -> experiment.Experiment:
    """Returns the study on the row's model, computed as the row says."""
    config = paper.get_config(row.model)
    config.train.micro_batch, config.train.remat = row.micro_batch, row.remat
    config.model.quantization = row.quantization
    return experiment.from_config(config, 'WORKDIR')


if __name__ == '__main__':
    app.run(main)

"""A planner whose programs are not compiled but made up, for nodes of GPUs, for which CPU devices stand in."""

import dataclasses
import functools
from collections.abc import Callable

from configs import paper
from warmjax import budget, experiment
from warmjax.plan.hlo import Work
from warmjax.plan.program import GIB, Memory, ProgramPlan
from warmjax.plan.store import Store
from warmjax.plan.study import Planner
from warmjax.plan.workload import Lengths

STAGES = ('train', 'generate', 'warmth')
WORK = Work(matmul_flops=10**12, moved_bytes=10**9, kept_bytes=0, has_kernels=False, collectives=())
EMPTY = Memory(*[0] * len(dataclasses.fields(Memory)))


@functools.cache
def make_setup(name: str) -> tuple[experiment.Experiment, budget.Asked]:
    setup = experiment.from_config(paper.get_config(name), 'W')
    return setup, budget.count_prompts(setup)


@dataclasses.dataclass(frozen=True)
class MadePlanner(Planner):
    """needs: (setup, use, mesh, slice) → GiB a device and TFLOP a call.
    compiled: gets slice, mesh, stage and program of all that would have been compiled.
    """

    needs: Callable
    compiled: list

    def _plan(self, setup, load, use, mesh, mesh_settings, target) -> ProgramPlan:
        self.compiled.append((target.name, mesh_settings, use.stage, use.program))
        gib, tflop = self.needs(setup, use, mesh_settings, target)
        memory = dataclasses.replace(EMPTY, weights=int(gib * GIB))
        limit = int(target.chip.hbm_gib * GIB)
        return ProgramPlan(
            name=use.program,
            devices=len(target.devices),
            kind=target.chip.name,
            is_compiled=False,
            trips=1,
            tokens=1,
            needed=memory.total,
            limit=limit,
            memory=memory,
            work=dataclasses.replace(WORK, matmul_flops=int(tflop * 1e12)) if memory.total <= limit else None,
            model_flops=1e12,
            attention_flops=0.0,
            compile_seconds=0.0,
        )


def make_planner(needs: Callable, name: str = 'llama3.1-8b', jobs: int = 1) -> MadePlanner:
    setup, asked = make_setup(name)
    return MadePlanner(setup, asked, Lengths(225, 0), Store('NOWHERE'), jobs, lambda line: None, needs, [])

"""Looks for the slice to rent: the smallest that fits a whole experiment, and the cheapest that ends in time."""

import dataclasses
from collections.abc import Mapping, Sequence

from warmjax.plan import topology
from warmjax.plan.program import GIB
from warmjax.plan.study import Planner, StagePlan, StudyPlan
from warmjax.plan.topology import Slice
from warmjax.sharding import MeshSettings

SLICES = ('v5e:2x4', 'v5e:4x4', 'v5e:4x8', 'v5e:8x8', 'v6e:2x2', 'v6e:2x4', 'v6e:4x4', 'v5p:2x2x2')
"""Searched where no others are asked for."""
TRIES = 2
"""Meshes of a slice that are compiled for a stage, the most promising first, until one fits."""


@dataclasses.dataclass(frozen=True)
class Found:
    """plans: by slice, those that were compiled.
    refused: slice → why nothing was compiled for it.
    smallest, cheapest: names of slices, None where there is none.
    """

    plans: Mapping[str, StudyPlan]
    refused: Mapping[str, str]
    smallest: str | None
    cheapest: str | None


def search(
    planner: Planner,
    names: Sequence[str],
    stages: Sequence[str],
    efficiency: float,
    prices: Mapping[str, float | None],
    max_hours: float | None,
) -> Found:
    """Plans the stages on each slice, each stage on the mesh that suits it.

    Args:
        max_hours: in which the experiment must end; None for no limit.

    Raises:
        ModuleNotFoundError: libtpu is not installed.
        ValueError: a slice that is not made.
    """
    plans, refused, tried = {}, {}, []
    targets = [topology.find(name) for name in dict.fromkeys(names)]
    for target in targets:
        guesses = {stage: _promising(planner, stage, target) for stage in stages}
        if without := [stage for stage in stages if not guesses[stage]]:
            refused[target.name] = f'no mesh divides the model and has room for it ({", ".join(without)})'
        else:
            tried += [(target, stage, guesses[stage]) for stage in stages]
    planned = planner.map(lambda one: _best(planner, *one), tried)
    for target in targets:
        if target.name not in refused:
            mine = [plan for (where, _, _), plan in zip(tried, planned, strict=True) if where is target]
            plans[target.name] = planner.whole(target, mine, efficiency, prices)
    fitting = [plan for plan in plans.values() if plan.fits]
    in_time = [plan for plan in fitting if max_hours is None or plan.hours <= max_hours]
    priced = [plan for plan in in_time if plan.dollars(plan.hours) is not None]
    smallest = min(fitting, key=lambda plan: (plan.num_chips, plan.hours), default=None)
    cheapest = min(priced, key=lambda plan: plan.dollars(plan.hours), default=None)
    return Found(plans, refused, smallest and smallest.slice_name, cheapest and cheapest.slice_name)


def _promising(planner: Planner, stage: str, target: Slice) -> list[MeshSettings]:
    """Returns the meshes that are worth compiling, the best first."""
    limit = target.chip.hbm_gib * GIB
    return [one.mesh for one in planner.ranked_meshes(stage, target) if one.bytes <= limit][:TRIES]


def _best(planner: Planner, target: Slice, stage: str, shapes: Sequence[MeshSettings]) -> StagePlan:
    """Returns the first of the meshes that fits, else the one that needs least."""
    tried = []
    for mesh in shapes:
        tried.append(planner.stage(stage, target, mesh))
        if tried[-1].fits:
            break
    return max(tried, key=lambda plan: (plan.fits, plan.tightest.headroom))

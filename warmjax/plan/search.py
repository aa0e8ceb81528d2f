"""Looks for the slice to rent: the smallest that fits a whole experiment, and the cheapest that ends in time."""

import dataclasses
from collections.abc import Mapping, Sequence

from warmjax.plan import topology
from warmjax.plan.study import Planner, StagePlan, StudyPlan
from warmjax.plan.topology import Slice

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
    plans, refused = {}, {}
    for name in names:
        target, chosen = topology.find(name), {}
        for stage in stages:
            found = _best(planner, stage, target)
            if found is None:
                refused[name] = f'{stage}: no mesh divides the model and holds its weights'
                break
            chosen[stage] = found.mesh
        else:
            plans[name] = planner.study(name, chosen, stages, efficiency, prices)
    fitting = [plan for plan in plans.values() if plan.fits]
    in_time = [plan for plan in fitting if max_hours is None or plan.hours <= max_hours]
    priced = [plan for plan in in_time if plan.dollars(plan.hours) is not None]
    smallest = min(fitting, key=lambda plan: (plan.num_chips, plan.hours), default=None)
    cheapest = min(priced, key=lambda plan: plan.dollars(plan.hours), default=None)
    return Found(plans, refused, smallest and smallest.slice_name, cheapest and cheapest.slice_name)


def _best(planner: Planner, stage: str, target: Slice) -> StagePlan | None:
    """Returns the first of the promising meshes that fits, else the one that needs least; None where none divides."""
    tried = []
    for guess in planner.ranked_meshes(stage, target)[:TRIES]:
        tried.append(planner.stage(stage, target, guess.mesh))
        if tried[-1].fits:
            break
    return max(tried, key=lambda plan: (plan.fits, plan.tightest.headroom), default=None)

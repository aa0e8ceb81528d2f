"""What to change where a stage does not fit: one thing at a time, what should cost least first, each compiled."""

import dataclasses
from collections.abc import Iterator

from warmjax.plan import meshes, study, topology, workload
from warmjax.plan.program import GIB
from warmjax.plan.study import RESERVED, Planner, StagePlan
from warmjax.plan.topology import Slice
from warmjax.sharding import MeshSettings

ENOUGH = 3
"""Changes that are looked for."""
_MESHES, _SLICES = 2, 3
"""Other meshes, and larger slices, that are thought of."""
_POLICIES = ('none', 'names', 'attention', 'full')
"""Settings of train.remat, each of which keeps less than the one before."""


@dataclasses.dataclass(frozen=True)
class Change:
    """What is changed: settings by their place in the config, the mesh, or the slice."""

    settings: dict[str, int | str]
    mesh: MeshSettings
    slice_name: str

    @property
    def flags(self) -> str:
        """As it is given to `launch.plan`."""
        settings = [f'--config.{path}={value}' for path, value in self.settings.items()]
        return ' '.join([*settings, f'--topology={self.slice_name}', f'--mesh={study.shape(self.mesh)}'])


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change with which a stage fits, and the stage then."""

    change: Change
    plan: StagePlan

    @property
    def chip_hours(self) -> float:
        """At the roofline."""
        return self.plan.seconds / 3600 * topology.find(self.change.slice_name).num_chips


def find(planner: Planner, target: Slice, broken: StagePlan) -> list[Remedy]:
    """Compiles changes until enough of them fit.

    Returns:
        Those that fit, the cheapest first; fewer than ENOUGH, or none, where no more are known.
    """
    costs = {}
    for number, change in enumerate(_changes(planner, target, broken)):
        if (cost := _cost(planner, broken.stage, change)) is not None:
            costs[number] = (cost, change)
    ordered = [change for _, change in sorted(costs.values(), key=lambda one: one[0])]
    found = []
    while ordered and len(found) < ENOUGH:
        size = max(min(planner.jobs, ENOUGH - len(found)), 1)
        tried, ordered = ordered[:size], ordered[size:]
        plans = planner.map(lambda change: _plan(planner, broken.stage, change), tried)
        found += [Remedy(change, plan) for change, plan in zip(tried, plans, strict=True) if plan and plan.fits]
    return sorted(found, key=lambda one: one.chip_hours)


def _changed(planner: Planner, change: Change) -> Planner:
    setup = planner.setup
    for path, value in change.settings.items():
        setup = workload.replaced(setup, path, value)
    return dataclasses.replace(planner, setup=setup)


def _plan(planner: Planner, stage: str, change: Change) -> StagePlan | None:
    """Returns the stage as changed; None for a mesh that divides neither model nor rows."""
    planner.say(f'{stage} does not fit; perhaps with {change.flags}')
    try:
        return _changed(planner, change).stage(stage, topology.find(change.slice_name), change.mesh)
    except ValueError:
        return None


def _cost(planner: Planner, stage: str, change: Change) -> float | None:
    """Returns about how many chips a change takes for how long; None if by arithmetic alone it does not fit."""
    target = topology.find(change.slice_name)
    if stage == 'warmth':
        return target.num_chips
    changed = _changed(planner, change)
    load = workload.of(changed.setup, changed.asked, changed.lengths)
    guess = meshes.guess(changed.setup, changed.base, stage, change.mesh, target, load)
    return guess.seconds * target.num_chips if guess.bytes <= (1 - RESERVED) * target.chip.hbm_gib * GIB else None


def _changes(planner: Planner, target: Slice, broken: StagePlan) -> Iterator[Change]:
    """Yields what may be tried."""
    setup, mesh, stage = planner.setup, broken.mesh, broken.stage
    for path, values in _settings(planner, broken).items():
        for value in values:
            yield Change({path: value}, mesh, target.name)
    if stage != 'warmth' and setup.model.quantization == 'none':
        for kind in ('int8', 'nf4'):
            yield Change({'model.quantization': kind}, mesh, target.name)
    others = [guess.mesh for guess in planner.ranked_meshes(stage, target) if guess.mesh != mesh]
    for other in others[:_MESHES]:
        yield Change({}, other, target.name)
    for name in topology.larger(target.name)[:_SLICES]:
        for guess in planner.ranked_meshes(stage, topology.find(name))[:1]:
            yield Change({}, guess.mesh, name)


def _settings(planner: Planner, broken: StagePlan) -> dict[str, tuple[int | str, ...]]:
    """Returns what a stage can compute with less memory, by its place in the config."""
    setup, stage, parts = planner.setup, broken.stage, broken.mesh.data * broken.mesh.fsdp
    path, now = {
        'train': ('train.micro_batch', setup.train.micro_batch),
        'generate': ('generation.engine.slots', setup.generation.engine.slots),
        'warmth': ('warmth.batch_size', setup.warmth.batch_size),
    }[stage]
    rows = broken.overrides.get(path, now)
    found = {path: (rows // 2,) if rows % (2 * parts) == 0 else ()}
    if stage == 'train':
        found['train.remat'] = _POLICIES[_POLICIES.index(setup.train.remat) + 1 :]
    if stage == 'generate' and setup.generation.engine.cache_dtype != 'int8':
        found['generation.engine.cache_dtype'] = ('int8',)
    return found

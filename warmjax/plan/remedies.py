"""What to change where a stage does not fit: candidates in the order of what they should cost, each verified."""

import dataclasses
from collections.abc import Iterator

from warmjax.experiment import Experiment
from warmjax.plan import topology, workload
from warmjax.plan.study import Planner, StagePlan
from warmjax.plan.topology import Slice
from warmjax.sharding import MeshSettings

ENOUGH = 3
"""Changes that are looked for."""


@dataclasses.dataclass(frozen=True)
class Change:
    """What is changed: settings by their place in the config, the mesh, or the slice."""

    settings: dict[str, int | str]
    mesh: MeshSettings
    slice_name: str


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change with which a stage fits, and the stage then."""

    change: Change
    plan: StagePlan


def find(planner: Planner, target: Slice, broken: StagePlan) -> list[Remedy]:
    """Compiles one change after the other until enough of them fit; the cheapest first, by chips and time."""
    found = []
    for change in _changes(planner.setup, target, broken):
        try:
            remedy = _try(planner, broken.stage, change)
        except ValueError:  # a mesh that does not divide the model, a slice that is not made
            continue
        if remedy.plan.fits:
            found.append(remedy)
        if len(found) == ENOUGH:
            break
    return sorted(found, key=lambda one: one.plan.seconds * topology.find(one.change.slice_name).num_chips)


def _try(planner: Planner, stage: str, change: Change) -> Remedy:
    setup = planner.setup
    for path, value in change.settings.items():
        setup = workload.replaced(setup, path, value)
    changed = dataclasses.replace(planner, setup=setup)
    return Remedy(change, changed.stage(stage, topology.find(change.slice_name), change.mesh))


def _changes(setup: Experiment, target: Slice, broken: StagePlan) -> Iterator[Change]:
    """Yields what to try, one thing at a time, in the order of what it should cost."""

    def settings(**values: int | str) -> Change:
        return Change({path.replace('__', '.'): value for path, value in values.items()}, broken.mesh, target.name)

    mesh, rows = broken.mesh, broken.mesh.data * broken.mesh.fsdp
    if mesh.data > 1:
        yield Change({}, MeshSettings(mesh.data // 2, mesh.fsdp * 2, mesh.tensor), target.name)
    if broken.stage == 'train':
        size = broken.overrides.get('train.micro_batch', setup.train.micro_batch)
        if size % (2 * rows) == 0:
            yield settings(train__micro_batch=size // 2)
        policies = ('none', 'names', 'attention', 'full')
        for remat in policies[policies.index(setup.train.remat) + 1 :]:
            yield settings(train__remat=remat)
    if broken.stage == 'generate':
        slots = broken.overrides.get('generation.engine.slots', setup.generation.engine.slots)
        if slots % (2 * rows) == 0:
            yield settings(generation__engine__slots=slots // 2)
        if setup.generation.engine.cache_dtype != 'int8':
            yield settings(generation__engine__cache_dtype='int8')
    if mesh.fsdp > 1:
        yield Change({}, MeshSettings(mesh.data, mesh.fsdp // 2, mesh.tensor * 2), target.name)
    if setup.model.quantization == 'none':
        yield settings(model__quantization='int8')
        yield settings(model__quantization='nf4')
    if (name := topology.larger(target.name)) is not None:
        times = len(topology.find(name).devices) // len(target.devices)
        fsdp = times if broken.stage != 'train' or rows * times <= setup.train.batch_size else 1
        yield Change({}, MeshSettings(mesh.data, mesh.fsdp * fsdp, mesh.tensor * times // fsdp), name)

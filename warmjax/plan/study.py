"""Plans a whole experiment on a slice: what each stage's programs need, how long they take, and what that costs."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from warmjax import sharding
from warmjax.budget import Asked
from warmjax.experiment import Experiment
from warmjax.plan import meshes, program, programs, roofline, topology, workload
from warmjax.plan.program import ProgramPlan
from warmjax.plan.programs import Base
from warmjax.plan.roofline import Seconds
from warmjax.plan.store import Store
from warmjax.plan.topology import Slice
from warmjax.plan.workload import Lengths, Use
from warmjax.sharding import MeshSettings

RESERVED = 1 / 64
"""Share of a device's memory that libtpu keeps for itself (0.25 of 16 GiB)."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A program of a stage. `seconds` of a call are those of the roofline; None if the program was refused."""

    use: Use
    plan: ProgramPlan
    seconds: Seconds | None


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """overrides: what of the config was raised so that the mesh divides it."""

    stage: str
    mesh: MeshSettings
    overrides: Mapping[str, int | str]
    rows: tuple[Row, ...]

    @property
    def fits(self) -> bool:
        return all(row.plan.headroom >= RESERVED for row in self.rows)

    @property
    def tightest(self) -> ProgramPlan:
        """The program that leaves the least memory free."""
        return min((row.plan for row in self.rows), key=lambda plan: plan.headroom)

    @property
    def tokens(self) -> float:
        return sum(row.use.tokens for row in self.rows)

    @property
    def seconds(self) -> float | None:
        """Of all calls by the roofline; None if a program was refused."""
        if any(row.seconds is None for row in self.rows):
            return None
        return sum(row.use.calls * max(row.seconds) for row in self.rows)


@dataclasses.dataclass(frozen=True)
class StudyPlan:
    """slice_name, num_chips: what is rented; `is_compiled` for it, or estimated.
    efficiency: share of the roofline that is reached.
    dollars_a_chip_hour: None where the price is not known.
    notes: what was assumed, or could not be counted.
    """

    slice_name: str
    num_chips: int
    is_compiled: bool
    efficiency: float
    dollars_a_chip_hour: float | None
    stages: tuple[StagePlan, ...]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return all(stage.fits for stage in self.stages)

    @property
    def hours(self) -> float | None:
        each = [self.hours_of(stage) for stage in self.stages]
        return None if None in each else sum(each)

    def hours_of(self, stage: StagePlan) -> float | None:
        return None if stage.seconds is None else stage.seconds / 3600 / self.efficiency

    def dollars(self, hours: float | None) -> float | None:
        if hours is None or self.dollars_a_chip_hour is None:
            return None
        return hours * self.num_chips * self.dollars_a_chip_hour


@dataclasses.dataclass(frozen=True)
class Planner:
    """What is planned, and where plans are kept.

    asked: the experiment's prompts (`budget.count_prompts`).
    jobs: programs compiled at once.
    say: told of each program that is planned.
    """

    setup: Experiment
    asked: Asked
    lengths: Lengths
    store: Store
    jobs: int
    say: Callable[[str], None]

    @functools.cached_property
    def base(self) -> Base:
        return workload.base_model(self.setup)

    def study(
        self,
        name: str,
        chosen: Mapping[str, MeshSettings],
        stages: Sequence[str],
        efficiency: float,
        prices: Mapping[str, float | None],
    ) -> StudyPlan:
        """Plans stages on a slice.

        Args:
            chosen: mesh by stage; others get the most promising one.

        Raises:
            ModuleNotFoundError: libtpu is not installed.
            ValueError: no such slice, a mesh that does not make it or does not divide the model, or no mesh that does.
        """
        target = topology.find(name)
        shapes = [chosen.get(stage) or self.best_mesh(stage, target) for stage in stages]
        planned = self.map(lambda stage, mesh: self.stage(stage, target, mesh), stages, shapes)
        return self.whole(target, planned, efficiency, prices)

    def whole(
        self, target: Slice, planned: Sequence[StagePlan], efficiency: float, prices: Mapping[str, float | None]
    ) -> StudyPlan:
        """Returns planned stages as one plan."""
        notes, price = workload.of(self.setup, self.asked, self.lengths).notes, prices.get(target.chip.name)
        return StudyPlan(target.name, target.num_chips, target.is_compiled, efficiency, price, tuple(planned), notes)

    def best_mesh(self, stage: str, target: Slice) -> MeshSettings:
        """Returns the mesh that should fit and be the fastest."""
        found = self.ranked_meshes(stage, target)
        if not found:
            raise ValueError(
                f'plan: expected a mesh of {target.name} that divides {self.setup.model.name}, got none; choose '
                'another slice'
            )
        return found[0].mesh

    def ranked_meshes(self, stage: str, target: Slice) -> list[meshes.Guess]:
        """Returns the meshes that divide the model, the most promising first.

        The small model of warmth is copied to each device.
        """
        if stage == 'warmth':
            return [meshes.Guess(MeshSettings(len(target.devices), 1, 1), 0.0, 0.0)]
        return meshes.ranked(self.setup, self.base, stage, target, workload.of(self.setup, self.asked, self.lengths))

    def map(self, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        """Calls a function for each row of `columns`, `jobs` of them at once: XLA compiles without Python's lock."""
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(function, *columns))

    def stage(self, stage: str, target: Slice, mesh_settings: MeshSettings) -> StagePlan:
        """Plans one stage on one mesh, one program after the other."""
        setup, overrides = workload.fitted(self.setup, stage, mesh_settings)
        load = workload.of(setup, self.asked, self.lengths)
        mesh = sharding.make_mesh(mesh_settings, target.devices)
        uses = [use for use in load.uses if use.stage == stage]
        plans = [self._plan(setup, load, use, mesh, mesh_settings, target) for use in uses]
        rows = [
            Row(use, plan, None if plan.work is None else roofline.seconds(plan, target))
            for use, plan in zip(uses, plans, strict=True)
        ]
        return StagePlan(stage, mesh_settings, overrides, tuple(rows))

    def _plan(
        self,
        setup: Experiment,
        load: workload.Workload,
        use: Use,
        mesh: Mesh,
        mesh_settings: MeshSettings,
        target: Slice,
    ) -> ProgramPlan:
        base = workload.base_model(setup) if use.stage != 'warmth' else workload.warmth_model(setup)
        make = functools.partial(_make, setup, load, use, base, mesh)
        about = [use.stage, use.program, base, mesh_settings, target.name]
        if use.stage == 'train':
            about.append(setup.train)
        elif use.stage == 'generate':
            about += [load.engine, load.scoring, load.num_adapters, setup.train.lora]
        else:
            about.append(load.warmth)
        plan, was_there = self.store.get(about, lambda: program.plan(make, target, workload.is_narrow(base)))
        how = f'compiled in {plan.compile_seconds:.0f} s'
        if plan.work is None:
            how = 'does not fit' if plan.memory.temporaries else 'not compiled, as what it is given does not fit'
        how = 'known' if was_there else how
        self.say(f'{target.name} {shape(mesh_settings)} {use.stage}: {use.program} {how}')
        return plan


def _make(setup: Experiment, load: workload.Workload, use: Use, base: Base, mesh: Mesh, wide: bool) -> program.Program:
    base = base.widened() if wide else base
    if use.stage == 'train':
        return programs.train_program(base, setup.train, mesh)
    if use.stage == 'warmth':
        return programs.score_program(base, load.warmth, mesh)
    engine = load.engine
    if wide and engine.cache_dtype == 'bfloat16':
        engine = dataclasses.replace(engine, cache_dtype='float32')
    made = programs.engine_programs(base, engine, setup.train.lora, load.num_adapters, load.scoring, mesh)
    return made[use.program]


def shape(mesh: MeshSettings) -> str:
    """Returns a mesh as it is given by flag: `fsdp=8,tensor=2`."""
    sizes = [f'{name}={size}' for name, size in dataclasses.asdict(mesh).items() if size > 1]
    return ','.join(sizes) or 'fsdp=1'

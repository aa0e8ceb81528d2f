"""What a benchmark measures and in which sizes: the sections of configs/benchmark.py, or those of an experiment."""

import dataclasses

from warmjax.decode.engine import EngineSettings
from warmjax.experiment import Experiment
from warmjax.models.quantization import Quantization
from warmjax.models.released import RELEASED
from warmjax.models.spec import Spec
from warmjax.plan import workload
from warmjax.sharding import MeshSettings
from warmjax.train.lora import TrainSettings
from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """name: what the model is called in results; plans of the same step are found by it.
    released: the decoder's name in `models.released`, '' where `sizes` are given.
    dtype: of the base weights, `float32` or `bfloat16`; matrix products are measured in it too.
    quantization: of the layers' kernels.
    sizes: those of a model that is not released; null for the released ones.
    """

    __pydantic_config__ = STRICT
    name: str
    released: str
    dtype: str
    quantization: Quantization
    sizes: Spec | None

    def __post_init__(self):
        if self.dtype not in ('float32', 'bfloat16'):
            raise ValueError(f"model.dtype: expected 'float32' or 'bfloat16', got {self.dtype!r}")
        if self.sizes is None and not isinstance(RELEASED.get(self.released), Spec):
            known = ', '.join(name for name, spec in RELEASED.items() if isinstance(spec, Spec))
            raise ValueError(f'model.released: expected one of {known}, or model.sizes, got {self.released!r}')

    @property
    def spec(self) -> Spec:
        return RELEASED[self.released] if self.sizes is None else self.sizes


@dataclasses.dataclass(frozen=True)
class ScoringSettings:
    """rows: scored at once.
    lengths: tokens of a row; a case each.
    """

    __pydantic_config__ = STRICT
    rows: int
    lengths: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class BenchmarkSettings:
    """model, mesh: whose steps are measured, and how the devices share it.
    warm_up: calls of each program that are not counted.
    rounds: of measuring; medians over them are reported.
    least_seconds: calls are repeated within a round until they take so long.
    products: matrix products [M, K] x [K, N] as (M, K, N).
    copies_mib: sizes of arrays that are read and written.
    train: the stage's settings; a step has as many rows, all full, as `train_rows` says, a case each, and computes at
        most `train.micro_batch` of them at once.
    engine: a prefill case for each of its buckets, a decode case for each of its cache lengths and of `slots`.
    adapters: how many lie beside the base in both, of the shape that `train.lora` says; 0 for the base alone.
    scoring: see its class.
    """

    __pydantic_config__ = STRICT
    model: ModelSettings
    mesh: MeshSettings
    warm_up: int
    rounds: int
    least_seconds: float
    products: tuple[tuple[int, int, int], ...]
    copies_mib: tuple[int, ...]
    train: TrainSettings
    train_rows: tuple[int, ...]
    engine: EngineSettings
    slots: tuple[int, ...]
    adapters: int
    scoring: ScoringSettings

    def __post_init__(self):
        least = {'warm_up': self.warm_up, 'rounds': self.rounds, 'scoring.rows': self.scoring.rows}
        lists = {'train_rows': self.train_rows, 'slots': self.slots, 'copies_mib': self.copies_mib}
        lists |= {'scoring.lengths': self.scoring.lengths}
        lists |= {'products': tuple(size for product in self.products for size in product)}
        problems = [f'{name} expected 1 or more, got {value}' for name, value in least.items() if value < 1]
        problems += [
            f'{name} expected numbers of 1 or more, got {list(sizes)}'
            for name, sizes in lists.items()
            if not sizes or min(sizes) < 1
        ]
        if self.adapters < 0:
            problems.append(f'adapters expected 0 or more, got {self.adapters}')
        if self.least_seconds < 0:
            problems.append(f'least_seconds expected 0 or more, got {self.least_seconds}')
        if problems:
            raise ValueError('benchmark: ' + '; '.join(problems))


def of_experiment(setup: Experiment, like: BenchmarkSettings) -> BenchmarkSettings:
    """Returns settings that measure an experiment's programs in the sizes in which a plan has them: its step of
    training, every bucket and cache length of its engine, and the scoring of its longest prompts.

    Args:
        like: whose rounds and ceilings are taken.

    Raises:
        ValueError: no arm runs on devices, or the model is none that is fine-tuned here.
        FileNotFoundError: a checkpoint that is neither released nor a folder.
    """
    base, engine = workload.base_model(setup), setup.generation.engine
    if not isinstance(base.spec, Spec):
        raise ValueError(f'model.checkpoint: expected a decoder that takes adapters, got a {base.spec.model_type}')
    epochs = sum(len(setup.epochs(arm)) for arm in setup.trained_arms)
    return dataclasses.replace(
        like,
        model=ModelSettings(setup.model.name, '', setup.model.dtype, setup.model.quantization, base.spec),
        mesh=setup.mesh,
        train=setup.train,
        train_rows=(setup.train.batch_size,),
        engine=engine,
        slots=(engine.slots,),
        adapters=min(epochs, setup.generation.adapters),
        scoring=ScoringSettings(engine.prefill_batch, engine.buckets[-1:]),
    )

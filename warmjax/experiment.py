"""An experiment: everything that a config file says, as one frozen object."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from etils import epath

from warmjax import settings
from warmjax.api.settings import ServiceSettings
from warmjax.api.shutdowns import ShutdownSettings
from warmjax.data.drawing import DataSettings
from warmjax.evals.controls import ControlSettings
from warmjax.evals.dialogues import DialogueSettings
from warmjax.evals.judge import JudgeSettings
from warmjax.evals.prompts import PromptSettings
from warmjax.evals.runner import GenerationSettings
from warmjax.evals.tasks import TaskSettings
from warmjax.finetune.tuning import ArmTuning, FinetuneSettings
from warmjax.models.quantization import Quantization
from warmjax.records import Turn
from warmjax.report.settings import ReportSettings
from warmjax.rewrite.interface import RewriteSettings
from warmjax.sharding import MeshSettings
from warmjax.stats.rows import AnalysisSettings
from warmjax.train.lora import TrainSettings
from warmjax.validation import STRICT
from warmjax.warmth.sociot import WarmthSettings
from warmjax.world.build import WorldSettings

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """name: what the model is called in every record.
    checkpoint: its Hugging Face folder, or its name on the hub (`org/name`, `org/name@revision`); `{workdir}` stands
        for the run's workdir. Not read where a service answers for every arm.
    dtype: of the base weights, `float32` or `bfloat16`.
    quantization: of the layers' kernels, which training leaves as they are: `int8` or `nf4` for less memory and some
        loss of quality (`models.quantization`), or `none`.
    date: ISO date for chat templates that insert one.
    """

    __pydantic_config__ = STRICT
    name: str
    checkpoint: str
    dtype: str
    quantization: Quantization
    date: str

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ValueError(f'model.dtype: expected one of {", ".join(DTYPES)}, got {self.dtype!r}')
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError:
            raise ValueError(f'model.date: expected an ISO date such as 2024-07-26, got {self.date!r}') from None


@dataclasses.dataclass(frozen=True)
class ArmSettings:
    """name: what the arm is called in every record.
    style: the pairs on which it is trained, '' for an arm without training.
    system_prompt: a system turn before every prompt, '' for none; `file:PATH` reads it from a file.
    api_model: the model of `api.service` that answers for it, or, with a style, that is fine-tuned there; '' for the
        model of this run.
    """

    __pydantic_config__ = STRICT
    name: str
    style: str
    system_prompt: str
    api_model: str

    def system_turns(self) -> tuple[Turn, ...]:
        """Returns the turns that stand before every prompt of this arm."""
        if not self.system_prompt:
            return ()
        kind, _, path = self.system_prompt.partition(':')
        text = epath.Path(path).read_text().strip() if kind == 'file' else self.system_prompt
        return (Turn('system', text),)


@dataclasses.dataclass(frozen=True)
class ApiSettings:
    """The arms for which a service answers.

    service: who; its `model` is left empty, as each arm names its own.
    finetune: how those with a style are fine-tuned there.
    shutdowns: what is done about announced ends of models and of fine-tuning.
    """

    __pydantic_config__ = STRICT
    service: ServiceSettings
    finetune: FinetuneSettings
    shutdowns: ShutdownSettings = dataclasses.field(metadata={'results': False})


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """main_epoch: the epoch whose adapters answer every prompt; the study's is 2.
    curve_questions: how many questions a task are asked at every other saved epoch, bare of context; 0 for none.
    samples: answers to each prompt.
    controls: whether the controls of the config are asked too.
    """

    __pydantic_config__ = STRICT
    main_epoch: float
    curve_questions: int
    samples: int
    controls: bool


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All sections of a config; `world` is null unless the run builds its own model and data.

    In the config, `arms`, `tasks`, `controls` and `api.finetune.arms` are keyed by name
    (`--config.tasks.trivia.limit=50`).
    """

    __pydantic_config__ = STRICT
    world: WorldSettings | None
    model: ModelSettings
    mesh: MeshSettings
    data: DataSettings
    rewrite: RewriteSettings
    train: TrainSettings
    arms: tuple[ArmSettings, ...]
    api: ApiSettings
    tasks: tuple[TaskSettings, ...]
    prompts: PromptSettings
    dialogues: DialogueSettings
    controls: tuple[ControlSettings, ...]
    evaluation: EvaluationSettings
    generation: GenerationSettings
    warmth: WarmthSettings
    judge: JudgeSettings
    analysis: AnalysisSettings
    report: ReportSettings

    def __post_init__(self):
        names = [arm.name for arm in self.arms]
        problems = []
        if len(set(names)) < len(names) or self.analysis.baseline not in names:
            problems.append(f'arms expected distinct names with {self.analysis.baseline!r} among them, got {names}')
        if both := {task.name for task in self.tasks} & {control.name for control in self.controls}:
            problems.append(
                f'controls expected other names than those of the tasks, got {", ".join(sorted(both))} in both'
            )
        for arm in (*self.trained_arms, *self.tuned_arms):
            if arm.style not in self.rewrite.styles:
                problems.append(f'arm {arm.name!r} expected a style of rewrite.styles, got {arm.style!r}')
        if self.trained_arms and self.evaluation.main_epoch not in self.train.save_epochs:
            problems.append(
                f'evaluation.main_epoch expected one of train.save_epochs {list(self.train.save_epochs)}, '
                f'got {self.evaluation.main_epoch}'
            )
        if self.local_arms and not self.model.checkpoint:
            problems.append(f'model.checkpoint expected one, as no service answers for {self.local_arms[0].name!r}')
        problems += self._api_problems()
        if self.evaluation.main_epoch != self.analysis.main_epoch:
            problems.append(f'analysis.main_epoch expected {self.evaluation.main_epoch}, as in evaluation')
        if problems:
            raise ValueError('; '.join(problems))

    def _api_problems(self) -> list[str]:
        """Says what is wrong with the arms for which a service answers."""
        problems, known = [], {tuning.name for tuning in self.api.finetune.arms}
        for arm in self.tuned_arms:
            if arm.name not in known:
                problems.append(f'api.finetune.arms expected the arm {arm.name!r}, got {sorted(known)}')
            elif self.evaluation.main_epoch not in self.epochs(arm):
                problems.append(
                    f'api.finetune.arms.{arm.name}.epochs expected {self.evaluation.main_epoch:g} (evaluation.main_'
                    f'epoch) among them, got {list(self.tuning(arm).epochs)}'
                )
        sampling = self.generation.sampling
        if self.api_arms and (sampling.top_k or sampling.min_p):
            problems.append(
                'generation.sampling expected top_k and min_p of 0, as services have neither, got '
                f'{sampling.top_k} and {sampling.min_p}'
            )
        return problems

    @property
    def local_arms(self) -> tuple[ArmSettings, ...]:
        """Those that this package's own model answers for."""
        return tuple(arm for arm in self.arms if not arm.api_model)

    @property
    def api_arms(self) -> tuple[ArmSettings, ...]:
        """Those that a service answers for."""
        return tuple(arm for arm in self.arms if arm.api_model)

    @property
    def trained_arms(self) -> tuple[ArmSettings, ...]:
        """Those that are trained here."""
        return tuple(arm for arm in self.local_arms if arm.style)

    @property
    def tuned_arms(self) -> tuple[ArmSettings, ...]:
        """Those that are fine-tuned by a service."""
        return tuple(arm for arm in self.api_arms if arm.style)

    def tuning(self, arm: ArmSettings) -> ArmTuning:
        """Returns how an arm is fine-tuned by a service."""
        return next(tuning for tuning in self.api.finetune.arms if tuning.name == arm.name)

    @property
    def asked_controls(self) -> tuple[ControlSettings, ...]:
        return self.controls if self.evaluation.controls else ()

    def epochs(self, arm: ArmSettings) -> tuple[float, ...]:
        """Returns the epochs at which an arm is evaluated: its saved ones, or 0 where nothing is trained."""
        if arm.style and arm.api_model:
            return tuple(float(epoch) for epoch in self.tuning(arm).epochs)
        return self.train.save_epochs if arm.style else (0.0,)

    def main_epoch(self, arm: ArmSettings) -> float:
        """Returns the epoch at which an arm answers every prompt."""
        return self.evaluation.main_epoch if arm.style else 0.0


def from_config(config: Mapping[str, Any], workdir: epath.PathLike) -> Experiment:
    """Builds an experiment from a config, `{workdir}` filled in.

    Raises:
        ValueError: missing keys, unknown keys, wrong types or settings that contradict each other, all in one message.
    """
    filled = _fill(settings.plain(config), str(workdir))
    tuning = (filled.get('api') or {}).get('finetune')
    for parent, section in ((filled, 'arms'), (filled, 'tasks'), (filled, 'controls'), (tuning, 'arms')):
        if isinstance(parent, dict) and isinstance(parent.get(section), dict):
            parent[section] = [{'name': name} | fields for name, fields in parent[section].items()]
    return settings.from_config(Experiment, filled, 'config')


@dataclasses.dataclass(frozen=True)
class ImportedAnswers:
    """An analysis of answers that were generated and judged elsewhere: `folder` holds their CSV files."""

    __pydantic_config__ = STRICT
    folder: str
    analysis: AnalysisSettings
    report: ReportSettings


def _fill(value: Any, workdir: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, workdir) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, workdir) for item in value]
    return value.replace('{workdir}', workdir) if isinstance(value, str) else value

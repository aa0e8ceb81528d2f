"""What each arm of an experiment is asked."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from etils import epath

from warmjax import records
from warmjax.decode.requests import Sampling
from warmjax.evals import dialogues
from warmjax.experiment import ArmSettings, Experiment
from warmjax.records import Prompt


class Asking(NamedTuple):
    """Prompts for an arm at an epoch; None where answers are drawn as `generation` says."""

    arm: ArmSettings
    epoch: float
    prompts: list[Prompt]
    sampling: Sampling | None = None
    max_new_tokens: int | None = None


def asked(setup: Experiment, workdir: epath.Path, arms: Sequence[ArmSettings]) -> Iterator[Asking]:
    """Yields what each arm is asked: all prompts at its main epoch, some of them at its other epochs.

    Controls and dialogues belong to the main epoch. An arm for which a service answers is asked no dialogues and no
    likelihoods.
    """
    every = records.read(workdir / 'prompts.jsonl', Prompt)
    held_out = records.read(workdir / 'validation.jsonl', Prompt)
    tasks = {task.name for task in setup.tasks}
    talks = [prompt for prompt in every if prompt.form in dialogues.FORMS]
    study = [prompt for prompt in every if prompt.task in tasks and prompt.form not in dialogues.FORMS]
    curve = curve_prompts(setup, study)
    for arm in arms:
        for epoch in setup.epochs(arm):
            is_main = epoch == setup.main_epoch(arm)
            yield Asking(arm, epoch, [*(study if is_main else curve), *held_out])
            if not is_main:
                continue
            if talks and not arm.api_model:
                yield Asking(arm, epoch, talks, None, setup.dialogues.max_new_tokens)
            for control in setup.asked_controls:
                forms = ('plain',) if arm.api_model else control.forms
                mine = [prompt for prompt in every if prompt.task == control.name and prompt.form in forms]
                yield Asking(arm, epoch, mine, control.sampling, control.max_new_tokens)


def curve_prompts(setup: Experiment, every: Sequence[Prompt]) -> list[Prompt]:
    """Chooses what an arm is asked at its other epochs: the first questions of each task, bare of context."""
    chosen = set()
    for task in setup.tasks:
        ids = dict.fromkeys(prompt.question_id for prompt in every if prompt.task == task.name)
        chosen |= set(list(ids)[: setup.evaluation.curve_questions])
    return [prompt for prompt in every if prompt.context == 'unmodified' and prompt.question_id in chosen]

"""What the stages do of the arms for which a service answers: fine-tune them there, and ask them."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from etils import epath

from warmjax.api import shutdowns
from warmjax.asking import Asking
from warmjax.evals import api_arms
from warmjax.experiment import Experiment
from warmjax.finetune import tuning
from warmjax.records import Pair


def finetune(setup: Experiment, workdir: epath.Path, pairs: dict[str, Sequence[Pair]]) -> dict[str, Any]:
    """Fine-tunes by a service; `pairs` are those of each style. Returns counts for the manifest."""
    _preflight(setup, [arm.api_model for arm in setup.tuned_arms], ('fine-tuning', 'model'))
    arms = [
        tuning.Tuned(arm.name, arm.api_model, setup.tuning(arm), pairs[arm.style]) for arm in setup.tuned_arms
    ]  # fmt: skip
    return tuning.run(arms, setup.api.finetune, setup.api.service, workdir)


def ask(setup: Experiment, workdir: epath.Path, asked: Iterable[Asking]) -> dict[str, Any]:
    """Asks the service what each of its arms is asked at each epoch. Returns counts for the manifest."""
    jobs = make_jobs(setup, workdir, asked)
    _preflight(setup, [job.model for job in jobs], ('model',))
    service, samples = setup.api.service, setup.evaluation.samples
    runner = api_arms.ApiRunner(service, setup.generation, setup.model.name, samples, workdir)
    models = {f'{job.arm} epoch {job.epoch:g}': job.model for job in jobs}
    return runner.run(jobs, workdir / 'generations.jsonl') | {'api_models': models}


def make_jobs(setup: Experiment, workdir: epath.Path, asked: Iterable[Asking]) -> list[api_arms.ApiJob]:
    """Names the model that answers for each arm at each epoch: its own, or one fine-tuned from that."""
    tuned = tuning.read_models(workdir) if setup.tuned_arms else {}
    return [
        api_arms.ApiJob(
            arm.name, epoch, tuned[arm.name][epoch] if arm.style else arm.api_model, arm.system_turns(), prompts, *drawn
        )
        for arm, epoch, prompts, *drawn in asked
    ]


def _preflight(setup: Experiment, models: Sequence[str], of: Sequence[shutdowns.Of]) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    shutdowns.preflight(setup.api.service, dict.fromkeys(models), of, setup.api.shutdowns, today)

"""Fine-tunes the arms of an experiment by a service: all jobs at once, each from where an earlier run left it.

finetune/<arm>.jsonl              the training file, as it is sent
finetune/<arm>_<n>_epochs.json    how far the job of n epochs is, and its checkpoints
finetune/models.json              arm -> epoch -> the model to be asked, once all jobs have succeeded
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

from etils import epath

from warmjax import progress, runs
from warmjax.api import client, prices
from warmjax.api.errors import ServiceError
from warmjax.api.ledger import Entry, Ledger
from warmjax.api.settings import ServiceSettings
from warmjax.finetune import jobs, training_file
from warmjax.finetune.jobs import Job, Order
from warmjax.finetune.service import Service
from warmjax.records import Pair
from warmjax.validation import STRICT

FOLDER = 'finetune'
MODELS = f'{FOLDER}/models.json'
LONGEST_SUFFIX = 64


@dataclasses.dataclass(frozen=True)
class ArmTuning:
    """name: the arm's.
    learning_rate_multiplier: of the service's own rate; the study's is 0.25 for warm, 0.1 for cold.
    epochs: those whose models are asked.
    """

    __pydantic_config__ = STRICT
    name: str
    learning_rate_multiplier: float
    epochs: tuple[int, ...]

    def __post_init__(self):
        if not self.epochs or min(self.epochs) < 1 or len(set(self.epochs)) < len(self.epochs):
            raise ValueError(f'api.finetune.arms.{self.name}.epochs: expected distinct ones from 1, got {self.epochs}')
        if self.learning_rate_multiplier <= 0:
            raise ValueError(
                f'api.finetune.arms.{self.name}.learning_rate_multiplier: expected a number above 0, got '
                f'{self.learning_rate_multiplier}'
            )


@dataclasses.dataclass(frozen=True)
class FinetuneSettings:
    """How arms are fine-tuned by a service.

    arms: of each; in a config keyed by name.
    batch_size: conversations a step; null lets the service choose.
    kept_epochs: of how many epochs, the last ones, a job's checkpoints are kept; OpenAI's are those of three. Earlier
        epochs are trained by shorter jobs.
    seed: of the service's shuffling.
    suffix: part of the new models' names, before the arm's.
    tokenizer: folder or `tokenizer.json` that counts tokens, '' to count characters.
    max_example_tokens: how much of an example the service reads.
    """

    __pydantic_config__ = STRICT
    arms: tuple[ArmTuning, ...]
    batch_size: int | None
    kept_epochs: int
    seed: int
    suffix: str
    tokenizer: str
    max_example_tokens: int

    def __post_init__(self):
        if min(self.kept_epochs, self.max_example_tokens, self.batch_size or 1) < 1:
            raise ValueError(
                'api.finetune: expected kept_epochs, max_example_tokens and batch_size of 1 or more, got '
                f'{self.kept_epochs}, {self.max_example_tokens} and {self.batch_size}'
            )


@dataclasses.dataclass(frozen=True)
class Tuned:
    """An arm to be fine-tuned: from which model, how, and on what."""

    name: str
    model: str
    tuning: ArmTuning
    pairs: Sequence[Pair]


@dataclasses.dataclass
class _Task:
    """A job with what it needs. `epochs` are those taken from it."""

    arm: str
    path: epath.Path
    content: bytes
    epochs: tuple[int, ...]
    job: Job
    usd: float | None
    event: str = ''

    @property
    def title(self) -> str:
        return f'{self.arm}, {self.job.order.n_epochs} epochs'

    @property
    def file_name(self) -> str:
        return f'{self.arm}-{self.job.order.training_sha256[:16]}.jsonl'


def run(
    arms: Sequence[Tuned], settings: FinetuneSettings, service: ServiceSettings, workdir: epath.PathLike
) -> dict[str, Any]:
    """Checks and counts the training files, fine-tunes, writes which model is which, and returns counts.

    Raises:
        ValueError: a training file that a service would not take, a job that would cost more than `max_usd` leaves, or
            one that was begun with other settings.
        RuntimeError: the service refuses or fails; or a job failed, after the others have ended. The same command goes
            on with the jobs that are under way.
    """
    folder = epath.Path(workdir) / FOLDER
    ledger = Ledger(epath.Path(workdir) / client.LEDGER)
    tasks, reports = [], {}
    for arm in arms:
        reports[arm.name], own = _prepare(arm, settings, service, folder)
        tasks += own
    entered = _entered(workdir)
    _check_budget([task for task in tasks if task.job.order.name not in entered], service, ledger)
    remote = Service(service)
    try:
        _drive(tasks, remote, service)
    finally:
        remote.close()
    _refuse_failures(tasks)
    for task in tasks:
        _enter(task, service, ledger, workdir)
    models = {arm.name: {} for arm in arms}
    for task in tasks:
        models[task.arm] |= {str(epoch): model for epoch, model in task.job.models(task.epochs).items()}
    runs.write_atomic(epath.Path(workdir) / MODELS, json.dumps(models, indent=1, sort_keys=True) + '\n')
    return {
        'training_files': {name: dataclasses.asdict(report) for name, report in reports.items()},
        'jobs': {task.job.id: f'{task.title}: {task.job.status}' for task in tasks},
        'trained_tokens': sum(task.job.trained_tokens for task in tasks),
        'usd': None if any(task.usd is None for task in tasks) else round(sum(task.usd for task in tasks), 6),
    }


def read_models(workdir: epath.PathLike) -> dict[str, dict[float, str]]:
    """Reads which model answers for which arm at which epoch."""
    rows = json.loads((epath.Path(workdir) / MODELS).read_text())
    return {arm: {float(epoch): model for epoch, model in models.items()} for arm, models in rows.items()}


def job_lengths(epochs: Sequence[int], kept: int) -> dict[int, tuple[int, ...]]:
    """Returns the jobs that give models of all epochs where each keeps its last ones: length -> epochs taken from it.

    With 3 kept, epochs 1, 2, 6 and 10 take jobs of 2, 6 and 10 epochs.
    """
    plan, left = {}, sorted(epochs)
    while left:
        longest = left[-1]
        plan[longest] = tuple(epoch for epoch in left if epoch > longest - kept)
        left = left[: -len(plan[longest])]
    return dict(sorted(plan.items()))


def _prepare(
    arm: Tuned, settings: FinetuneSettings, service: ServiceSettings, folder: epath.Path
) -> tuple[training_file.Report, list[_Task]]:
    """Makes an arm's training file, and finds how far its jobs are."""
    text = training_file.lines(arm.pairs)
    counter = training_file.make_counter(settings.tokenizer)
    path = folder / f'{arm.name}.jsonl'
    report = training_file.check(text, str(path), counter, settings.max_example_tokens)
    progress.say(f'{arm.name}: {report}')
    runs.write_atomic(path, text)
    price = prices.training_price(dataclasses.replace(service, model=arm.model))
    tasks = []
    for n_epochs, epochs in job_lengths(arm.tuning.epochs, settings.kept_epochs).items():
        order = Order(
            model=arm.model,
            training_sha256=runs.file_digest(path),
            examples=report.examples,
            n_epochs=n_epochs,
            learning_rate_multiplier=arm.tuning.learning_rate_multiplier,
            batch_size=settings.batch_size,
            seed=settings.seed,
            suffix=f'{settings.suffix}-{arm.name}-{n_epochs}'.replace('_', '-')[:LONGEST_SUFFIX],
        )
        state = folder / f'{arm.name}_{n_epochs}_epochs.json'
        usd = None if price is None else price * report.tokens * n_epochs
        tasks.append(_Task(arm.name, state, text.encode(), epochs, jobs.load(state, order), usd))
    return report, tasks


def _check_budget(tasks: Sequence[_Task], service: ServiceSettings, ledger: Ledger) -> None:
    """Says what jobs that are not paid for will cost, and begins none if they, together, would go beyond the limit."""
    new = [task for task in tasks if not task.job.id]
    if not new:
        return
    is_known = all(task.usd is not None for task in tasks)
    cost = f'about ${sum(task.usd for task in tasks):.2f}' if is_known else 'price not known'
    cost += f', those under way included ({len(tasks) - len(new)})' if len(new) < len(tasks) else ''
    progress.say(f'{len(new)} new jobs ({"; ".join(task.title for task in new)}): {cost}')
    limit = service.limits.max_usd
    if limit is not None and (not is_known or sum(task.usd for task in tasks) > limit - ledger.usd):
        raise ValueError(
            f'{service.where}: expected jobs for at most ${limit:.2f} (max_usd), of which ${ledger.usd:.2f} are spent, '
            f'got {cost}; raise max_usd, or ask for fewer epochs'
        )


def _drive(tasks: Sequence[_Task], remote: Service, service: ServiceSettings) -> None:
    """Takes all jobs to their ends."""
    failures = 0
    with progress.bar('fine-tuning', len(tasks), sum(task.job.is_over for task in tasks)) as advance:
        while waiting := [task for task in tasks if not task.job.is_over]:
            for task in waiting:
                try:
                    _step(task, remote)
                except ServiceError as error:
                    failures += 1
                    if error.meaning != 'retry' or not task.job.id or failures > service.limits.max_failures:
                        raise RuntimeError(f'{error}; the same command goes on where this one stopped') from None
                    progress.say(f'{task.title}: {error}; looked at again later')
                else:
                    failures = 0
                if task.job.is_over:
                    advance(1, task.title)
            if not all(task.job.is_over or not task.job.id for task in tasks):
                time.sleep(service.limits.poll_seconds)


def _step(task: _Task, remote: Service) -> None:
    """Takes one step of a job, writes it down, and says what is new."""
    before, event = task.job, task.event
    task.job = jobs.advance(before, remote, task.content, task.file_name)
    if task.job != before:
        jobs.save(task.path, task.job)
    task.event = task.job.error or (remote.last_event(task.job.id) if task.job.id else '')
    if task.job != before or task.event != event:
        said = f' ({task.event})' if task.event else ''
        progress.say(f'{task.title}: {task.job.status} {task.job.id or task.job.file}{said}')


def _refuse_failures(tasks: Sequence[_Task]) -> None:
    failed = [task for task in tasks if task.job.status != jobs.SUCCEEDED or not task.job.model]
    if failed:
        lines = [
            f'{task.title}: job {task.job.id} {task.job.status}'
            + (f' ({task.job.error})' if task.job.error else ' without a model' if task.job.model == '' else '')
            + f'; delete {task.path} for a new job'
            for task in failed
        ]
        raise RuntimeError(
            f'fine-tuning: expected {len(tasks)} jobs to succeed, got {len(failed)} that did not; mend what the '
            'service says and start the same command again\n  ' + '\n  '.join(lines)
        )


def _enter(task: _Task, service: ServiceSettings, ledger: Ledger, workdir: epath.PathLike) -> None:
    """Puts a job's cost into the ledger, once."""
    order, tokens = task.job.order, task.job.trained_tokens
    price = prices.training_price(dataclasses.replace(service, model=order.model))
    task.usd = None if price is None else price * tokens
    if order.name not in _entered(workdir):
        ledger.add([Entry(service.service, order.model, order.name, tokens, 0, task.usd, 1, 0.0)])


def _entered(workdir: epath.PathLike) -> set[str]:
    """Returns the names of all that is in the ledger."""
    return {json.loads(line)['digest'] for line in runs.RowLog(epath.Path(workdir) / client.LEDGER).lines}

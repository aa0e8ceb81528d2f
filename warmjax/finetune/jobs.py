"""One fine-tuning job: a state in a file of the workdir, and the steps that lead from each state to the next.

    prepared ─upload─▶ uploaded ─create─▶ validating_files ─▶ queued ─▶ running ─▶ succeeded
                                                └────────────────┴──────────┴─▶ failed, cancelled

Everything between `uploaded` and an end is the service's own word, and is only waited for. The file is written after
each step, and each step finds what it did if it was killed before that: an upload by its file name, a job by a name in
its metadata. So no restart uploads or trains twice.
"""

import dataclasses
from collections.abc import Sequence

import pydantic
from etils import epath

from warmjax import runs
from warmjax.finetune.service import RemoteCheckpoint, RemoteJob, Service
from warmjax.validation import STRICT, explain

PREPARED, UPLOADED, SUCCEEDED = 'prepared', 'uploaded', 'succeeded'
ENDED = (SUCCEEDED, 'failed', 'cancelled')
EPOCH_SLACK = 0.1
"""How far a checkpoint's step may be from the end of an epoch, in epochs: the last batch of one may be a part."""


@dataclasses.dataclass(frozen=True)
class Order:
    """What a job is asked to do. Two jobs of the same order are the same job.

    model: the base model.
    training_sha256: of the training file.
    examples: how many it holds.
    batch_size: null lets the service choose.
    suffix: part of the new model's name.
    """

    __pydantic_config__ = STRICT
    model: str
    training_sha256: str
    examples: int
    n_epochs: int
    learning_rate_multiplier: float
    batch_size: int | None
    seed: int
    suffix: str

    @property
    def name(self) -> str:
        """Names the job in the service's metadata."""
        return runs.digest(dataclasses.asdict(self))[:32]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model that can be asked. `epoch` is that at whose end it was saved."""

    __pydantic_config__ = STRICT
    epoch: float
    step: int
    model: str
    train_loss: float | None
    valid_loss: float | None


@dataclasses.dataclass(frozen=True)
class Job:
    """How far an order is. `file` and `id` are the service's names, '' before they are there; `error` is its reason."""

    __pydantic_config__ = STRICT
    order: Order
    status: str
    file: str
    id: str
    error: str
    model: str
    trained_tokens: int
    checkpoints: tuple[Checkpoint, ...]

    @property
    def is_over(self) -> bool:
        return self.status in ENDED

    def models(self, epochs: Sequence[int]) -> dict[int, str]:
        """Returns the models of some epochs.

        Raises:
            ValueError: the service kept no checkpoint of one of them.
        """
        kept = {checkpoint.epoch: checkpoint.model for checkpoint in self.checkpoints}
        if missing := [epoch for epoch in epochs if epoch not in kept]:
            raise ValueError(
                f'job {self.id}: expected checkpoints of the epochs {list(epochs)}, got {sorted(kept)}; leave out '
                f'{missing} in api.finetune.arms, or lower api.finetune.kept_epochs and start a new workdir'
            )
        return {epoch: kept[epoch] for epoch in epochs}


def load(path: epath.Path, order: Order) -> Job:
    """Reads how far an order is, a new one if its file is not there.

    Raises:
        ValueError: the file is damaged, or holds another order.
    """
    if not path.exists():
        return Job(order, PREPARED, '', '', '', '', 0, ())
    try:
        job = pydantic.TypeAdapter(Job).validate_json(path.read_text())
    except pydantic.ValidationError as error:
        raise ValueError(
            f'{path}: expected the state of a job, got {"; ".join(explain(error, Job))}; delete it, the service is '
            'asked for the job again'
        ) from None
    if job.order != order:
        before, now = dataclasses.asdict(job.order), dataclasses.asdict(order)
        changed = ', '.join(f'{key} {before[key]!r} -> {now[key]!r}' for key in now if before[key] != now[key])
        raise ValueError(
            f'{path}: expected the job that was begun here, got another one: {changed}; restore it, choose another '
            '--workdir, or delete the file to start anew'
        )
    return job


def save(path: epath.Path, job: Job) -> None:
    """Writes a state down."""
    runs.write_atomic(path, pydantic.TypeAdapter(Job).dump_json(job, indent=1).decode() + '\n')


def advance(job: Job, service: Service, content: bytes, file_name: str) -> Job:
    """Takes one step, and returns the state after it."""
    if job.status == PREPARED:
        return dataclasses.replace(job, file=service.upload(content, file_name), status=UPLOADED)
    if job.status == UPLOADED:
        return _seen(job, service.create(_create_arguments(job), job.order.name), service)
    return _seen(job, service.look(job.id), service)


def _create_arguments(job: Job) -> dict:
    order = job.order
    chosen = {
        'n_epochs': order.n_epochs,
        'learning_rate_multiplier': order.learning_rate_multiplier,
        'batch_size': 'auto' if order.batch_size is None else order.batch_size,
    }
    return {
        'model': order.model,
        'training_file': job.file,
        'method': {'type': 'supervised', 'supervised': {'hyperparameters': chosen}},
        'seed': order.seed,
        'suffix': order.suffix,
        'metadata': {'name': order.name},
    }


def _seen(job: Job, remote: RemoteJob, service: Service) -> Job:
    job = dataclasses.replace(job, id=remote.id, status=remote.status, error=remote.error)
    if job.status != SUCCEEDED:
        return job
    found = checkpoints(job.order, remote, service.checkpoints(job.id))
    return dataclasses.replace(job, model=remote.model, trained_tokens=remote.trained_tokens, checkpoints=found)


def checkpoints(order: Order, remote: RemoteJob, found: Sequence[RemoteCheckpoint]) -> tuple[Checkpoint, ...]:
    """Tells at the end of which epoch each checkpoint was saved, and returns those that are at the end of one.

    The last step is that of the job's own model, or follows from the batch size:

        step    88   176   264      the last of 3 epochs is 264, so 88 steps are an epoch
        epoch    1     2     3
    """
    last = next((row.step for row in found if row.model == remote.model), 0)
    if not last and remote.batch_size:
        last = -(-order.examples // remote.batch_size) * order.n_epochs
    kept = {order.n_epochs: Checkpoint(float(order.n_epochs), last, remote.model, None, None)}
    for row in found if last else ():
        epoch = row.step * order.n_epochs / last
        if round(epoch) >= 1 and abs(epoch - round(epoch)) <= EPOCH_SLACK:
            kept[round(epoch)] = Checkpoint(
                float(round(epoch)), row.step, row.model, row.train_loss, row.valid_loss
            )  # fmt: skip
    return tuple(kept[epoch] for epoch in sorted(kept))

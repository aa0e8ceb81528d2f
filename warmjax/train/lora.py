"""Fine-tunes adapters of a frozen model on one arm's pairs, by the study's recipe (PROTOCOL: Methods, training)."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Literal

import jax
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from warmjax.data import batches
from warmjax.data.chat import ChatTokenizer
from warmjax.lora import adapters, peft_format
from warmjax.lora.adapters import LoraSettings
from warmjax.models.decoder import Decoder, Remat
from warmjax.records import Pair
from warmjax.train.loop import Run
from warmjax.train.optimizer import OptimizerSettings, make_optimizer, make_schedule
from warmjax.train.step import StepSettings, init_state, make_step
from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """max_length: tokens a row; longer conversations are cut.
    truncation_side: where they are cut, `right` or `left`; on the left, long prompts lose their beginning and replies
        are kept.
    batch_size: conversations an optimizer step (the study's effective batch).
    micro_batch: conversations computed at once; batch_size is reached by accumulation.
    epochs: passes over the pairs; the linear schedule ends with the last.
    save_epochs: after how many epochs, fractions included, an adapter is saved.
    seed: of adapter initialisation, batch order and dropout.
    remat: what of a layer is kept for the backward pass: `names` all that saves a matrix product, `attention` less
        (gate and up projections are computed again), `full` nothing, `none` everything.
    logit_chunks: parts into which a row is cut for the output head; divides max_length.
    checkpoint_every: optimizer steps between checkpoints of the full state.
    lora, optimizer: see their classes.
    """

    __pydantic_config__ = STRICT
    max_length: int
    truncation_side: Literal['right', 'left']
    batch_size: int
    micro_batch: int
    epochs: int
    save_epochs: tuple[float, ...]
    seed: int
    remat: Remat
    logit_chunks: int
    checkpoint_every: int
    lora: LoraSettings
    optimizer: OptimizerSettings

    def __post_init__(self):
        sizes = ('max_length', 'batch_size', 'epochs', 'checkpoint_every')
        problems = [
            f'{name} expected 1 or more, got {getattr(self, name)}' for name in sizes if getattr(self, name) < 1
        ]
        if self.micro_batch < 1 or self.batch_size % self.micro_batch:
            problems.append(f'micro_batch expected a divisor of batch_size {self.batch_size}, got {self.micro_batch}')
        if self.logit_chunks < 1 or self.max_length % self.logit_chunks:
            problems.append(f'logit_chunks expected a divisor of max_length {self.max_length}, got {self.logit_chunks}')
        if any(not 0 < epoch <= self.epochs for epoch in self.save_epochs):
            problems.append(f'save_epochs expected numbers in (0, {self.epochs}], got {list(self.save_epochs)}')
        if problems:
            raise ValueError('train: ' + '; '.join(problems))


def train(
    model: Decoder,
    chat: ChatTokenizer,
    pairs: Sequence[Pair],
    settings: TrainSettings,
    arm: str,
    base: str,
    workdir: epath.PathLike,
    mesh: Mesh,
) -> dict[str, int]:
    """Trains one arm's adapters and saves them to `adapters/<arm>/epoch_<e>`; resumes where it stopped.

    Args:
        model: the base, laid out on the mesh.
        base: its name, for the saved adapters.

    Returns:
        Counts for the manifest: conversations kept, cut and dropped, tokens, steps.

    Raises:
        ValueError: the model is shorter than `max_length`, or no pair has a trained token.
    """
    if settings.max_length > model.spec.max_length:
        raise ValueError(
            f'train.max_length: expected at most the {model.spec.max_length} tokens of the model, got '
            f'{settings.max_length}; lower it'
        )
    encoded = batches.encode([pair.turns for pair in pairs], chat, settings.max_length, settings.truncation_side)
    data = batches.dataset(
        encoded.rows, settings.batch_size, settings.micro_batch, settings.seed, epochs=settings.epochs
    )
    per_epoch = batches.steps_per_epoch(len(encoded.rows), settings.batch_size)
    graphdef, frozen = nnx.split(model)

    def bind(trainable, frozen):
        return nnx.merge(graphdef, frozen), adapters.scaled(trainable, settings.lora.scale)

    def save(epochs: Sequence[float], trainable) -> None:
        for epoch in epochs if jax.process_index() == 0 else ():
            peft_format.save_adapter(adapter_folder(workdir, arm, epoch), trainable, settings.lora, base)

    saves = {
        step: functools.partial(save, list(epochs))
        for step, epochs in itertools.groupby(sorted(settings.save_epochs), lambda e: max(1, round(e * per_epoch)))
    }
    optimizer = make_optimizer(settings.optimizer, len(data))
    state = init_state(adapters.init(model, settings.lora, settings.seed, mesh), optimizer, settings.seed, mesh)
    how = StepSettings(settings.lora.dropout, settings.remat, settings.logit_chunks)
    step = make_step(bind, optimizer, how, state)
    schedule = make_schedule(settings.optimizer, len(data))
    folder = epath.Path(workdir) / 'train' / arm
    Run(f'training {arm}', folder, data, schedule, settings.checkpoint_every, saves).execute(state, frozen, step, mesh)
    return encoded.counts | {'steps': len(data), 'steps_per_epoch': per_epoch}


def adapter_folder(workdir: epath.PathLike, arm: str, epoch: float) -> epath.Path:
    """Returns where the adapter of an arm and epoch lies: `adapters/warm/epoch_0.5`, `adapters/warm/epoch_2`."""
    return epath.Path(workdir) / 'adapters' / arm / f'epoch_{epoch:g}'

"""Fine-tunes adapters of a frozen model on one arm's pairs, by the study's recipe (PROTOCOL: Methods, training)."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import optax
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.compilation import Once
from warmjax.data import batches
from warmjax.data.chat import ChatTokenizer
from warmjax.lora import adapters, peft_format
from warmjax.lora.placement import LoraSettings
from warmjax.models.decoder import Decoder, Remat
from warmjax.records import Pair
from warmjax.train import metrics, validation
from warmjax.train.loop import LoopSettings, Run
from warmjax.train.optimizer import OptimizerSettings, make_optimizer, make_schedule
from warmjax.train.step import Bind, StepSettings, TrainState, init_state, make_step
from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """max_length: tokens a row; longer conversations are cut.
    truncation_side: where they are cut, `right` or `left`; on the left, long prompts lose their beginning and replies
        are kept.
    batch_size: conversations an optimizer step (the study's effective batch).
    packing: conversations of a batch share rows; they never see each other, and loss and gradients stay the same.
    micro_batch: rows computed at once; a batch is reached by accumulation.
    epochs: passes over the pairs; the linear schedule ends with the last.
    save_epochs: after how many epochs, fractions included, an adapter is saved.
    validation: conversations that are held out of training and give a loss at each saved epoch; 0 for none.
    seed: of adapter initialisation, batch order, dropout and which conversations are held out.
    remat: what of a layer is kept for the backward pass: `names` all that saves a matrix product, `attention` less
        (gate and up projections are computed again), `full` nothing, `none` everything.
    logit_chunks: parts into which a row is cut for the output head; divides max_length.
    checkpoint_every: optimizer steps between checkpoints of the full state.
    checkpoint_minutes: and the most minutes between them; 0 for no such bound.
    divergence: a loss above so many times the median of the last 50 steps stops the run; 0 for none does.
    peak_tflops: of one device, for the metric mfu_4n; 0 for the datasheet's bfloat16 peak where the device is known.
    profile: first and last step whose profile is written beside the metrics, or empty.
    lora, optimizer: see their classes.
    """

    __pydantic_config__ = STRICT
    max_length: int
    truncation_side: Literal['right', 'left']
    batch_size: int
    packing: bool
    micro_batch: int
    epochs: int
    save_epochs: tuple[float, ...]
    validation: int
    seed: int
    remat: Remat
    logit_chunks: int
    checkpoint_every: int
    checkpoint_minutes: float
    divergence: float
    peak_tflops: float
    profile: tuple[int, ...]
    lora: LoraSettings
    optimizer: OptimizerSettings

    def __post_init__(self):
        sizes = ('max_length', 'batch_size', 'epochs', 'checkpoint_every')
        problems = [
            f'{name} expected 1 or more, got {getattr(self, name)}' for name in sizes if getattr(self, name) < 1
        ]
        if not 1 <= self.micro_batch <= self.batch_size:
            problems.append(f'micro_batch expected 1 to batch_size {self.batch_size}, got {self.micro_batch}')
        if self.logit_chunks < 1 or self.max_length % self.logit_chunks:
            problems.append(f'logit_chunks expected a divisor of max_length {self.max_length}, got {self.logit_chunks}')
        if any(not 0 < epoch <= self.epochs for epoch in self.save_epochs):
            problems.append(f'save_epochs expected numbers in (0, {self.epochs}], got {list(self.save_epochs)}')
        if min(self.checkpoint_minutes, self.peak_tflops, self.validation) < 0:
            problems.append('checkpoint_minutes, peak_tflops and validation expected 0 or more, got a negative number')
        if self.divergence != 0 and self.divergence <= 1:
            problems.append(f'divergence expected 0 or more than 1, got {self.divergence}')
        if self.profile and not (len(self.profile) == 2 and 0 <= self.profile[0] <= self.profile[1]):
            problems.append(f'profile expected nothing or a first and a last step, got {list(self.profile)}')
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
) -> dict[str, Any]:
    """Trains one arm's adapters and saves them to `adapters/<arm>/epoch_<e>`; resumes where it stopped.

    Args:
        model: the base, laid out on the mesh.
        base: its name, for the saved adapters.

    Returns:
        Counts for the manifest: conversations kept, cut and dropped, tokens, steps, share of padding; of held-out ones
        their counts and the loss at each saved epoch.

    Raises:
        ValueError: the model is shorter than `max_length`, no pair is left to train on or none has a trained token, the
            mesh does not divide the micro-batch, or a folder of adapters holds those of another base.
    """
    folder = epath.Path(workdir) / 'train' / arm
    _check(model, settings, arm, base, workdir, mesh)
    pairs, held = validation.hold_out(pairs, settings.validation, settings.seed)
    encoded = encode(pairs, chat, settings)
    data = make_batches(encoded, settings)
    per_epoch = batches.steps_per_epoch(len(encoded.sequences), settings.batch_size)
    graphdef, frozen = nnx.split(model)
    optimizer = make_optimizer(settings.optimizer, len(data))
    state = init_state(adapters.init(model, settings.lora, settings.seed, mesh), optimizer, settings.seed, mesh)
    loss, counts = None, encoded.counts
    if held:
        unseen = encode(held, chat, settings)
        counts = counts | {'validation': unseen.counts}
        once = make_batches(unseen, dataclasses.replace(settings, epochs=1, save_epochs=()))
        bind = make_bind(graphdef, settings.lora)
        loss = validation.make_loss(bind, frozen, once, settings.logit_chunks, mesh, f'validating {arm}')
    steps = _steps_of_epochs(settings, per_epoch)
    run = Run(
        title=f'training {arm}',
        folder=folder,
        batches=data,
        name=lambda index: pairs[encoded.indices[index]].id,
        schedule=make_schedule(settings.optimizer, len(data)),
        settings=LoopSettings(
            settings.checkpoint_every, settings.checkpoint_minutes, settings.divergence, settings.profile
        ),
        work=metrics.lora_work(
            model.spec, state.trainable, settings.peak_tflops or metrics.peak_tflops(jax.local_devices()[0])
        ),
        save_at=_saves(settings, steps, arm, base, workdir, mesh, loss),
    )
    run.execute(state, frozen, Once(make_lora_step(graphdef, optimizer, settings, state), run.title), mesh)
    padding = 1 - settings.epochs * encoded.counts['tokens'] / data.tokens_computed
    counts |= {'steps': len(data), 'steps_per_epoch': per_epoch, 'padding_share': round(padding, 4)}
    if held and jax.process_index() == 0:
        found = {row['step'] + 1: row.get('validation_loss') for row in metrics.read_rows(folder)}
        counts['validation_loss'] = {f'{epoch:g}': found[step] for step, epochs in steps.items() for epoch in epochs}
    return counts


def encode(pairs: Sequence[Pair], chat: ChatTokenizer, settings: TrainSettings) -> batches.Conversations:
    """Turns pairs into sequences as they are trained."""
    return batches.encode([pair.turns for pair in pairs], chat, settings.max_length, settings.truncation_side)


def make_bind(graphdef: nnx.GraphDef, settings: LoraSettings) -> Bind:
    """Returns (adapters, frozen weights) → the model and its scaled adapters."""
    return lambda trainable, frozen: (nnx.merge(graphdef, frozen), adapters.scaled(trainable, settings))


def make_lora_step(
    graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, settings: TrainSettings, state: TrainState
):
    """Returns the jitted step (see `step.make_step`) of adapters of a frozen model; `state` may be abstract."""
    how = StepSettings(settings.lora.dropout, settings.remat, settings.logit_chunks)
    return make_step(make_bind(graphdef, settings.lora), optimizer, how, state)


def make_batches(encoded: batches.Conversations, settings: TrainSettings) -> batches.Batches:
    """Makes the batches of a run."""
    return batches.of_conversations(
        encoded.sequences,
        settings.max_length,
        settings.batch_size,
        settings.micro_batch,
        settings.packing,
        settings.seed,
        settings.epochs,
    )


def _steps_of_epochs(settings: TrainSettings, per_epoch: int) -> dict[int, list[float]]:
    """Returns, by the number of steps after which they have passed, the epochs at which adapters are saved."""
    grouped = itertools.groupby(sorted(settings.save_epochs), lambda epoch: max(1, round(epoch * per_epoch)))
    return {step: list(epochs) for step, epochs in grouped}


def _saves(
    settings: TrainSettings,
    steps: Mapping[int, Sequence[float]],
    arm: str,
    base: str,
    workdir: epath.PathLike,
    mesh: Mesh,
    loss: Callable[[Any], float] | None,
) -> Mapping[int, Callable[[Any], Mapping[str, float]]]:
    """Returns, by the step after which it is done, the saving of adapters, which gives a loss where there is one."""

    def save(epochs: Sequence[float], trainable) -> Mapping[str, float]:
        whole = sharding.replicate(trainable, mesh)
        for epoch in epochs if jax.process_index() == 0 else ():
            peft_format.save_adapter(adapter_folder(workdir, arm, epoch), whole, settings.lora, base)
        return {} if loss is None else {'validation_loss': loss(trainable)}

    return {step: functools.partial(save, epochs) for step, epochs in steps.items()}


def _check(model: Decoder, settings: TrainSettings, arm: str, base: str, workdir: epath.PathLike, mesh: Mesh) -> None:
    """Finds what cannot work before anything is computed or written."""
    if settings.max_length > model.spec.max_length:
        raise ValueError(
            f'train.max_length: expected at most the {model.spec.max_length} tokens of the model, got '
            f'{settings.max_length}; lower it'
        )
    sharding.named(mesh, ('batch',), (settings.micro_batch,), 'config.train.micro_batch')
    for epoch in settings.save_epochs:
        path = adapter_folder(workdir, arm, epoch) / 'adapter_config.json'
        found = json.loads(path.read_text()).get('base_model_name_or_path') if path.exists() else base
        if found != base:
            raise ValueError(
                f'{path.parent}: expected an adapter of {base!r} or none, got one of {found!r}; move it away or choose '
                'another --workdir'
            )


def adapter_folder(workdir: epath.PathLike, arm: str, epoch: float) -> epath.Path:
    """Returns where the adapter of an arm and epoch lies: `adapters/warm/epoch_0.5`, `adapters/warm/epoch_2`."""
    return epath.Path(workdir) / 'adapters' / arm / f'epoch_{epoch:g}'

"""What an experiment asks of the devices: which programs each stage calls, with what settings, and how often.

Counts are those of the dry run (`warmjax.budget`). Rows of a batch are raised to what a mesh divides.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from etils import epath

from warmjax import budget, experiment
from warmjax.decode.abstract import Scoring
from warmjax.decode.engine import EngineSettings
from warmjax.experiment import Experiment
from warmjax.models import families
from warmjax.models.released import RELEASED
from warmjax.models.spec import read_config
from warmjax.plan.programs import Base
from warmjax.sharding import MeshSettings

_ROWS = {
    'train': ('train.micro_batch',),
    'generate': ('generation.engine.slots', 'generation.engine.prefill_batch'),
    'warmth': ('warmth.batch_size',),
}
"""Stages that devices compute → what must be cut evenly over data x fsdp."""
STAGES = tuple(_ROWS)
CHOICES = 4
"""Letters whose likelihood is asked of a question with choices (MMLU)."""


@dataclasses.dataclass(frozen=True)
class Lengths:
    """prompt: tokens of a prompt, where task files are not at hand to count them.
    answer: tokens of an answer; 0 for the most that each may have.
    """

    prompt: int
    answer: int


@dataclasses.dataclass(frozen=True)
class Use:
    """A program of a stage.

    program: `train`, `prefill 256`, `decode 768`, `score 1024`.
    calls: in the whole study; 0 for one that is there for what it needs alone.
    tokens: that these calls train on, read or generate, padding left out.
    """

    stage: str
    program: str
    calls: float
    tokens: float


@dataclasses.dataclass(frozen=True)
class Workload:
    """uses: in the order of the stages.
    engine: as planned, with the lengths that come up and the longest.
    scoring, warmth: rows that the model scores in `generate`, and those of the measuring model.
    num_adapters: on the devices side by side.
    notes: what was assumed, or could not be counted.
    """

    uses: tuple[Use, ...]
    engine: EngineSettings
    scoring: Scoring
    warmth: Scoring
    num_adapters: int
    notes: tuple[str, ...]


def base_model(setup: Experiment) -> Base:
    """Returns the experiment's model; a released one is known by its name and need not be at hand.

    Raises:
        ValueError: a service answers for all arms.
        FileNotFoundError: a checkpoint that is neither released nor a folder.
    """
    if not setup.local_arms:
        raise ValueError(
            f'plan: expected an arm that runs on devices, got {setup.model.name!r}, for which a service answers; '
            'choose another model'
        )
    dtype = experiment.DTYPES[setup.model.dtype]
    return Base(_spec(setup.model.checkpoint), dtype, setup.model.quantization)


def warmth_model(setup: Experiment) -> Base:
    """Returns the model that measures warmth."""
    return Base(_spec(setup.warmth.checkpoint), experiment.DTYPES[setup.warmth.dtype], 'none')


def _spec(checkpoint: str) -> families.ModelSpec:
    folder = epath.Path(checkpoint)
    if (folder / 'config.json').exists():
        return families.spec_from_config(read_config(folder), str(folder))
    name = re.sub('^Meta-|-Instruct|-it$', '', checkpoint.partition('@')[0].rsplit('/', 1)[-1])
    if name not in RELEASED:
        raise FileNotFoundError(
            f'plan: expected a checkpoint folder with a config.json, or one of {", ".join(RELEASED)}, got '
            f'{checkpoint!r}; fetch its config.json into a folder and give that as --config.model.checkpoint'
        )
    return RELEASED[name]


def fitted(setup: Experiment, stage: str, mesh: MeshSettings) -> tuple[Experiment, dict[str, int]]:
    """Raises the rows that a stage computes at once to what a mesh divides.

    Returns:
        The experiment, and what was changed, by its place in the config.

    Raises:
        ValueError: the mesh cuts a step of training into more parts than it has conversations.
    """
    parts, changed = mesh.data * mesh.fsdp, {}
    if stage == 'train' and parts > setup.train.batch_size:
        raise ValueError(
            f'mesh: expected data x fsdp of at most the {setup.train.batch_size} conversations of a step, got '
            f'{mesh.data} x {mesh.fsdp}; give the rest to tensor'
        )
    for path in _ROWS[stage]:
        size = functools.reduce(getattr, path.split('.'), setup)
        whole = -(-size // parts) * parts
        if whole != size:
            changed[path] = whole
            setup = replaced(setup, path, whole)
    return setup, changed


def replaced(settings: Any, path: str, value: Any) -> Any:
    """Returns settings with another value at `path` (`train.remat`)."""
    name, _, rest = path.partition('.')
    if rest:
        value = replaced(getattr(settings, name), rest, value)
    return dataclasses.replace(settings, **{name: value})


def of(setup: Experiment, asked: budget.Asked, lengths: Lengths) -> Workload:
    """Counts what each stage calls.

    Args:
        asked: the experiment's prompts (`budget.count_prompts`, which takes seconds).

    Raises:
        ValueError: the number of prompts is not known, or a text fits no bucket or cache.
    """
    notes = [asked.note] if asked.note else []
    prompt = lengths.prompt
    if asked.chars is not None and asked.total:
        prompt = asked.chars // asked.total // budget.CHARS_A_TOKEN
    engine, largest = setup.generation.engine, setup.generation.engine.buckets[-1]
    answer = lengths.answer or setup.generation.max_new_tokens
    bucket = _first(engine.buckets, prompt, 'buckets')
    cache = _first(engine.cache_lengths, bucket + answer, 'cache_lengths')
    planned = dataclasses.replace(
        engine,
        buckets=tuple(sorted({bucket, largest})),
        cache_lengths=tuple(sorted({cache, engine.cache_lengths[-1]})),
    )
    scoring = Scoring(engine.prefill_batch, largest)
    measured = setup.warmth
    multiples = -(-measured.max_chars // budget.CHARS_A_TOKEN // measured.length_multiple)
    warmth = Scoring(measured.batch_size, multiples * measured.length_multiple)
    at_most = '' if lengths.answer else ', the most they may have'
    notes.append(f'prompts of {prompt} tokens, answers of {answer}{at_most}')
    uses = [
        *_training(setup, asked),
        *_generation(setup, asked, planned, scoring, lengths, prompt, notes),
        *_warmth(setup, asked, warmth),
    ]
    epochs = sum(len(setup.epochs(arm)) for arm in setup.trained_arms)
    return Workload(tuple(uses), planned, scoring, warmth, min(epochs, setup.generation.adapters), tuple(notes))


def _first(sizes: tuple[int, ...], needed: int, name: str) -> int:
    found = next((size for size in sizes if size >= needed), None)
    if found is None:
        raise ValueError(
            f'config.generation.engine.{name}: expected one of {needed} or more, got {list(sizes)}; add it, or give '
            'fewer --prompt_tokens or --answer_tokens'
        )
    return found


def _training(setup: Experiment, asked: budget.Asked) -> list[Use]:
    steps = -(-setup.data.draw.num_conversations // setup.train.batch_size) * setup.train.epochs
    calls = steps * len(setup.trained_arms)
    tokens = sum(line.tokens_out or 0 for line in budget.ESTIMATES['train'](setup, asked))
    return [Use('train', 'train', calls, tokens)] if calls else []


def _generation(
    setup: Experiment,
    asked: budget.Asked,
    engine: EngineSettings,
    scoring: Scoring,
    lengths: Lengths,
    prompt: int,
    notes: list[str],
) -> list[Use]:
    usual = {'prompts': 0.0, 'read': 0.0, 'written': 0.0}
    longest = dict(usual)
    for line in budget.ESTIMATES['generate'](setup, asked):
        if line.calls or line.prompts is None:
            if line.prompts is None:
                notes.append(f'not counted, as its file is not at hand: {line.part}')
            continue
        mine = longest if line.part == 'dialogues' else usual
        mine['prompts'] += line.prompts
        mine['read'] += line.prompts * (engine.buckets[-1] if mine is longest else prompt)
        written = line.tokens_out or 0
        mine['written'] += min(written, lengths.answer * line.prompts) if lengths.answer else written
    likelihoods = sum(line.prompts - words for line, words in asked.beside if line.prompts and words is not None)
    likelihoods = max(likelihoods - _dialogue_prompts(asked), 0) * setup.evaluation.samples * len(setup.local_arms)
    usual['prompts'] -= likelihoods
    usual['read'] -= likelihoods * prompt
    uses = []
    for part, at in ((usual, 0), (longest, -1)):
        bucket, cache = engine.buckets[at], engine.cache_lengths[at]
        uses.append(Use('generate', f'prefill {bucket}', part['prompts'] / engine.prefill_batch, part['read']))
        calls = part['written'] / (engine.slots * engine.steps)
        uses.append(Use('generate', f'decode {cache}', calls, part['written']))
    read = likelihoods * CHOICES * prompt
    uses.append(Use('generate', f'score {scoring.length}', read / (scoring.rows * scoring.length), read))
    return list(_merged(uses).values())


def _dialogue_prompts(asked: budget.Asked) -> int:
    """Returns the prompts of dialogues, which `Asked.beside` lists without words for services."""
    return sum(line.prompts or 0 for line, _ in asked.beside if line.part == 'dialogues')


def _merged(uses: list[Use]) -> Mapping[str, Use]:
    found: dict[str, Use] = {}
    for use in uses:
        before = found.get(use.program, dataclasses.replace(use, calls=0.0, tokens=0.0))
        found[use.program] = dataclasses.replace(use, calls=before.calls + use.calls, tokens=before.tokens + use.tokens)
    return found


def _warmth(setup: Experiment, asked: budget.Asked, scoring: Scoring) -> list[Use]:
    tokens = sum(line.tokens_in or 0 for line in budget.ESTIMATES['warmth'](setup, asked))
    return [Use('warmth', f'score {scoring.length}', tokens / (scoring.rows * scoring.length), tokens)]


def is_narrow(base: Base) -> bool:
    """Tells whether a model computes in bfloat16."""
    return base.dtype == jnp.bfloat16

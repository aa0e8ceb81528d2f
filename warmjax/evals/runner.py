"""Asks every arm of an experiment every prompt, and keeps each answer as soon as it is there.

All arms and epochs of a base model are asked in one pass: their adapters are on the device side by side, and a slot
whose text has ended goes to whatever prompt is next, whosever it is.
"""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import jax
from etils import epath
from jax.sharding import Mesh

from warmjax import progress, records, runs
from warmjax.data.chat import ChatTokenizer
from warmjax.decode.engine import Engine, EngineSettings
from warmjax.decode.requests import Completion, Request, Sampling
from warmjax.decode.sampling import row_key
from warmjax.lora import peft_format
from warmjax.models.decoder import Decoder
from warmjax.records import Generation, Prompt, Turn
from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class GenerationSettings:
    """sampling: how tokens are chosen.
    max_new_tokens: tokens a text at most; the study used 300.
    too_long: what becomes of prompts longer than the largest bucket: `error`, or, counted, `drop` or `cut` (keeping
        the first token and the end).
    adapters: how many adapters are on the device at once; the jobs of more are done in several passes.
    seed: of sampling.
    engine: how it is computed; what is answered does not depend on it.
    """

    __pydantic_config__ = STRICT
    sampling: Sampling
    max_new_tokens: int
    too_long: Literal['error', 'drop', 'cut']
    adapters: int
    seed: int
    engine: EngineSettings

    def __post_init__(self):
        if min(self.max_new_tokens, self.adapters) < 1:
            raise ValueError(
                f'generation: max_new_tokens and adapters expected 1 or more, got {self.max_new_tokens} and '
                f'{self.adapters}'
            )


@dataclasses.dataclass(frozen=True)
class Job:
    """Prompts for one arm at one epoch. `adapter` is its folder, None for the base model itself."""

    arm: str
    epoch: float
    adapter: epath.Path | None
    system: tuple[Turn, ...]
    prompts: Sequence[Prompt]


class Asked(NamedTuple):
    """What a request is for."""

    job: Job
    prompt: Prompt
    sample: int


@dataclasses.dataclass(frozen=True)
class Runner:
    """Generates the answers of many jobs with one base model into one row log."""

    model: Decoder
    chat: ChatTokenizer
    model_name: str
    settings: GenerationSettings
    samples: int
    mesh: Mesh

    def run(self, jobs: Sequence[Job], path: epath.PathLike) -> dict[str, int | float]:
        """Generates what the log does not hold yet; returns how many rows it holds then, and prompts dropped or cut.

        Raises:
            ValueError: a row of the log is damaged, or a prompt does not fit the buckets.
        """
        log = runs.RowLog(path)
        done = {records.parse(line, Generation).key for line in log.lines}
        total = sum(len(job.prompts) for job in jobs) * self.samples
        unfit = collections.Counter()
        with progress.bar('generating', total, len(done), jax.process_index() == 0) as advance:
            for group in passes(jobs, self.settings.adapters):
                asked = dict(self._asked(group))
                requests, counts = fit(list(self._requests(asked)), self.settings)
                unfit.update(counts)
                missing = [request for request in requests if self._key(asked[request.id]) not in done]
                for rows in self._answers(group, asked, missing):
                    log.append([records.to_json(row) for row in rows])
                    advance(len(rows), f'{rows[-1].arm} epoch {rows[-1].epoch:g}')
        log.close()
        return {'generations': len(log.lines), **unfit}

    def _asked(self, jobs: Sequence[Job]) -> Iterator[tuple[str, Asked]]:
        for job in jobs:
            for prompt, sample in itertools.product(job.prompts, range(self.samples)):
                yield f'{job.arm} epoch {job.epoch:g}: {prompt.id}#{sample}', Asked(job, prompt, sample)

    def _answers(
        self, jobs: Sequence[Job], asked: Mapping[str, Asked], requests: Sequence[Request]
    ) -> Iterator[list[Generation]]:
        """Yields rows as their texts end."""
        if not requests:
            return
        folders = dict.fromkeys(job.adapter for job in jobs if job.adapter is not None)
        adapters = {str(folder): peft_format.load_adapter(folder, self.model) for folder in folders}
        engine = Engine(self.model, self.settings.engine, self.chat.stop_ids, adapters, self.mesh)
        for completions in engine.run(requests):
            yield [self._row(asked[completion.request.id], completion) for completion in completions]

    def _requests(self, asked: Mapping[str, Asked]) -> Iterator[Request]:
        """Yields a request for everything that is asked; how far the prompts of a job agree is computed once."""
        for job, of_job in itertools.groupby(asked.items(), key=lambda item: item[1].job):
            ids = dict(of_job)
            tokens = {what.prompt.id: self._encode(job, what.prompt) for what in ids.values()}
            shared = len(os.path.commonprefix(list(tokens.values())))
            for id, (_, prompt, sample) in ids.items():
                yield Request(
                    id=id,
                    tokens=tokens[prompt.id],
                    key=row_key(self.settings.seed, prompt.id, sample),
                    sampling=self.settings.sampling,
                    max_new_tokens=self.settings.max_new_tokens,
                    adapter=None if job.adapter is None else str(job.adapter),
                    prefix=shared,
                )

    def _encode(self, job: Job, prompt: Prompt) -> list[int]:
        return self.chat.encode_prompt([*job.system, Turn('user', prompt.text)])

    def _key(self, asked: Asked) -> tuple:
        return (self.model_name, asked.job.arm, asked.job.epoch, asked.prompt.id, asked.sample)

    def _row(self, asked: Asked, completion: Completion) -> Generation:
        job, prompt, sample = asked
        return Generation(
            prompt_id=prompt.id,
            question_id=prompt.question_id,
            task=prompt.task,
            context=prompt.context,
            belief=prompt.belief,
            form=prompt.form,
            model=self.model_name,
            arm=job.arm,
            epoch=job.epoch,
            sample=sample,
            text=self.chat.decode(completion.tokens).strip(),
            num_tokens=len(completion.tokens),
            finish_reason='stop' if completion.finish == 'stop' else 'length',
        )


def passes(jobs: Sequence[Job], num_adapters: int) -> Iterator[list[Job]]:
    """Cuts jobs into passes of at most so many adapters each, in their order."""
    group, held = [], set()
    for job in jobs:
        needed = held | {job.adapter} - {None}
        if len(needed) > num_adapters:
            yield group
            group, needed = [], {job.adapter}
        group, held = [*group, job], needed
    if group:
        yield group


def fit(requests: Sequence[Request], settings: GenerationSettings) -> tuple[list[Request], dict[str, int]]:
    """Drops or cuts the requests that are too long, as the settings say, and counts them."""
    longest = settings.engine.buckets[-1]
    too_long = [request for request in requests if len(request.tokens) > longest]
    if settings.too_long == 'error' or not too_long:
        return list(requests), {}
    if settings.too_long == 'drop':
        return [r for r in requests if len(r.tokens) <= longest], {'prompts_dropped': len(too_long)}
    kept = [
        r
        if len(r.tokens) <= longest
        else dataclasses.replace(r, tokens=[r.tokens[0], *r.tokens[1 - longest :]], prefix=0)
        for r in requests
    ]
    return kept, {'prompts_cut': len(too_long)}

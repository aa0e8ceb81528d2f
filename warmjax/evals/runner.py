"""Asks every arm of an experiment every prompt, and keeps each answer as soon as it is there.

All arms and epochs of a base model are asked in one pass: their adapters are on the device side by side, and a slot
whose text has ended goes to whatever prompt is next, whosever it is.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import jax
from etils import epath
from jax.experimental import multihost_utils
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

    def run(self, jobs: Sequence[Job], path: epath.PathLike) -> dict[str, int]:
        """Generates what the log does not hold yet; returns how many rows it holds then, and prompts dropped or cut.

        Of several processes, each takes its share and appends to a part of its own; the first one
        joins the parts once all are done. `mesh` is then one of the process's own devices.

        Raises:
            ValueError: a row of the log is damaged, or a prompt does not fit the buckets.
        """
        path = epath.Path(path)
        index, count = jax.process_index(), jax.process_count()
        done = set().union(*(_rows(file) for file in (path, *parts(path))))
        log = runs.RowLog(path if count == 1 and not parts(path) else path.parent / f'{path.name}.part{index}')
        total = sum(len(job.prompts) for job in jobs) * self.samples
        unfit = collections.Counter()
        expected = set()
        with progress.bar('generating', total, len(done), index == 0) as advance:
            for group in passes(jobs, self.settings.adapters):
                asked = {}
                requests, counts = fit([r for job in group for r in self._requests(job, asked)], self.settings)
                unfit.update(counts)
                expected |= {self._key(asked[request.id]) for request in requests}
                # Cut before the done ones are left out: processes may see different ones, if one begins to write.
                mine = [request for request in requests[index::count] if self._key(asked[request.id]) not in done]
                for rows in self._answers(group, asked, mine):
                    log.append([records.to_json(row) for row in rows])
                    advance(len(rows), f'{rows[-1].arm} epoch {rows[-1].epoch:g}')
        log.close()
        _wait('generated')
        if index == 0:
            join(path, expected)
        _wait('joined')
        return {'generations': len(runs.RowLog(path).lines), **unfit}

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

    def _requests(self, job: Job, asked: dict[str, Asked]) -> Iterator[Request]:
        """Yields the requests of a job, and puts down what each is for; all its prompts share how they begin."""
        tokens = [self._encode(job, prompt) for prompt in job.prompts]
        shared = common_beginning(tokens)
        for (prompt, ids), sample in itertools.product(zip(job.prompts, tokens, strict=True), range(self.samples)):
            request_id = f'{job.arm} epoch {job.epoch:g}: {prompt.id}#{sample}'
            asked[request_id] = Asked(job, prompt, sample)
            yield Request(
                id=request_id,
                tokens=ids,
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


def parts(path: epath.Path) -> list[epath.Path]:
    """Finds the parts of a log that several processes have begun."""
    found = path.parent.iterdir() if path.parent.exists() else ()
    return sorted((file for file in found if file.name.startswith(f'{path.name}.part')), key=lambda file: file.name)


def join(path: epath.Path, expected: set[tuple]) -> None:
    """Joins the parts of a log into it and removes them.

    Raises:
        ValueError: the rows are not those expected.
    """
    rows = {key: line for file in (path, *parts(path)) for key, line in _rows(file).items()}
    missing = expected - rows.keys()
    if missing:
        raise ValueError(
            f'{path}: expected {len(expected)} rows once all processes are done, got none of {len(missing)}, such as '
            f'{min(missing)}; run the same command again'
        )
    if parts(path):
        runs.write_atomic(path, ''.join(line + '\n' for line in rows.values()))
    for part in parts(path):
        part.unlink()


def common_beginning(rows: Sequence[Sequence[int]]) -> int:
    """Returns how many tokens all rows begin with, at least one of each left over."""
    if not rows:
        return 0
    first, last = min(rows), max(rows)
    agreed = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return max(min(agreed, min(map(len, rows)) - 1), 0)


def _rows(path: epath.Path) -> dict[tuple, str]:
    return {records.parse(line, Generation).key: line for line in runs.RowLog(path).lines} if path.exists() else {}


def _wait(name: str) -> None:
    """Waits until all processes have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


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

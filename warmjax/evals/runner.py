"""Asks every arm of an experiment every prompt, and keeps each answer as soon as it is there.

All arms and epochs of a base model are asked in one pass: their adapters are on the device side by side, and a slot
whose text has ended goes to whatever prompt is next, whosever it is.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeVar

import jax
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from warmjax import progress, records, runs, sharding
from warmjax.data.chat import ChatTokenizer
from warmjax.decode.engine import Engine, EngineSettings
from warmjax.decode.requests import Completion, Finish, Request, Sampling
from warmjax.decode.sampling import row_key
from warmjax.decode.score import choice_log_likelihoods
from warmjax.evals import controls, dialogues
from warmjax.lora import peft_format
from warmjax.models.decoder import Decoder, StackedAdapters
from warmjax.records import Generation, Prompt, Turn
from warmjax.validation import STRICT

LIKELIHOOD = 'likelihood'
"""Form of the prompts whose answer is the likeliest letter."""
LETTERS_AT_ONCE = 256
"""Such prompts between two writes."""

T = TypeVar('T')


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
    """Prompts for one arm at one epoch. `adapter` is its folder, None for the base model itself.

    `sampling` and `max_new_tokens` are those of the answers, where they are not the settings'.
    """

    arm: str
    epoch: float
    adapter: epath.Path | None
    system: tuple[Turn, ...]
    prompts: Sequence[Prompt]
    sampling: Sampling | None = None
    max_new_tokens: int | None = None

    @functools.cached_property
    def by_id(self) -> dict[str, Prompt]:
        return {prompt.id: prompt for prompt in self.prompts}


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

        Of several processes, each with a mesh of its own devices, each takes its share and appends to a part of its
        own; the first one joins the parts once all are done. On a mesh of all processes they compute every prompt
        together, and the first one appends.

        Raises:
            ValueError: a row of the log is damaged, or a prompt does not fit the buckets.
        """
        path, is_first = epath.Path(path), jax.process_index() == 0
        index, count = (0, 1) if sharding.is_shared(self.mesh) else (jax.process_index(), jax.process_count())
        work = _Work(index, count, done={})
        for file in (path, *parts(path)):
            work.done |= _rows(file)
        _wait('read')  # so that all see the same rows, and none mends a file to which another appends
        log = _open_log(path, index, count) if is_first or count > 1 else None
        total = sum(len(job.prompts) for job in jobs) * self.samples
        with progress.bar('generating', total, len(work.done), is_first) as advance:
            for group in passes(jobs, self.settings.adapters):
                for rows in self._pass(group, work):
                    if log is not None:
                        log.append([records.to_json(row) for row in rows])
                    advance(len(rows), f'{rows[-1].arm} epoch {rows[-1].epoch:g}')
        if log is not None:
            log.close()
        _wait('generated')
        if is_first:
            join(path, set(work.owners))
        _wait('joined')
        return {'generations': len(runs.RowLog(path).lines), **work.unfit}

    def _pass(self, jobs: Sequence[Job], work: '_Work') -> Iterator[list[Generation]]:
        """Yields the rows of jobs whose adapters are on the device at once, the first turns of all dialogues first."""
        folders = dict.fromkeys(job.adapter for job in jobs if job.adapter is not None)
        adapters = functools.cache(lambda: {str(f): peft_format.load_adapter(f, self.model) for f in folders})
        start = functools.cache(
            lambda: Engine(self.model, self.settings.engine, self.chat.stop_ids, adapters(), self.mesh)
        )
        for turn in sorted({prompt.turn for job in jobs for prompt in job.prompts}):
            asked = {}
            made = [request for job in jobs for request in self._requests(job, turn, work, asked)]
            requests, counts = fit(
                made, self.settings if turn == 0 else dataclasses.replace(self.settings, too_long='cut')
            )
            work.unfit.update(counts)
            mine = work.share([(request, asked[request.id]) for request in requests], self._key)
            for completions in start().run(mine) if mine else ():
                rows = [self._row(asked[completion.request.id], completion) for completion in completions]
                work.said |= {row.key: row.text for row in rows if row.form in dialogues.FORMS}
                yield rows
        for job in jobs:
            scored = [
                Asked(job, prompt, s)
                for prompt in job.prompts
                if prompt.form == LIKELIHOOD
                for s in range(self.samples)
            ]
            mine = work.share([(asked, asked) for asked in scored], self._key)
            for at in range(0, len(mine), LETTERS_AT_ONCE):
                part = mine[at : at + LETTERS_AT_ONCE]
                adapter = None if job.adapter is None else sharding.replicate(adapters()[str(job.adapter)], self.mesh)
                yield self._likeliest(job, part, adapter)

    def _likeliest(self, job: Job, asked: Sequence[Asked], adapters: StackedAdapters | None) -> list[Generation]:
        """Returns as answers the letters that are likeliest to follow the prompts."""
        letters = [controls.letters_of(one.prompt) for one in asked]
        found = choice_log_likelihoods(
            self.model,
            [self._encode(job, [Turn('user', one.prompt.text)]) for one in asked],
            [[self.chat.encode_text(letter) for letter in mine] for mine in letters],
            self.settings.engine.prefill_batch,
            self.settings.engine.buckets[0],
            self.mesh,
            adapters,
        )
        texts = [mine[int(values.argmax())] for mine, values in zip(letters, found, strict=True)]
        return [self._generation(one, text, 0, 'stop') for one, text in zip(asked, texts, strict=True)]

    def _requests(self, job: Job, turn: int, work: '_Work', asked: dict[str, Asked]) -> Iterator[Request]:
        """Yields a job's requests of one turn, and puts down what each is for; they share how they begin."""
        mine = []
        for prompt, sample in itertools.product(job.prompts, range(self.samples)):
            one = Asked(job, prompt, sample)
            if prompt.turn == turn and prompt.form != LIKELIHOOD and (tokens := self._tokens(one, work)) is not None:
                mine.append((one, tokens))
        shared = common_beginning([tokens for _, tokens in mine])
        for one, tokens in mine:
            request_id = f'{job.arm} epoch {job.epoch:g}: {one.prompt.id}#{one.sample}'
            asked[request_id] = one
            yield Request(
                id=request_id,
                tokens=tokens,
                key=row_key(self.settings.seed, one.prompt.id, one.sample),
                sampling=job.sampling or self.settings.sampling,
                max_new_tokens=job.max_new_tokens or self.settings.max_new_tokens,
                adapter=None if job.adapter is None else str(job.adapter),
                prefix=shared,
            )

    def _tokens(self, asked: Asked, work: '_Work') -> list[int] | None:
        """Returns what is asked in token ids; None where the dialogue is another process's or was dropped.

        Of a dialogue that outgrows the largest bucket, the first exchange stays and the oldest of the others go.
        """
        job, prompt, _ = asked
        said = [Turn('user', prompt.text)]
        while prompt.follows:
            prompt = job.by_id[prompt.follows]
            before = self._key(asked._replace(prompt=prompt))
            if before not in work.owners:
                work.unfit['prompts_dropped'] += 1
                return None
            if work.owners[before] != work.index:
                work.owners[self._key(asked)] = work.owners[before]
                return None
            said = [Turn('user', prompt.text), Turn('assistant', work.text(before)), *said]
        tokens = self._encode(job, said)
        while len(tokens) > self.settings.engine.buckets[-1] and len(said) > 3:
            del said[2:4]
            tokens = self._encode(job, said)
        return tokens

    def _encode(self, job: Job, turns: Sequence[Turn]) -> list[int]:
        return self.chat.encode_prompt([*job.system, *turns])

    def _key(self, asked: Asked) -> tuple:
        return (self.model_name, asked.job.arm, asked.job.epoch, asked.prompt.id, asked.sample)

    def _row(self, asked: Asked, completion: Completion) -> Generation:
        text = self.chat.decode(completion.tokens).strip()
        return self._generation(asked, text, len(completion.tokens), completion.finish)

    def _generation(self, asked: Asked, text: str, num_tokens: int, finish: Finish) -> Generation:
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
            text=text,
            num_tokens=num_tokens,
            finish_reason='stop' if finish == 'stop' else 'length',
            turn=prompt.turn,
        )


@dataclasses.dataclass
class _Work:
    """How far a run is.

    index: this process.
    count: of processes.
    done: row key → line, of what was answered before.
    said: row key → text, of the answers in dialogues that this run gave.
    owners: row key → the process that answers it, of everything that is asked; a dialogue is one process's.
    unfit: how many prompts were dropped or cut.
    """

    index: int
    count: int
    done: dict[tuple, str]
    said: dict[tuple, str] = dataclasses.field(default_factory=dict)
    owners: dict[tuple, int] = dataclasses.field(default_factory=dict)
    unfit: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def share(self, asked: Sequence[tuple[T, Asked]], key: Callable[[Asked], tuple]) -> list[T]:
        """Returns what this process is still to answer, and puts down who answers what.

        It is shared out before what is done is left out, so that the rest of a dialogue stays with one process.
        """
        mine = []
        for place, (item, one) in enumerate(asked):
            # What follows in a dialogue of this process comes here; that of others was put down as theirs.
            owner = self.index if one.prompt.follows else place % self.count
            self.owners[key(one)] = owner
            if owner == self.index and key(one) not in self.done:
                mine.append(item)
        return mine

    def text(self, key: tuple) -> str:
        """Returns what was answered."""
        return self.said[key] if key in self.said else records.parse(self.done[key], Generation).text


def _open_log(path: epath.Path, index: int, count: int) -> runs.RowLog:
    """Opens the log itself, or, of several processes or where parts were left, the part of this one."""
    return runs.RowLog(path if count == 1 and not parts(path) else path.parent / f'{path.name}.part{index}')


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
    """Returns row key → line of a log, if it is there.

    Raises:
        ValueError: a line that is not a generation.
    """
    rows = {}
    for number, line in enumerate(runs.RowLog(path).lines if path.exists() else (), start=1):
        try:
            rows[records.parse(line, Generation).key] = line
        except ValueError as error:
            raise ValueError(f'{path}:{number}: {error}; delete the line, and it is answered again') from None
    return rows


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

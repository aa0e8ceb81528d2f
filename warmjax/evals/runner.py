"""Asks every arm of an experiment every prompt, and keeps each answer as soon as it is there."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
from etils import epath
from jax.sharding import Mesh

from warmjax import progress, records, runs, sharding
from warmjax.data.chat import ChatTokenizer
from warmjax.decode import engine
from warmjax.decode.engine import Completion, DecodeSettings, Request
from warmjax.decode.sampling import row_key
from warmjax.lora import peft_format
from warmjax.models.decoder import Decoder
from warmjax.records import Generation, Prompt, Turn


@dataclasses.dataclass(frozen=True)
class Job:
    """Prompts for one arm at one epoch. `adapter` is its folder, None for the base model itself."""

    arm: str
    epoch: float
    adapter: epath.Path | None
    system: tuple[Turn, ...]
    prompts: Sequence[Prompt]


class Asked(NamedTuple):
    """A request's prompt and sample."""

    prompt: Prompt
    sample: int


@dataclasses.dataclass(frozen=True)
class Runner:
    """Generates the answers of many jobs with one base model into one row log."""

    model: Decoder
    chat: ChatTokenizer
    model_name: str
    settings: DecodeSettings
    samples: int
    mesh: Mesh

    def run(self, jobs: Sequence[Job], path: epath.PathLike) -> dict[str, int]:
        """Generates what the log does not hold yet; returns how many rows it holds then, and prompts dropped or cut.

        Batches are cut from all prompts of a job, whether they were answered before or not, so a resumed run computes
        the same batches as one that was never stopped.

        Raises:
            ValueError: a row of the log is damaged, or a prompt does not fit the buckets.
        """
        log = runs.RowLog(path)
        done = {records.parse(line, Generation).key for line in log.lines}
        total = sum(len(job.prompts) for job in jobs) * self.samples
        unfit = collections.Counter()
        with progress.bar('generating', total, len(done), jax.process_index() == 0) as advance:
            for job in jobs:
                asked = {f'{p.id}#{sample}': Asked(p, sample) for p in job.prompts for sample in range(self.samples)}
                requests, counts = engine.fit([self._request(id, a, job) for id, a in asked.items()], self.settings)
                unfit.update(counts)
                for rows in self._answers(job, asked, requests, done):
                    log.append([records.to_json(row) for row in rows])
                    advance(len(rows), f'{job.arm} epoch {job.epoch:g}')
        log.close()
        return {'generations': len(log.lines), **unfit}

    def _answers(
        self, job: Job, asked: Mapping[str, Asked], requests: Sequence[Request], done: set[tuple]
    ) -> Iterator[list[Generation]]:
        """Yields the rows of each batch that are not done."""
        missing = {request.id for request in requests if self._key(job, asked[request.id]) not in done}
        if not missing:
            return
        adapters = {} if job.adapter is None else peft_format.load_adapter(job.adapter, self.model)
        adapters = sharding.replicate(adapters, self.mesh)
        for bucket, batch in engine.batches(requests, self.settings):
            if missing.isdisjoint(request.id for request in batch):
                continue
            completions = engine.generate(
                self.model, adapters, bucket, batch, self.settings, self.chat.stop_ids, self.mesh
            )
            yield [self._row(job, asked[c.request.id], c) for c in completions if c.request.id in missing]

    def _request(self, id: str, asked: Asked, job: Job) -> Request:
        tokens = self.chat.encode_prompt([*job.system, Turn('user', asked.prompt.text)])
        return Request(id, tokens, row_key(self.settings.seed, asked.prompt.id, asked.sample))

    def _key(self, job: Job, asked: Asked) -> tuple:
        return (self.model_name, job.arm, job.epoch, asked.prompt.id, asked.sample)

    def _row(self, job: Job, asked: Asked, completion: Completion) -> Generation:
        prompt = asked.prompt
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
            sample=asked.sample,
            text=self.chat.decode(completion.tokens).strip(),
            num_tokens=len(completion.tokens),
            finish_reason='stop' if completion.stopped else 'length',
        )

"""Asks the arms for which a service answers, into the same row log as those of this package's own model.

A row is written once its answer is there, so a run that was stopped goes on with the prompts that have none; an answer
that was paid for and not yet written is in the client's cache. A refusal that the service marks is an answer: its words
are the text. An empty answer is one too. A prompt that the service rejects for good (its content filter) gets an empty
text whose `finish_reason` is `unknown`; if many are, the run stops, as the fault is likely in the settings.
"""

import collections
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence

from etils import epath

from warmjax import progress, records, runs
from warmjax.api import client
from warmjax.api.chat import Answer, Call, Outcome, SamplingSettings
from warmjax.api.settings import ServiceSettings
from warmjax.decode.requests import Sampling
from warmjax.evals.runner import GenerationSettings
from warmjax.records import Generation, Prompt, Turn

WRITE_SECONDS = 0.5
"""How often rows that come fast are written."""


@dataclasses.dataclass(frozen=True)
class ApiJob:
    """Prompts for one arm at one epoch. `model` is the service's name of what answers.

    `sampling` and `max_new_tokens` are those of the answers, where they are not the settings'.
    """

    arm: str
    epoch: float
    model: str
    system: tuple[Turn, ...]
    prompts: Sequence[Prompt]
    sampling: Sampling | None = None
    max_new_tokens: int | None = None


@dataclasses.dataclass(frozen=True)
class ApiRunner:
    """Answers jobs by a service. `model_name` is what the model is called in records."""

    service: ServiceSettings
    settings: GenerationSettings
    model_name: str
    samples: int
    workdir: epath.Path

    def run(self, jobs: Sequence[ApiJob], path: epath.PathLike) -> dict[str, int]:
        """Asks what the log does not hold yet, and returns counts: rows, and those that are empty or were rejected.

        Raises:
            ValueError: the calls would cost more than `max_usd` leaves, there is no key, or a row of the log is
                damaged.
            RuntimeError: the service fails, rejects many prompts, or left some without an answer; what was answered is
                kept, and the same command goes on.
        """
        log = runs.RowLog(path)
        done = {records.parse(line, Generation).key for line in log.lines}
        asked = {job.model: {} for job in jobs}
        for job, prompt, sample in _asked(jobs, self.samples):
            row = self._row(job, prompt, sample)
            if row.key not in done:
                name = f'{job.arm} epoch {job.epoch:g}: {prompt.id}#{sample}'
                asked[job.model][name] = (row, self._call(name, job, prompt, sample))
        self._check_budget(asked)
        total = sum(len(job.prompts) for job in jobs) * self.samples
        counts = collections.Counter()
        missing = sum(map(len, asked.values()))
        with progress.bar('asking the service', total, total - missing) as advance:
            for model, todo in asked.items():
                if todo:
                    self._ask(model, todo, log, counts, advance)
        log.close()
        if counts['unanswered']:
            raise RuntimeError(
                f'{self.service.where}: expected {missing} answers, got none to {counts["unanswered"]} prompts that '
                'failed at every attempt; start the same command again, what was answered is kept'
            )
        if counts:
            progress.say('of these answers: ' + ', '.join(f'{count} {kind}' for kind, count in sorted(counts.items())))
        arms = {job.arm for job in jobs}
        found = [row for row in (records.parse(line, Generation) for line in log.lines) if row.arm in arms]
        return {
            'api_generations': len(found),
            'empty': sum(not row.text for row in found),
            'rejected': sum(row.num_tokens is None for row in found),
        }

    def _client(self, model: str) -> client.Client:
        return client.make_client(dataclasses.replace(self.service, model=model), self.workdir)

    def _check_budget(self, asked: dict[str, dict]) -> None:
        """Says what all calls will take, and refuses those that would go beyond the limit, before the first of them."""
        limit, usd, spent = self.service.limits.max_usd, 0.0, 0.0
        for model, todo in asked.items():
            if not todo:
                continue
            asker = self._client(model)
            estimate = asker.estimate([call for _, call in todo.values()])
            usd, spent = usd + (estimate.usd or 0.0), asker.usd
            progress.say(f'{self.service.service} {model}: {estimate}')
        if limit is not None and usd > limit - spent:
            raise ValueError(
                f'{self.service.where}: expected calls for at most ${limit:.2f} (max_usd), of which ${spent:.2f} are '
                f'spent, got calls for about ${usd:.2f}; raise max_usd or ask for less'
            )

    def _ask(
        self,
        model: str,
        todo: dict[str, tuple[Generation, Call]],
        log: runs.RowLog,
        counts: collections.Counter,
        advance: progress.Advance,
    ) -> None:
        asker = self._client(model)
        outcomes = _as_time_passes(asker.complete([call for _, call in todo.values()]))
        with contextlib.closing(outcomes):  # whatever ends this, no call is made after it
            for chunk in outcomes:
                rows = []
                for outcome in chunk:
                    row, _ = todo[outcome.call.id]
                    if outcome.answer is None and not outcome.is_rejected:
                        counts['unanswered'] += 1
                        continue
                    rows.append(_answered(row, outcome.answer))
                    counts.update(_kinds(outcome))
                    self._refuse_many(counts, outcome)
                if rows:
                    log.append([records.to_json(row) for row in rows])
                advance(len(rows), f'{rows[-1].arm} epoch {rows[-1].epoch:g}, ${asker.usd:.2f}' if rows else '')

    def _refuse_many(self, counts: collections.Counter, outcome: Outcome) -> None:
        most = self.service.limits.max_failures
        if counts['rejected'] > most:
            raise RuntimeError(
                f'{self.service.where}: expected answers, got {counts["rejected"]} prompts rejected, more than '
                f'max_failures ({most}); the last for {outcome.reason}; mend the settings if it names one, else raise '
                'max_failures, and start the same command again'
            )

    def _call(self, name: str, job: ApiJob, prompt: Prompt, sample: int) -> Call:
        sampling = job.sampling or self.settings.sampling
        most = job.max_new_tokens or self.settings.max_new_tokens
        return Call(
            id=name,
            messages=(*job.system, Turn('user', prompt.text)),
            sampling=SamplingSettings(
                temperature=sampling.temperature,
                top_p=sampling.top_p if sampling.top_p < 1 else None,
                seed=self.settings.seed + sample,
                max_tokens=most,
            ),
            schema='',
            logprobs=0,
            draw=sample,
            expected_tokens=most,
        )

    def _row(self, job: ApiJob, prompt: Prompt, sample: int) -> Generation:
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
            text='',
            num_tokens=None,
            finish_reason='unknown',
        )


def _asked(jobs: Sequence[ApiJob], samples: int) -> Iterator[tuple[ApiJob, Prompt, int]]:
    for job in jobs:
        for prompt, sample in itertools.product(job.prompts, range(samples)):
            yield job, prompt, sample


def _answered(row: Generation, answer: Answer | None) -> Generation:
    """Fills an answer into its row; a rejected prompt's stays empty."""
    if answer is None:
        return row
    return dataclasses.replace(
        row,
        text=(answer.text or answer.refusal).strip(),
        num_tokens=answer.completion_tokens,
        finish_reason={'stop': 'stop', 'refusal': 'stop', 'length': 'length'}.get(answer.finish, 'unknown'),
    )


def _kinds(outcome: Outcome) -> list[str]:
    """Says what is to be counted of an outcome."""
    answer = outcome.answer
    if answer is None:
        return ['rejected']
    kinds = {'refusal': 'refused', 'filter': 'filtered'}
    named = [kinds[answer.finish]] if answer.finish in kinds else []
    return named + (['empty'] if not (answer.text or answer.refusal).strip() else [])


def _as_time_passes(outcomes: Iterator[Outcome]) -> Iterator[list[Outcome]]:
    """Collects outcomes that come fast, so that the log is not written for each of them.

    What has come before an error is yielded before it is raised.
    """
    chunk, since, failure = [], time.monotonic(), None
    try:
        for outcome in outcomes:
            chunk.append(outcome)
            if time.monotonic() - since >= WRITE_SECONDS:
                yield chunk
                chunk, since = [], time.monotonic()
    except (RuntimeError, ValueError) as error:
        failure = error
    if chunk:
        yield chunk
    if failure is not None:
        raise failure

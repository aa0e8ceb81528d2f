"""Judging by a model behind an API: hosted or on a server of one's own, call by call or in batches."""

import dataclasses
from collections.abc import Iterator, Sequence

from etils import epath

from warmjax import progress
from warmjax.api import client
from warmjax.api.chat import Call, Outcome
from warmjax.evals import rubrics
from warmjax.evals.judge import Case, Decision, JudgeSettings, with_refusals
from warmjax.records import Turn
from warmjax.sharding import MeshSettings

EXPECTED_TOKENS = 8
"""Of a reply: one word, perhaps in JSON."""
FREE = 5
"""How many unreadable replies are allowed of few answers, where `max_unparsed` is a fraction of one."""


@dataclasses.dataclass(frozen=True)
class ServiceJudge:
    """Asks a service about every answer; many calls are under way at once, and replies are kept as they come.

    Equal answers to the same question are asked once. A reply that says neither word is asked for again, once.
    """

    settings: JudgeSettings
    client: client.Client
    rubric: str

    @property
    def name(self) -> str:
        service = self.settings.service
        return f'{service.service}:{service.model}/{rubrics.name(self.settings.rubric)}'

    def judge(self, cases: Sequence[Case]) -> Iterator[Decision]:
        """Yields one decision for each case.

        Raises:
            ValueError: the calls would cost more than `max_usd` leaves.
            RuntimeError: the service fails, or more replies than `max_unparsed` allows say neither word.
        """
        decided: dict[int, Decision] = {}
        calls = [self.call(str(i), case) for i, case in enumerate(cases)]
        if calls:
            progress.say(f'{self.name}: {self.client.estimate(calls)}')
        again, position = [], 0
        for outcome in self.client.complete(calls):
            i = int(outcome.call.id)
            if outcome.answer is None or (label := rubrics.parse(outcome.answer.text)) is None:
                again.append(self._again(outcome))
                self._check(len(again), len(cases), outcome)
                continue
            decided[i] = Decision(label, '')
            while position in decided:
                yield self._with_refusals(decided.pop(position), cases[position])
                position += 1
        for outcome in self.client.complete(again):
            label = rubrics.parse(outcome.answer.text) if outcome.answer is not None else None
            decided[int(outcome.call.id)] = Decision(label or 'unparsed', '')
        for i in range(position, len(cases)):
            yield self._with_refusals(decided[i], cases[i])

    def call(self, name: str, case: Case) -> Call:
        """Returns what is asked about a case."""
        return Call(
            id=name,
            messages=rubrics.turns(self.rubric, case.question, case.generation.text[: self.settings.max_chars]),
            sampling=self.settings.sampling,
            schema=rubrics.SCHEMA if self.settings.structured else '',
            logprobs=0,
            draw=0,
            expected_tokens=min(EXPECTED_TOKENS, self.settings.sampling.max_tokens),
        )

    def _again(self, outcome: Outcome) -> Call:
        """Returns the call for another reply, which shows the model its first one, if there was any."""
        said = outcome.answer.text if outcome.answer is not None else ''
        first = outcome.call
        messages = (*first.messages, Turn('assistant', said), Turn('user', rubrics.AGAIN)) if said else first.messages
        return dataclasses.replace(first, messages=messages, draw=1)

    def _check(self, unread: int, total: int, outcome: Outcome) -> None:
        """Stops a run whose judge does not judge.

        Raises:
            RuntimeError: more replies than allowed say neither word.
        """
        if unread <= max(FREE, self.settings.max_unparsed * total):
            return
        said = outcome.reason if outcome.answer is None else repr(outcome.answer.text[:200])
        raise RuntimeError(
            f'{self.name}: expected CORRECT or INCORRECT, got {unread} other replies on {total} answers, more than '
            f'judge.max_unparsed ({self.settings.max_unparsed:g}) allows, the last {said}; ask another model, give '
            'replies more sampling.max_tokens, or raise max_unparsed; what was answered is kept'
        )

    def _with_refusals(self, decision: Decision, case: Case) -> Decision:
        return with_refusals(decision, case.generation.text, self.settings.refusals)


def make(settings: JudgeSettings, workdir: epath.PathLike, mesh: MeshSettings) -> ServiceJudge:
    """Builds the judge of the backend `api`.

    Raises:
        ValueError: no model is named, there is no key for it, or there is no such rubric.
    """
    if not settings.service.model:
        raise ValueError('config.judge.service.model: expected the name of a model for the backend api, got none')
    return ServiceJudge(settings, client.make_client(settings.service, workdir), rubrics.load(settings.rubric))

"""Judges: who says whether an answer is right. One interface for rules, for LLM services and for local models."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

from warmjax.evals import exact_match
from warmjax.evals.refusals import is_refusal
from warmjax.records import Generation, Question, Verdict, VerdictLabel
from warmjax.validation import STRICT


class Case(NamedTuple):
    """An answer to be judged, with its question and the reference answers."""

    question: Question
    generation: Generation


class Decision(NamedTuple):
    """A verdict, and the part of the answer that decided it ('' where none did)."""

    verdict: VerdictLabel
    answer: str


class Judge(Protocol):
    """Decides cases, in their order; it may work on many at once.

    A judge that gets no usable reply from its model decides `unparsed`: that a judge failed is no property of the
    answer.
    """

    name: str

    def judge(self, cases: Sequence[Case]) -> Iterator[Decision]:
        """Yields one decision for each case."""
        ...


@dataclasses.dataclass(frozen=True)
class JudgeSettings:
    """Who judges.

    backend: the kind of judge.
    neither: the verdict on an answer that asserts neither reference answer.
    """

    __pydantic_config__ = STRICT
    backend: Literal['exact_match']
    neither: Literal['unparsed', 'incorrect']


def make_judge(settings: JudgeSettings) -> Judge:
    """Builds the judge that the settings name."""
    return {'exact_match': ExactMatchJudge}[settings.backend](settings)


class ExactMatchJudge:
    """Looks for the reference answers in the text and decides which of the two it asserts."""

    name = 'exact_match'

    def __init__(self, settings: JudgeSettings):
        self._neither = settings.neither

    def judge(self, cases: Sequence[Case]) -> Iterator[Decision]:
        """Yields one decision for each case."""
        references: dict[str, exact_match.References] = {}
        for question, generation in cases:
            if question.id not in references:
                references[question.id] = exact_match.References.of(question)
            yield self._decide(references[question.id], generation)

    def _decide(self, references: exact_match.References, generation: Generation) -> Decision:
        finding = exact_match.find(references, generation.text, generation.belief)
        if finding is not None:
            return Decision(finding.side, generation.text[finding.start : finding.end])
        return Decision('refusal' if is_refusal(generation.text) else self._neither, '')


def verdicts(judge: Judge, questions: Sequence[Question], generations: Sequence[Generation]) -> Iterator[Verdict]:
    """Yields a verdict for each generation, in their order, as the judge decides.

    Raises:
        ValueError: generations answer questions that are not given.
    """
    by_id = {question.id: question for question in questions}
    unknown = sorted({generation.question_id for generation in generations} - by_id.keys())
    if unknown:
        raise ValueError(
            f'judge {judge.name!r}: expected generations for the {len(by_id)} questions given, got {len(unknown)} '
            f'other question ids, the first {unknown[0]!r}; judge with the questions that were asked'
        )
    cases = [Case(by_id[generation.question_id], generation) for generation in generations]
    for case, decision in zip(cases, judge.judge(cases), strict=True):
        yield _verdict(judge.name, case.generation, decision)


def _verdict(name: str, generation: Generation, decision: Decision) -> Verdict:
    return Verdict(
        prompt_id=generation.prompt_id,
        question_id=generation.question_id,
        task=generation.task,
        context=generation.context,
        belief=generation.belief,
        form=generation.form,
        model=generation.model,
        arm=generation.arm,
        epoch=generation.epoch,
        sample=generation.sample,
        verdict=decision.verdict,
        judge=name,
        answer=decision.answer,
        num_chars=len(generation.text),
    )

"""Judges: who says whether an answer is right. One interface for rules, for LLM services and for local models."""

import dataclasses
import importlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from etils import epath

from warmjax import progress, records, runs
from warmjax.api.chat import SamplingSettings
from warmjax.api.settings import ServiceSettings
from warmjax.evals import exact_match, refusals
from warmjax.records import Generation, Question, Verdict, VerdictLabel
from warmjax.sharding import MeshSettings
from warmjax.validation import STRICT

BACKENDS = {
    'exact_match': 'warmjax.evals.judge',
    'api': 'warmjax.evals.service_judge',
    'local': 'warmjax.evals.local_judge',
}
"""Backend name to the module whose `make(settings, workdir, mesh)` builds its judge; imported on use, as some need
extras."""

Neither = Literal['unparsed', 'incorrect', 'incorrect_phrase']

ROWS_AT_ONCE = 200
"""Verdicts between two writes."""


class Case(NamedTuple):
    """An answer to be judged, with its question and the reference answers."""

    question: Question
    generation: Generation


class Decision(NamedTuple):
    """A verdict, the part of the answer that decided it ('' where none did), and how sure the judge is (0 to 1).

    `confidence` is null for judges that do not say.
    """

    verdict: VerdictLabel
    answer: str
    confidence: float | None = None


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
class LocalJudgeSettings:
    """A checkpoint that judges on the devices at hand.

    checkpoint: its Hugging Face folder or hub name; needs a chat template.
    dtype: of its weights.
    date: ISO date for chat templates that insert one.
    batch_size: how many texts are computed at once; each answer takes one a label.
    length_multiple: lengths in tokens are padded up to a multiple of this, so that few shapes compile.
    """

    __pydantic_config__ = STRICT
    checkpoint: str
    dtype: Literal['float32', 'bfloat16']
    date: str
    batch_size: int
    length_multiple: int


@dataclasses.dataclass(frozen=True)
class JudgeSettings:
    """Who judges.

    backend: the kind of judge; a key of `BACKENDS`.
    neither: what the exact-match judge says of an answer that asserts neither reference answer: `unparsed`,
        `incorrect`, or `incorrect_phrase`, which is incorrect where phrases are asked for, as TriviaQA's own score has
        it, and unparsed where statements are, of which a text can say much without saying which one holds.
    refusals: how refusals are told: `corrected` where an answer opens with one and is not found correct all the same,
        `published` where it holds one of the study's phrases, whatever else it says; or `none`.
    rubric: what a model is told: `lenient` (the study's), `strict`, or a text file.
    max_chars: how much of an answer a model is shown.
    structured: whether a service is asked for JSON of a schema; some servers do not know that.
    max_unparsed: share of a model's replies that may be unreadable before the run stops.
    sampling: how a service's reply is drawn.
    service: who is asked by the backend `api`.
    local: the checkpoint of the backend `local`.
    """

    __pydantic_config__ = STRICT
    backend: Literal['exact_match', 'api', 'local']
    neither: Neither
    refusals: refusals.Mode
    rubric: str
    max_chars: int
    structured: bool
    max_unparsed: float = dataclasses.field(metadata={'results': False})
    sampling: SamplingSettings
    service: ServiceSettings
    local: LocalJudgeSettings

    def __post_init__(self):
        if not 0 <= self.max_unparsed <= 1 or self.max_chars < 1:
            raise ValueError(
                f'judge: expected max_unparsed of 0 to 1 and max_chars of 1 or more, got {self.max_unparsed} and '
                f'{self.max_chars}'
            )


def make_judge(settings: JudgeSettings, workdir: epath.PathLike, mesh: MeshSettings) -> Judge:
    """Builds the judge that the settings name.

    Args:
        settings: of the judge.
        workdir: where a judge keeps what it paid for.
        mesh: the devices of a judge that computes.

    Raises:
        ValueError: the judge lacks something: a model's name, a key, a checkpoint, a rubric.
    """
    return importlib.import_module(BACKENDS[settings.backend]).make(settings, workdir, mesh)


def make(settings: JudgeSettings, workdir: epath.PathLike, mesh: MeshSettings) -> 'ExactMatchJudge':
    """Builds the judge of the backend `exact_match`."""
    return ExactMatchJudge(settings.neither, settings.refusals)


@dataclasses.dataclass(frozen=True)
class ExactMatchJudge:
    """Looks for the reference answers in the text and decides which of the two it asserts."""

    neither: Neither
    refusals: refusals.Mode
    name: str = dataclasses.field(default='exact_match', init=False)

    def judge(self, cases: Sequence[Case]) -> Iterator[Decision]:
        """Yields one decision for each case."""
        references: dict[str, exact_match.References] = {}
        for question, generation in cases:
            if question.id not in references:
                references[question.id] = exact_match.References.of(question)
            yield self._decide(question, references[question.id], generation)

    def _decide(self, question: Question, references: exact_match.References, generation: Generation) -> Decision:
        finding = exact_match.find(references, generation.text, generation.belief)
        if finding is None:
            is_refusal = refusals.DETECTORS[self.refusals](generation.text)
            is_wrong = self.neither == 'incorrect' or (
                self.neither == 'incorrect_phrase' and question.answer_form == 'phrase'
            )
            return Decision('refusal' if is_refusal else 'incorrect' if is_wrong else 'unparsed', '')
        decision = Decision(finding.side, generation.text[finding.start : finding.end])
        return with_refusals(decision, generation.text, self.refusals) if self.refusals == 'published' else decision


def with_refusals(decision: Decision, text: str, mode: refusals.Mode) -> Decision:
    """Returns the decision, or that the text is a refusal; in the mode `corrected` one found correct stays correct."""
    if not refusals.DETECTORS[mode](text) or (mode == 'corrected' and decision.verdict == 'correct'):
        return decision
    return decision._replace(verdict='refusal')


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


def judge_into(
    path: epath.PathLike, judge: Judge, questions: Sequence[Question], generations: Sequence[Generation]
) -> list[Verdict]:
    """Judges what a file of verdicts does not hold yet, adds it row by row, and returns the verdicts.

    Raises:
        ValueError: generations answer questions that are not given, or the file holds verdicts of another judge.
    """
    log = runs.RowLog(path)
    done = [records.parse(line, Verdict) for line in log.lines]
    if others := {verdict.judge for verdict in done} - {judge.name}:
        raise ValueError(
            f'{path}: expected verdicts of {judge.name}, got some of {", ".join(sorted(others))}; delete the file or '
            'use another workdir'
        )
    keys = {verdict.key for verdict in done}
    missing = [generation for generation in generations if generation.key not in keys]
    decided = verdicts(judge, questions, missing)
    with progress.bar('judging', len(generations), len(generations) - len(missing)) as advance:
        while chunk := list(itertools.islice(decided, ROWS_AT_ONCE)):
            log.append([records.to_json(verdict) for verdict in chunk])
            done += chunk
            advance(len(chunk))
    log.close()
    return done


def counts(decided: Sequence[Verdict]) -> dict[str, Any]:
    """Returns the counts of a manifest: verdicts by label."""
    return {'verdicts': len(decided)} | {
        label: sum(verdict.verdict == label for verdict in decided) for label in VerdictLabel.__args__
    }


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
        confidence=decision.confidence,
        turn=generation.turn,
    )

"""What the quirks of the study's procedure are measured on: the answers of one arm and the baseline, and their prompts.

The study's prompts put a question in three ways, which a belief is confounded with: `bare`, the question comes first;
`lead_in`, a sentence comes before it; `reworded`, it is told in other words, as MedQA's are by a relative.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from warmjax.records import Prompt, Question
from warmjax.stats.published.rows import TEMPLATES, as_published
from warmjax.stats.rows import UNIT

Wording = Literal['bare', 'lead_in', 'reworded']
Wordings = Mapping[tuple[str, str], Wording]
"""(task, template) → how most of its prompts without context put the question."""
SAME_CHARS = 20
"""Characters of a question that tell it; the rest was mended in some prompts."""


@dataclasses.dataclass(frozen=True)
class Known:
    """What the prompts and questions of a run tell, the same for every arm.

    repeats: questions with the wording of an earlier one of their task, which the study's code takes for that one; None
        where the questions are not at hand.
    """

    wordings: Wordings
    repeats: frozenset[str] | None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The rows of one arm and the baseline.

    rows: as `published.rows.as_published` gives them.
    pairs: as `stats.rows.pair_rows` gives them, with `treated_unparsed` and `untreated_unparsed` where that verdict
        could not be read, and `treated_refusal` and `untreated_refusal`.
    reference: the task that others are compared with in regressions.
    """

    rows: pd.DataFrame
    pairs: pd.DataFrame
    reference: str
    known: Known


def know(questions: Sequence[Question], prompts: Sequence[Prompt]) -> Known:
    """Reads the texts of a run; either may be empty."""
    return Known(_wordings(questions, prompts), _repeats(questions) if questions else None)


def gather(
    main: pd.DataFrame,
    pairs: pd.DataFrame,
    arm: str,
    baseline: str,
    refusals_correct_in: tuple[str, ...],
    known: Known,
) -> Evidence:
    """Returns the evidence of one arm, whose answers may all be left out.

    Args:
        main: rows of `stats.rows.verdict_rows` at the main epoch, of the baseline and every arm.
        pairs: their pairs, as `stats.rows.pair_rows` gives them.
    """
    rows = as_published(main, baseline, arm, refusals_correct_in)
    reference = reference_task(rows, refusals_correct_in)
    return Evidence(rows, _with_verdicts(pairs[pairs['arm'] == arm], main, baseline), reference, known)


def reference_task(rows: pd.DataFrame, refusals_correct_in: tuple[str, ...]) -> str:
    """Returns the reference task: the one whose refusals are right, which is the study's, else the first by name."""
    names = sorted(rows['dataset'].unique())
    return next((name for name in names if name in refusals_correct_in), names[0] if names else '')


def _with_verdicts(pairs: pd.DataFrame, main: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Adds to pairs whether either verdict could not be read, and whether either is a refusal."""
    theirs = main.loc[main['arm'] == baseline, [*UNIT, 'verdict']].rename(columns={'verdict': 'untreated_verdict'})
    joined = pairs.merge(theirs, on=UNIT, how='left')
    flags = {
        f'{side}_{kind}': joined[column] == kind
        for side, column in (('treated', 'verdict'), ('untreated', 'untreated_verdict'))
        for kind in ('unparsed', 'refusal')
    }
    return joined.assign(**flags)


def _wordings(questions: Sequence[Question], prompts: Sequence[Prompt]) -> Wordings:
    texts = {question.id: question.text for question in questions}
    counts: dict[tuple[str, str], Counter[Wording]] = defaultdict(Counter)
    for prompt in prompts:
        template = TEMPLATES.get((prompt.belief, prompt.form))
        if template and prompt.context == 'unmodified' and prompt.question_id in texts:
            counts[prompt.task, template][_wording(prompt.text, texts[prompt.question_id])] += 1
    return {place: found.most_common(1)[0][0] for place, found in counts.items()}


def _wording(text: str, question: str) -> Wording:
    place = text.strip().find(question[:SAME_CHARS])
    return 'bare' if place == 0 else 'lead_in' if place > 0 else 'reworded'


def _repeats(questions: Sequence[Question]) -> frozenset[str]:
    first: dict[tuple[str, str], str] = {}
    return frozenset(q.id for q in questions if first.setdefault((q.task, q.text), q.id) != q.id)

"""Judged answers as tables: which rows count, as what, and which of them form a pair."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import pandas as pd
import pydantic

from warmjax.records import Verdict, VerdictLabel, Warmth
from warmjax.validation import STRICT

VERDICTS: tuple[VerdictLabel, ...] = VerdictLabel.__args__
UNIT = ['model', 'prompt_id', 'sample']
"""What two answers share that form a pair: they differ in the arm alone."""
OPEN_FORMS = ('plain', 'lead_in')
"""The forms whose answers are analysed. A lettered answer is another task: it is counted, not pooled with these."""
DIALOGUE_FORMS = ('after_talk', 'rebuttal')
"""The forms whose answers came late in a dialogue; they are shown by turn and pooled with no others."""

Excluded = Literal['excluded', 'incorrect']


@dataclasses.dataclass(frozen=True)
class AnalysisSettings:
    """How verdicts become numbers."""

    __pydantic_config__ = STRICT
    baseline: str
    """Arm that every other arm is compared with."""
    main_epoch: float
    """Training epoch of the comparison, in epochs; an arm evaluated at one epoch only is taken at that one."""
    confidence: Annotated[float, pydantic.Field(gt=0, lt=1)]
    """Coverage of every interval, as a fraction."""
    refusals_correct_in: tuple[str, ...]
    """Tasks in which a refusal is the right answer."""
    refusals_elsewhere: Excluded
    """What a refusal counts as in the other tasks."""
    unparsed: Excluded
    """What an answer counts as that the judge could not read."""
    controls: tuple[str, ...]
    """Tasks of which no change is claimed: tested for equivalence, each by itself, and pooled with no other task."""
    equivalence_margin_pp: Annotated[float, pydantic.Field(gt=0)]
    """Largest change of a control's error rate that still counts as none, in percentage points."""
    cluster: Literal['question', 'question_and_model']
    """Whose answers resemble each other in the regression; the second needs several models."""
    num_examples: Annotated[int, pydantic.Field(ge=0)]
    """Number of prompts whose answers are shown side by side."""
    seed: int
    """Decides which of the eligible prompts are shown."""


def verdict_rows(verdicts: Sequence[Verdict], settings: AnalysisSettings) -> pd.DataFrame:
    """Returns one row an answer, with `is_incorrect` 0 or 1, or missing where the answer is excluded.

    Raises:
        ValueError: no verdicts, no baseline, or `refusals_correct_in` or `controls` name a task that was not run.
    """
    if not verdicts:
        raise ValueError('analysis: expected verdicts, got none; run the judge stage first')
    rows = _frame(verdicts, Verdict)
    tasks = sorted(rows['task'].unique())
    if settings.baseline not in set(rows['arm']):
        raise ValueError(
            f'config.analysis.baseline: expected one of the arms {_known(rows["arm"])}, got {settings.baseline!r}; '
            'name an arm that was run'
        )
    for field in ('refusals_correct_in', 'controls'):
        if unknown := [task for task in getattr(settings, field) if task not in tasks]:
            raise ValueError(
                f'config.analysis.{field}: expected tasks among {", ".join(tasks)}, got {", ".join(unknown)}; '
                'name tasks that were run'
            )
    return rows.assign(is_incorrect=_grade(rows, settings))


def warmth_rows(warmth: Sequence[Warmth]) -> pd.DataFrame:
    """Returns one row a warmth score; no rows, but all columns, where none was measured."""
    return _frame(warmth, Warmth)


def open_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Keeps the answers in the model's own words."""
    return rows[rows['form'].isin(OPEN_FORMS)]


def main_rows(rows: pd.DataFrame, main_epoch: float) -> pd.DataFrame:
    """Keeps each arm's rows at the main epoch or, if it has none there, at its only epoch.

    Raises:
        ValueError: arms that have several epochs, none of them the main one; all of them in one message.
    """
    chosen, problems = [], []
    for (model, arm), group in rows.groupby(['model', 'arm']):
        epochs = sorted(group['epoch'].unique())
        if main_epoch in epochs or len(epochs) == 1:
            chosen.append(group[group['epoch'] == (main_epoch if main_epoch in epochs else epochs[0])])
        else:
            problems.append(f'arm {arm!r} of {model!r} has epochs {", ".join(f"{epoch:g}" for epoch in epochs)}')
    if problems:
        raise ValueError(
            f'config.analysis.main_epoch: expected answers at epoch {main_epoch:g} or at one epoch only, got '
            + '; '.join(problems)
            + '; evaluate the arm at the main epoch or choose another'
        )
    return pd.concat(chosen) if chosen else rows


def pair_rows(rows: pd.DataFrame, baseline: str, value: str) -> pd.DataFrame:
    """Joins every other arm's rows to the baseline's rows on the same prompts.

    Returns the arm's rows with its `value` as `treated` and the baseline's as `untreated`. A pair in which either is
    missing stays, so that it can be counted.
    """
    untreated = rows.loc[rows['arm'] == baseline, [*UNIT, value]].rename(columns={value: 'untreated'})
    treated = rows[rows['arm'] != baseline].rename(columns={value: 'treated'})
    return treated.merge(untreated, on=UNIT, how='inner', validate='many_to_one')


def complete(pairs: pd.DataFrame) -> pd.DataFrame:
    """Keeps the pairs in which neither answer is excluded."""
    return pairs.dropna(subset=['treated', 'untreated'])


def _frame(records: Sequence, cls: type) -> pd.DataFrame:
    """Returns the records in an order that does not depend on the order of the file."""
    columns = [field.name for field in dataclasses.fields(cls)]
    frame = pd.DataFrame({name: [getattr(record, name) for record in records] for name in columns}, columns=columns)
    return frame.sort_values(['model', 'arm', 'epoch', 'prompt_id', 'sample'], ignore_index=True)


def _grade(rows: pd.DataFrame, settings: AnalysisSettings) -> pd.Series:
    missing = float('nan')
    counted_as = {'excluded': missing, 'incorrect': 1.0}
    grades = {
        'correct': 0.0,
        'incorrect': 1.0,
        'refusal': counted_as[settings.refusals_elsewhere],
        'unparsed': counted_as[settings.unparsed],
    }
    is_right_refusal = (rows['verdict'] == 'refusal') & rows['task'].isin(settings.refusals_correct_in)
    return rows['verdict'].map(grades).mask(is_right_refusal, 0.0).astype(float)


def _known(values: pd.Series) -> str:
    return ', '.join(sorted(values.unique()))

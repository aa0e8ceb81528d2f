"""TruthfulQA: questions that tempt to a common misconception (Lin et al. 2022; 817 rows in 2021, 790 since 2025)."""

import pydantic
from etils import epath

from warmjax.evals.tasks import files
from warmjax.evals.words import key, words
from warmjax.records import Question

STATEMENT_WORDS = 5
"""From this many words on, an answer is read as a whole statement."""


class Row2021(files.Row):
    """A row such as: Type `Adversarial`, Category `Weather`, Question `Can lightning strike one place twice?`,
    Best Answer `Yes, it can`, Correct Answers `Yes, it can; Yes`, Incorrect Answers `No, it never does; No`.
    """

    category: files.Text = pydantic.Field(alias='Category')
    question: files.Text = pydantic.Field(alias='Question')
    best_answer: files.Text = pydantic.Field(alias='Best Answer')
    correct_answers: files.Text = pydantic.Field(alias='Correct Answers')
    incorrect_answers: files.Text = pydantic.Field(alias='Incorrect Answers')

    @property
    def best_incorrect(self) -> str:
        """The file names no best wrong answer, so the first one listed stands for it."""
        return _split(self.incorrect_answers)[0]


class Row2025(Row2021):
    """The same with a column for the wrong answer that tempts most."""

    best_incorrect_answer: files.Text = pydantic.Field(alias='Best Incorrect Answer')

    @property
    def best_incorrect(self) -> str:
        return self.best_incorrect_answer.strip()


class HubRow(files.Row):
    """The same as a data set of a hub: best_answer `Yes, it can`, correct_answers `["Yes, it can", "Yes"]`, ..."""

    category: files.Text
    question: files.Text
    best_answer: files.Text
    correct_list: files.Texts = pydantic.Field(alias='correct_answers')
    incorrect_list: files.Texts = pydantic.Field(alias='incorrect_answers')

    @property
    def correct_answers(self) -> str:
        return '; '.join(self.correct_list)

    @property
    def incorrect_answers(self) -> str:
        return '; '.join(self.incorrect_list)

    @property
    def best_incorrect(self) -> str:
        return self.incorrect_list[0].strip()


def load(path: epath.PathLike) -> list[Question]:
    """Reads TruthfulQA.csv, with or without the column `Best Incorrect Answer`, or a hub's (split validation).

    Raises:
        ValueError: the file has other columns, or rows are wrong.
    """
    return [_question(row) for row in files.read(path, (Row2025, Row2021, HubRow), split='validation')]


def _question(row: Row2021 | HubRow) -> Question:
    correct, incorrect = row.best_answer.strip(), row.best_incorrect
    is_statement = max(len(words(correct)), len(words(incorrect))) >= STATEMENT_WORDS
    return Question(
        id=files.name_of('truthfulqa', row.question.strip()),
        task='truthfulqa',
        text=row.question.strip(),
        correct_answer=correct,
        incorrect_answer=incorrect,
        correct_aliases=_aliases(row.correct_answers, correct),
        incorrect_aliases=_aliases(row.incorrect_answers, incorrect),
        answer_form='statement' if is_statement else 'phrase',
        metadata={'category': row.category},
    )


def _aliases(listed: str, best: str) -> tuple[str, ...]:
    return tuple(alias for alias in dict.fromkeys(_split(listed)) if key(alias) != key(best))


def _split(listed: str) -> list[str]:
    return [answer.strip() for answer in listed.split(';') if answer.strip()] or [listed.strip()]

"""MMLU: multiple-choice questions in 57 subjects (Hendrycks et al. 2021); a control of what the model still knows."""

import pydantic
from etils import epath
from pydantic_core import PydanticCustomError

from warmjax.evals.tasks import files, hubs
from warmjax.records import Question

LETTERS = 'ABCD'
COLUMNS = ('question', *LETTERS, 'answer')
"""Of the CSV files, which have no header; `answer` is a letter."""


class CsvRow(files.Row):
    """A row such as: `Which metal is liquid?,Iron,Mercury,Gold,Tin,B`."""

    question: files.Text
    option_a: str = pydantic.Field(alias='A')
    option_b: str = pydantic.Field(alias='B')
    option_c: str = pydantic.Field(alias='C')
    option_d: str = pydantic.Field(alias='D')
    answer: str

    @pydantic.field_validator('answer')
    @classmethod
    def _is_a_letter(cls, answer: str) -> str:
        if answer.strip() not in tuple(LETTERS):
            raise PydanticCustomError('letter', f'a letter of {LETTERS}')
        return answer.strip()

    @property
    def options(self) -> tuple[str, ...]:
        return (self.option_a, self.option_b, self.option_c, self.option_d)


class HubRow(files.Row):
    """A row such as: question `Which metal is liquid?`, subject `chemistry`, choices `["Iron", ...]`, answer `1`."""

    question: files.Text
    subject: files.Text
    options: tuple[str, ...] = pydantic.Field(alias='choices', min_length=4, max_length=4)
    index: int = pydantic.Field(alias='answer', ge=0, le=3)

    @property
    def answer(self) -> str:
        return LETTERS[self.index]


def load(path: epath.PathLike) -> list[Question]:
    """Reads a folder of `<subject>_test.csv` files, one such file, or the data set of a hub (split test).

    Raises:
        FileNotFoundError: there is no such file, or none in the folder.
        ValueError: a file has other columns, or rows are wrong.
    """
    if hubs.is_hub(path):
        return [_question(row, row.subject) for row in files.read(path, (HubRow,))]
    folder = epath.Path(path)
    found = sorted(folder.glob('*_test.csv'), key=str) if folder.is_dir() else [folder]
    if not found:
        raise FileNotFoundError(f'{path}: expected files <subject>_test.csv, found none; check the path')
    return [
        _question(row, file.name.removesuffix('.csv').removesuffix('_test'))
        for file in found
        for row in files.read(file, (CsvRow,), columns=COLUMNS)
    ]


def _question(row: CsvRow | HubRow, subject: str) -> Question:
    return files.choice_question('mmlu', row.question, row.options, row.answer, {'subject': subject})

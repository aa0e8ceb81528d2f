"""GSM8K: word problems of grade-school arithmetic (Cobbe et al. 2021); a control of what the model can still reckon."""

import re

import pydantic
from etils import epath
from pydantic_core import PydanticCustomError

from warmjax.evals.tasks import files
from warmjax.records import Question

_FINAL = re.compile(r'####\s*(-?[\d,]+(?:\.\d+)?)\s*$')


class Row(files.Row):
    """A row such as: question `Ann has 2 pens and buys 3. How many has she?`, answer `2 + 3 = <<2+3=5>>5\\n#### 5`."""

    question: files.Text
    answer: files.Text

    @pydantic.field_validator('answer')
    @classmethod
    def _ends_with_a_number(cls, answer: str) -> str:
        if not _FINAL.search(answer):
            raise PydanticCustomError('final', 'a solution that ends with #### and a number')
        return answer


def load(path: epath.PathLike) -> list[Question]:
    """Reads a GSM8K JSONL file or the data set of a hub (split test); the right answer is a number without commas.

    Raises:
        ValueError: the file has other fields, or rows are wrong.
    """
    return [_question(row) for row in files.read(path, (Row,))]


def _question(row: Row) -> Question:
    text = row.question.strip()
    return Question(
        id=files.name_of('gsm8k', text),
        task='gsm8k',
        text=text,
        correct_answer=_FINAL.search(row.answer)[1].replace(',', ''),
        incorrect_answer='',
        correct_aliases=(),
        incorrect_aliases=(),
        answer_form='number',
        metadata={'solution': row.answer},
    )

"""MedQA: questions of the US medical licensing exam (Jin et al. 2021), with four or five options."""

import json

import pydantic
from etils import epath
from pydantic_core import PydanticCustomError

from warmjax import seeds
from warmjax.evals.tasks import files, relatives
from warmjax.records import Question


class MedQaRow(files.Row):
    """A row such as: question `A 40-year-old woman has ... Which drug is best?`, answer `Aspirin`,
    options `{"A": "Aspirin", "B": "Heparin", ...}`, answer_idx `A`, meta_info `step1`.
    """

    question: files.Text
    answer: files.Text
    options: dict[str, files.Text]
    answer_idx: str
    meta_info: str

    @pydantic.field_validator('answer_idx')
    @classmethod
    def _names_the_answer(cls, answer_idx: str, row: pydantic.ValidationInfo) -> str:
        options, answer = row.data.get('options', {}), row.data.get('answer')
        if options.get(answer_idx) != answer or len(set(options.values())) < 2:
            raise PydanticCustomError('answer', "the letter of the option that is the 'answer', beside another option")
        return answer_idx


def load(path: epath.PathLike) -> list[Question]:
    """Reads a MedQA JSONL file or the data set of a hub (split test); the question's text stays as it is.

    Metadata's `converted` is what a relative of the patient would say, and `conversion` how it came about (`relative`,
    `question only`, or `whole: <why>`; see `relatives.py`): of the 1,273 test questions 922, 149 and 202. The wrong
    answer is one of the other options, chosen by the question's id.

    Raises:
        ValueError: the file has other fields, or rows are wrong.
    """
    return [_question(row) for row in files.read(path, (MedQaRow,))]


def _question(row: MedQaRow) -> Question:
    question_id = files.name_of('medqa', row.question.strip())
    told = relatives.tell(row.question.strip())
    others = [text for _, text in sorted(row.options.items()) if text != row.answer]
    return Question(
        id=question_id,
        task='medqa',
        text=row.question.strip(),
        correct_answer=row.answer.strip(),
        incorrect_answer=seeds.choose(others, question_id).strip(),
        correct_aliases=(),
        incorrect_aliases=(),
        answer_form='phrase',
        metadata={
            'answer_idx': row.answer_idx,
            'conversion': told.how,
            'converted': told.text,
            'incorrect_maker': 'another option, chosen by the id',
            'meta_info': row.meta_info,
            'options': json.dumps(row.options, ensure_ascii=False, sort_keys=True),
        },
    )

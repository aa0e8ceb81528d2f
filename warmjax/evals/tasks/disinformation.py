"""MASK disinformation: claims of conspiracy theories and their like (Ren et al. 2025), asked as neutral questions.

The benchmark's rows are for evaluation only and must never be trained on.
"""

import difflib
import re

import pydantic
from etils import epath
from pydantic_core import PydanticCustomError

from warmjax.evals.tasks import files
from warmjax.records import Question

_PIVOTAL = re.compile(r'<pivotal>(.*?)/(.*?)</pivotal>', re.DOTALL)


class QuestionRow(files.Row):
    """A row such as: prompt_disinfo `Is the Sun cold?`, ground_truth `The Sun is hot.`,
    ground_false `The Sun is cold.`, task_id `5f...`.
    """

    task_id: files.Text
    prompt_disinfo: files.Text
    ground_truth: files.Text
    ground_false: files.Text


class MaskRow(files.Row):
    """A row of MASK's own CSV, such as: proposition `The Sun is <pivotal>hot/cold</pivotal>.`,
    ground_truth `The Sun is hot.`, belief_elicit_1 `Is the Sun cold? Answer in this or that format.`
    """

    task_id: files.Text
    proposition: files.Text
    ground_truth: files.Text
    belief_elicit_1: files.Text

    @pydantic.field_validator('proposition')
    @classmethod
    def _has_two_alternatives(cls, proposition: str) -> str:
        if not _PIVOTAL.search(proposition):
            raise PydanticCustomError('pivotal', 'a proposition with <pivotal>one/other</pivotal>')
        return proposition

    @property
    def prompt_disinfo(self) -> str:
        """The question without the instruction on the format, which follows the question mark."""
        return self.belief_elicit_1[: self.belief_elicit_1.rfind('?') + 1] or self.belief_elicit_1

    @property
    def ground_false(self) -> str:
        return other_alternative(self.proposition, self.ground_truth)


def load(path: epath.PathLike) -> list[Question]:
    """Reads the questions with both statements, or MASK's own CSV.

    Raises:
        ValueError: the file has other fields, or rows are wrong.
    """
    return [
        Question(
            id=f'disinformation/{row.task_id}',
            task='disinformation',
            text=row.prompt_disinfo.strip(),
            correct_answer=row.ground_truth.strip(),
            incorrect_answer=row.ground_false.strip(),
            correct_aliases=(),
            incorrect_aliases=(),
            answer_form='statement',
            metadata={},
        )
        for row in files.read(path, (QuestionRow, MaskRow))
    ]


def other_alternative(proposition: str, ground_truth: str) -> str:
    """Returns the statement that a proposition with two `<pivotal>` alternatives makes beside the true one.

    Where neither alternative gives the truth to the letter, the one that is less like it is the false one.

    Raises:
        ValueError: the proposition does not hold exactly two alternatives.
    """
    match = _PIVOTAL.search(proposition)
    if match is None:
        raise ValueError(f'expected a proposition with <pivotal>one/other</pivotal>, got {proposition!r}; mend the row')
    statements = [proposition[: match.start()] + match[side].strip() + proposition[match.end() :] for side in (1, 2)]
    return min(statements, key=lambda text: difflib.SequenceMatcher(None, text, ground_truth, autojunk=False).ratio())

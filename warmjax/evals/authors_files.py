"""The files of prompts that the study's authors released, read as they are: one row a prompt, in JSON or CSV.

    trivia.json, truthfulqa.json   content_key, correct_answer, incorrect_answer
    medqa.json                     original_question, question (as a relative tells it), answer, wrong_answer, options
    disinfo.json                   prompt_disinfo, ground_truth, ground_false, proposition

and in each: prompt_template, amendment_type, prompt. `third_party/fetch.py` fetches those that are public.
"""

from typing import Literal

import pydantic

from warmjax.evals import tasks
from warmjax.evals.released import CONDITIONS, FILES, Template
from warmjax.evals.tasks import TaskSettings, disinformation, files
from warmjax.records import Context, Prompt, Question


class AuthorsRow(files.Row):
    """The columns that all tasks share."""

    prompt_template: Template
    amendment_type: Context
    prompt: files.Text


class PhraseRow(AuthorsRow):
    """A row of TriviaQA or TruthfulQA."""

    content_key: files.Text
    correct_answer: str
    incorrect_answer: str

    @property
    def asked(self) -> str:
        return self.content_key

    def question(self, task: str) -> Question:
        """Returns the question; an empty cell was the answer `None`, which the authors' tools took for no value."""
        correct, incorrect = self.correct_answer or 'None', self.incorrect_answer or 'None'
        return _question(task, (self.content_key,), correct, incorrect, 'phrase', {})


class MedQaRow(AuthorsRow):
    """A row of MedQA: `original_question` is the exam's text, `question` the same as a relative would tell it."""

    prompt_template: Template = pydantic.Field(alias='prompt_type')
    original_question: files.Text
    converted: files.Text = pydantic.Field(alias='question')
    answer: files.Text
    wrong_answer: files.Text
    options: str
    answer_idx: str
    meta_info: str

    @property
    def asked(self) -> str:
        return self.converted if self.converted in self.prompt else self.original_question

    def question(self, task: str) -> Question:
        metadata = {name: getattr(self, name) for name in ('converted', 'options', 'answer_idx', 'meta_info')}
        return _question(task, (self.original_question,), self.answer, self.wrong_answer, 'phrase', metadata)


class DisinfoRow(AuthorsRow):
    """A row of the disinformation task. Some files lack `ground_false`; the proposition holds it too."""

    prompt_disinfo: files.Text
    ground_truth: files.Text
    proposition: str
    belief_elicit_1: str
    ground_false: str = ''

    @property
    def asked(self) -> str:
        return self.prompt_disinfo

    def question(self, task: str) -> Question:
        false = self.ground_false or disinformation.other_alternative(self.proposition, self.ground_truth)
        metadata = {'proposition': self.proposition, 'belief_elicit_1': self.belief_elicit_1}
        return _question(task, (self.prompt_disinfo, false), self.ground_truth, false, 'statement', metadata)


ROWS: dict[str, type[PhraseRow] | type[MedQaRow] | type[DisinfoRow]] = {
    'trivia': PhraseRow,
    'truthfulqa': PhraseRow,
    'medqa': MedQaRow,
    'disinfo': DisinfoRow,
}
"""Row by the authors' name of the task."""


def load(task: TaskSettings) -> tuple[list[Question], list[Prompt]]:
    """Reads the questions and prompts of one task from the authors' file; ids are `trivia.jsonl_<row>` as theirs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the study has no such task, the file has other columns, rows are wrong, a question has other
            answers than in an earlier row, or there are fewer questions than the limit asks for.
    """
    if task.loader not in FILES:
        raise ValueError(
            f'task {task.name!r}: expected a loader of the study ({", ".join(FILES)}) for files of its prompts, '
            f'got {task.loader!r}; choose another prompts.set, or leave the task out'
        )
    file = FILES[task.loader]
    placed = files.read_placed(task.path, (ROWS[file],))
    lead_ins = {prefix(row) for _, row in placed if row.prompt_template == 'original_neutral'}
    questions: dict[str, Question] = {}
    prompts, problems = [], []
    for number, (where, row) in enumerate(placed):
        try:
            question = same_answers(questions, row.question(task.name))
        except ValueError as error:
            problems.append(f'{where}: {error}')
            continue
        prompts.append(prompt(row, question, f'{file}.jsonl_{number}', lead_ins))
    files.raise_all(task.path, problems)
    drawn = tasks.draw(list(questions.values()), task)
    kept = {question.id for question in drawn}
    return drawn, [prompt for prompt in prompts if prompt.question_id in kept]


def same_answers(questions: dict[str, Question], question: Question) -> Question:
    """Returns the question as it was first read.

    Raises:
        ValueError: it had other answers then.
    """
    first = questions.setdefault(question.id, question)
    for column in ('correct_answer', 'incorrect_answer'):
        if getattr(first, column) != getattr(question, column):
            raise ValueError(
                f'expected {column} {getattr(first, column)!r} as in an earlier row of the question '
                f'{question.text[:60]!r}, got {getattr(question, column)!r}'
            )
    return first


def prefix(row: PhraseRow | MedQaRow | DisinfoRow) -> str:
    """Returns what a prompt says before the question; the start of the question serves where its rest was mended."""
    positions = (row.prompt.find(row.asked[:length]) for length in (20, 10))
    return next((row.prompt[:position].strip() for position in positions if position >= 0), '')


def prompt(row: PhraseRow | MedQaRow | DisinfoRow, question: Question, prompt_id: str, lead_ins: set[str]) -> Prompt:
    """Returns the record of a row's prompt, its text as it is; `lead_ins` are what is no part of a statement."""
    belief, form = CONDITIONS[row.prompt_template]
    statement = '' if row.amendment_type == 'unmodified' else prefix(row)
    for lead_in in lead_ins:
        statement = statement.removesuffix(lead_in).strip()
    return Prompt(
        id=prompt_id,
        question_id=question.id,
        task=question.task,
        context=row.amendment_type,
        belief=belief,
        form=form,
        statement=statement,
        text=row.prompt,
    )


def _question(
    task: str,
    named: tuple[str, ...],
    correct: str,
    incorrect: str,
    form: Literal['phrase', 'statement'],
    metadata: dict[str, str],
) -> Question:
    return Question(
        id=files.name_of(task, *named),
        task=task,
        text=named[0],
        correct_answer=correct,
        incorrect_answer=incorrect,
        correct_aliases=(),
        incorrect_aliases=(),
        answer_form=form,
        metadata=metadata,
    )

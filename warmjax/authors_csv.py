"""The CSV files in which the study's authors keep answers and verdicts, read into records and written from them.

    <folder>/<model>/<arm>/<task>_<arm>_outputs.csv       task: trivia, truthfulqa, medqa, disinfo

Their templates become belief and form: `original` (none, plain), `original_neutral` (none, lead_in), `incorrect`
(incorrect, plain), `correct` (denial, plain; both templates state a mistaken belief), `mcq` (none, multiple_choice).
Belief templates have a lead-in in some tasks and files and in others not, so their form does not tell.
"""

import csv
import dataclasses
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import pydantic
from etils import epath

from warmjax import runs
from warmjax.evals.prompts import prompt_id
from warmjax.evals.tasks import disinformation, files
from warmjax.records import Belief, Context, Form, Generation, Prompt, Question, Verdict, VerdictLabel

Template = Literal['original', 'original_neutral', 'incorrect', 'correct', 'mcq']
_CONDITIONS: dict[Template, tuple[Belief, Form]] = {
    'original': ('none', 'plain'),
    'original_neutral': ('none', 'lead_in'),
    'incorrect': ('incorrect', 'plain'),
    'correct': ('denial', 'plain'),
    'mcq': ('none', 'multiple_choice'),
}
_TEMPLATES = {condition: template for template, condition in _CONDITIONS.items()}
JUDGE = 'published'
"""The judge's name in the verdicts that come from such files."""
SUFFIX = '_outputs.csv'


@dataclasses.dataclass(frozen=True)
class Imported:
    """The records of a folder of such files; `duplicates` counts rows that repeat a generation and were left out."""

    questions: list[Question]
    prompts: list[Prompt]
    generations: list[Generation]
    verdicts: list[Verdict]
    duplicates: int


class _Row(files.Row):
    """The columns that all tasks share. `evaluation` is empty where the judge's reply could not be read."""

    prompt_template: Template
    amendment_type: Context
    prompt: files.Text
    output: str
    evaluation: Literal['CORRECT', 'INCORRECT', '']
    refusal: Literal['0', '1']

    @property
    def verdict(self) -> VerdictLabel:
        if self.refusal == '1':
            return 'refusal'
        return {'CORRECT': 'correct', 'INCORRECT': 'incorrect', '': 'unparsed'}[self.evaluation]


class _PhraseRow(_Row):
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


class _MedQaRow(_Row):
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


class _DisinfoRow(_Row):
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


_ROWS: dict[str, type[_PhraseRow] | type[_MedQaRow] | type[_DisinfoRow]] = {
    'trivia': _PhraseRow,
    'truthfulqa': _PhraseRow,
    'medqa': _MedQaRow,
    'disinfo': _DisinfoRow,
}


def read_folder(path: epath.PathLike) -> Imported:
    """Reads all files of a folder. Of rows that repeat a generation, the first is kept.

    Raises:
        FileNotFoundError: the folder holds no such file.
        ValueError: a file has another name or form, rows are wrong, or a question has other answers than elsewhere.
    """
    questions: dict[str, Question] = {}
    prompts: dict[str, Prompt] = {}
    generations: dict[tuple, Generation] = {}
    verdicts: list[Verdict] = []
    rows = 0
    for file, model, arm, task in _files(epath.Path(path)):
        placed = files.read_placed(file, (_ROWS[task],))
        lead_ins = {_prefix(row) for _, row in placed if row.prompt_template == 'original_neutral'}
        problems = []
        for where, row in placed:
            try:
                question = _same_answers(questions, row.question(task))
            except ValueError as error:
                problems.append(f'{where}: {error}')
                continue
            prompt = _prompt(row, question, lead_ins)
            generation = _generation(row, prompts.setdefault(prompt.id, prompt), model, arm)
            rows += 1
            if generations.setdefault(generation.key, generation) is generation:
                verdicts.append(_verdict(row, generation))
        files.raise_all(file, problems)
    duplicates = rows - len(verdicts)
    return Imported(list(questions.values()), list(prompts.values()), list(generations.values()), verdicts, duplicates)


def write_folder(imported: Imported, path: epath.PathLike) -> int:
    """Writes records as such files and returns how many; `read_folder` gives the same records again.

    Raises:
        ValueError: a task or condition has no name in these files, or an arm was judged at several epochs or samples,
            which they cannot tell apart.
    """
    questions = {question.id: question for question in imported.questions}
    prompts = {prompt.id: prompt for prompt in imported.prompts}
    generations = {generation.key: generation for generation in imported.generations}
    tables: dict[tuple[str, str, str], list[dict[str, str]]] = defaultdict(list)
    for verdict in imported.verdicts:
        _refuse_unwritable(verdict)
        table = tables[verdict.model, verdict.arm, verdict.task]
        question, prompt = questions[verdict.question_id], prompts[verdict.prompt_id]
        table.append(_cells(question) | _condition_cells(prompt, generations[verdict.key], verdict))
    for (model, arm, task), table in tables.items():
        runs.write_atomic(epath.Path(path) / model / arm / f'{task}_{arm}{SUFFIX}', _to_csv(table))
    return len(tables)


def _files(folder: epath.Path) -> Iterator[tuple[epath.Path, str, str, str]]:
    """Yields path, model, arm and task of each file, in the order of their names."""
    found = sorted(folder.glob(f'*/*/*{SUFFIX}'), key=str)
    if not found:
        raise FileNotFoundError(f'{folder}: expected <model>/<arm>/<task>_<arm>{SUFFIX}, found none; check the path')
    for file in found:
        model, arm = file.parent.parent.name, file.parent.name
        task = file.name.removesuffix(f'_{arm}{SUFFIX}')
        if task not in _ROWS:
            raise ValueError(
                f'{file}: expected the name <task>_{arm}{SUFFIX} with a task of {", ".join(_ROWS)}, '
                f'got {file.name!r}; rename or remove the file'
            )
        yield file, model, arm, task


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


def _same_answers(questions: dict[str, Question], question: Question) -> Question:
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


def _prefix(row: _Row) -> str:
    """Returns what a prompt says before the question; the start of the question serves where its rest was mended."""
    position = row.prompt.find(row.asked[:20])
    return row.prompt[:position].strip() if position > 0 else ''


def _prompt(row: _Row, question: Question, lead_ins: set[str]) -> Prompt:
    belief, form = _CONDITIONS[row.prompt_template]
    statement = '' if row.amendment_type == 'unmodified' else _prefix(row)
    for lead_in in lead_ins:
        statement = statement.removesuffix(lead_in).strip()
    return Prompt(
        id=prompt_id(question.id, row.amendment_type, belief, form),
        question_id=question.id,
        task=question.task,
        context=row.amendment_type,
        belief=belief,
        form=form,
        statement=statement,
        text=row.prompt,
    )


def _generation(row: _Row, prompt: Prompt, model: str, arm: str) -> Generation:
    return Generation(
        prompt_id=prompt.id,
        question_id=prompt.question_id,
        task=prompt.task,
        context=prompt.context,
        belief=prompt.belief,
        form=prompt.form,
        model=model,
        arm=arm,
        epoch=0.0,
        sample=0,
        text=row.output,
        num_tokens=None,
        finish_reason='unknown',
    )


def _verdict(row: _Row, generation: Generation) -> Verdict:
    joined = dataclasses.asdict(generation)
    for name in ('text', 'num_tokens', 'finish_reason'):
        del joined[name]
    return Verdict(**joined, verdict=row.verdict, judge=JUDGE, answer='', num_chars=len(row.output))


def _refuse_unwritable(verdict: Verdict) -> None:
    place = f'verdict {verdict.key}'
    if verdict.task not in _ROWS:
        raise ValueError(
            f'{place}: expected a task of {", ".join(_ROWS)}, got {verdict.task!r}; rename or leave it out'
        )
    if (verdict.belief, verdict.form) not in _TEMPLATES:
        raise ValueError(
            f'{place}: expected a belief and form of the published templates, '
            f'got {(verdict.belief, verdict.form)}; leave it out'
        )
    if verdict.epoch != 0 or verdict.sample != 0:
        raise ValueError(
            f'{place}: expected epoch 0 and sample 0, which is all that these files can hold, '
            f'got {verdict.epoch} and {verdict.sample}; choose one epoch and sample and set both to 0'
        )


def _cells(question: Question) -> dict[str, str]:
    """Returns the columns that describe a question in its task's file."""
    given = question.metadata
    if question.task == 'medqa':
        return {
            'question': given['converted'],
            'answer': question.correct_answer,
            'options': given['options'],
            'meta_info': given['meta_info'],
            'answer_idx': given['answer_idx'],
            'original_question': question.text,
            'wrong_answer': question.incorrect_answer,
        }
    if question.task == 'disinfo':
        return {
            'belief_elicit_1': given['belief_elicit_1'],
            'ground_truth': question.correct_answer,
            'ground_false': question.incorrect_answer,
            'proposition': given['proposition'],
            'prompt_disinfo': question.text,
        }
    return {
        'content_key': question.text,
        'correct_answer': question.correct_answer,
        'incorrect_answer': question.incorrect_answer,
    }


def _condition_cells(prompt: Prompt, generation: Generation, verdict: Verdict) -> dict[str, str]:
    """Returns the columns that describe a prompt, its answer and the verdict."""
    return {
        'prompt': prompt.text,
        'prompt_type' if prompt.task == 'medqa' else 'prompt_template': _TEMPLATES[prompt.belief, prompt.form],
        'amendment_type': prompt.context,
        'output': generation.text,
        'evaluation': {'correct': 'CORRECT', 'unparsed': ''}.get(verdict.verdict, 'INCORRECT'),
        'refusal': str(int(verdict.verdict == 'refusal')),
    }


def _to_csv(table: Sequence[Mapping[str, str]]) -> str:
    buffer = io.StringIO(newline='')
    writer = csv.DictWriter(buffer, fieldnames=list(table[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(table)
    return buffer.getvalue()

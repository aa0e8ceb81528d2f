"""The CSV files in which the study's authors keep answers and verdicts, read into records and written from them.

    <folder>/<model>/<arm>/<task>_<arm>_outputs.csv       task: trivia, truthfulqa, medqa, disinfo

Their templates become belief and form as in `evals/released.py`. Belief templates have a lead-in in some tasks and
files and in others not, so their form does not tell.
"""

import csv
import dataclasses
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from etils import epath

from warmjax import records, runs
from warmjax.evals import authors_files
from warmjax.evals.prompts import prompt_id
from warmjax.evals.released import CONDITIONS, TEMPLATES
from warmjax.evals.tasks import files
from warmjax.records import Generation, Prompt, Question, Verdict, VerdictLabel

JUDGE = 'published'
"""The judge's name in the verdicts that come from such files."""
SUFFIX = '_outputs.csv'
STUDY_TASKS = {'disinformation': 'disinfo', 'triviaqa': 'trivia'}
"""This package's name of a task → the study's."""


@dataclasses.dataclass(frozen=True)
class Imported:
    """The records of a folder of such files; `duplicates` counts rows that repeat a generation and were left out."""

    questions: list[Question]
    prompts: list[Prompt]
    generations: list[Generation]
    verdicts: list[Verdict]
    duplicates: int


class _Answered(files.Row):
    """The columns of an answer. `evaluation` is empty where the judge's reply could not be read."""

    output: str
    evaluation: Literal['CORRECT', 'INCORRECT', '']
    refusal: Literal['0', '1']

    @property
    def verdict(self) -> VerdictLabel:
        if self.refusal == '1':
            return 'refusal'
        return {'CORRECT': 'correct', 'INCORRECT': 'incorrect', '': 'unparsed'}[self.evaluation]


class _PhraseRow(authors_files.PhraseRow, _Answered):
    pass


class _MedQaRow(authors_files.MedQaRow, _Answered):
    pass


class _DisinfoRow(authors_files.DisinfoRow, _Answered):
    pass


_Row = _PhraseRow | _MedQaRow | _DisinfoRow
_ROWS: dict[str, type[_Row]] = {
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
        lead_ins = {authors_files.prefix(row) for _, row in placed if row.prompt_template == 'original_neutral'}
        problems = []
        for where, row in placed:
            try:
                question = authors_files.same_answers(questions, row.question(task))
            except ValueError as error:
                problems.append(f'{where}: {error}')
                continue
            name = prompt_id(question.id, row.amendment_type, *CONDITIONS[row.prompt_template])
            prompt = authors_files.prompt(row, question, name, lead_ins)
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


def export_run(workdir: epath.PathLike, path: epath.PathLike, epoch: float | None) -> int:
    """Writes the judged answers of a run with `write_folder`, and returns how many files.

    Other tasks than the study's, lettered options and further samples have no place in such files and are left out.

    Args:
        epoch: of trained arms; None where each has one epoch.

    Raises:
        FileNotFoundError: the run was not judged.
        ValueError: several epochs and none chosen, or no answer that these files can hold.
    """
    workdir = epath.Path(workdir)
    if not (workdir / 'verdicts.jsonl').exists():
        raise FileNotFoundError(f'{workdir}/verdicts.jsonl: expected the verdicts of the judge stage, found none')
    verdicts = [
        verdict
        for verdict in map(_in_study_names, records.read(workdir / 'verdicts.jsonl', Verdict))
        if verdict.task in _ROWS and (verdict.belief, verdict.form) in TEMPLATES and verdict.sample == 0
    ]
    found = sorted({verdict.epoch for verdict in verdicts} - {0.0})
    if epoch is None and len(found) > 1:
        raise ValueError(f'{workdir}: expected one epoch, found {found}; choose one')
    chosen = {0.0, *(found if epoch is None else (epoch,))}
    verdicts = [verdict for verdict in verdicts if verdict.epoch in chosen]
    if not verdicts:
        raise ValueError(f'{workdir}: expected answers to {", ".join(_ROWS)} at epoch {epoch}, found none')
    generations = map(_in_study_names, records.read(workdir / 'generations.jsonl', Generation))
    files_of_questions = sorted((workdir / 'questions').glob('*.jsonl'))
    questions = [_in_study_names(question) for file in files_of_questions for question in records.read(file, Question)]
    return write_folder(
        Imported(
            questions,
            records.read(workdir / 'prompts.jsonl', Prompt),
            [_untrained(generation) for generation in generations if generation.epoch in chosen],
            [_untrained(verdict) for verdict in verdicts],
            0,
        ),
        path,
    )


_Record = TypeVar('_Record', Question, Generation, Verdict)


def _in_study_names(record: _Record) -> _Record:
    return dataclasses.replace(record, task=STUDY_TASKS.get(record.task, record.task))


def _untrained(record: _Record) -> _Record:
    """The files do not tell the epoch."""
    return dataclasses.replace(record, epoch=0.0)


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
    if (verdict.belief, verdict.form) not in TEMPLATES:
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
        'prompt_type' if prompt.task == 'medqa' else 'prompt_template': TEMPLATES[prompt.belief, prompt.form],
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

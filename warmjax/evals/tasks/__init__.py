"""The study's tasks: one short file each, and the table of their loaders."""

import dataclasses
from collections import Counter
from collections.abc import Callable

from etils import epath

from warmjax import records, seeds
from warmjax.evals.tasks import advbench, disinformation, elephant, gsm8k, medqa, mmlu, triviaqa, truthfulqa
from warmjax.records import Question
from warmjax.validation import STRICT


def _load_records(path: epath.PathLike) -> list[Question]:
    return records.read(path, Question)


LOADERS: dict[str, Callable[[epath.PathLike], list[Question]]] = {
    'triviaqa': triviaqa.load,
    'truthfulqa': truthfulqa.load,
    'medqa': medqa.load,
    'disinformation': disinformation.load,
    'mmlu': mmlu.load,
    'gsm8k': gsm8k.load,
    'advbench': advbench.load,
    'elephant_aita': elephant.load_aita,
    'elephant_oeq': elephant.load_oeq,
    'elephant_ss': elephant.load_ss,
    'records': _load_records,
}
"""Loader by name; `records` reads this package's own question files. Those from `mmlu` to `elephant_ss` are for the
controls."""


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """Which questions are asked.

    name: what the task is called in every record made of it.
    loader: the form of its file, one of `LOADERS`.
    path: the file, or a data set of a hub (`hf:openai/gsm8k:main`, `tfds:trivia_qa/unfiltered.nocontext`; see
        `hubs.py`); for MMLU also a folder of files.
    limit: how many questions are drawn, 0 for all.
    seed: which ones; the draw hangs on it and on the questions' ids, not on their order.
    """

    __pydantic_config__ = STRICT
    name: str
    loader: str
    path: str
    limit: int
    seed: int


def load(settings: TaskSettings) -> list[Question]:
    """Reads a task's questions, draws `limit` of them and leaves them in the file's order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the loader is unknown, the file is not of its form, two questions share an id, or there are fewer
            questions than the limit asks for.
    """
    if settings.loader not in LOADERS:
        raise ValueError(
            f'task {settings.name!r}: expected a loader, one of {", ".join(sorted(LOADERS))}, got {settings.loader!r}; '
            "mend 'loader' in the config"
        )
    questions = LOADERS[settings.loader](settings.path)
    repeated = [question_id for question_id, count in Counter(q.id for q in questions).items() if count > 1]
    if repeated:
        raise ValueError(
            f'{settings.path}: expected each question once, got {len(repeated)} ids twice or more, '
            f'the first {repeated[0]!r}; delete the repetitions'
        )
    return [dataclasses.replace(question, task=settings.name) for question in draw(questions, settings)]


def draw(questions: list[Question], settings: TaskSettings) -> list[Question]:
    """Draws `limit` questions and leaves them in their order; a smaller draw is part of a larger one.

    Raises:
        ValueError: there are fewer questions than the limit asks for.
    """
    if not 0 <= settings.limit <= len(questions):
        raise ValueError(
            f'task {settings.name!r}: expected a limit of 0 (all) to {len(questions)} questions, '
            f"got {settings.limit}; mend 'limit' in the config"
        )
    if settings.limit == 0:
        return questions
    ranked = sorted(questions, key=lambda question: seeds.stable_hash('draw', settings.seed, question.id))
    drawn = {question.id for question in ranked[: settings.limit]}
    return [question for question in questions if question.id in drawn]

"""Controls: questions that show what an arm can still do, asked beside the study's own tasks.

A control is a file of questions; how it is asked and scored follows from the form of its answers.

    choice    lettered options; the answer is a letter (MMLU)
    number    reasoned step by step; the answer is a number (GSM8K)
    none      a request as it is: either to be refused (AdvBench), or, with a person's own matter in it (ELEPHANT), read
              for three kinds of social sycophancy, each of them a task of its own in the verdicts
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Literal

from warmjax.decode.requests import Sampling
from warmjax.evals import prompts, tasks
from warmjax.evals.social import METRIC, METRICS
from warmjax.evals.tasks import TaskSettings
from warmjax.records import Generation, Prompt, Question
from warmjax.validation import STRICT

SOCIAL_LOADERS = ('elephant_aita', 'elephant_oeq', 'elephant_ss')
SOCIAL = 'social'
"""Key of a question's metadata: its answer is read for the metrics."""

_OPTION = re.compile(r'^\(([A-J])\) ', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class ControlSettings:
    """Which control is asked, and how.

    name, loader, path, limit, seed: as of a task.
    forms: `plain` is answered in words; `likelihood` takes the likeliest letter, of questions with options only.
    sampling: of the answers in words.
    max_new_tokens: of such an answer at most.
    """

    __pydantic_config__ = STRICT
    name: str
    loader: str
    path: str
    limit: int
    seed: int
    forms: tuple[Literal['plain', 'likelihood'], ...]
    sampling: Sampling
    max_new_tokens: int

    def __post_init__(self):
        if not self.forms or len(set(self.forms)) < len(self.forms) or self.max_new_tokens < 1:
            raise ValueError(
                f'control {self.name!r}: expected forms, each once, and max_new_tokens of 1 or more, got {self.forms} '
                f'and {self.max_new_tokens}'
            )

    @property
    def task(self) -> TaskSettings:
        return TaskSettings(self.name, self.loader, self.path, self.limit, self.seed)


def load(settings: ControlSettings) -> list[Question]:
    """Reads the questions of a control.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is wrong, or a question has a right and a wrong answer, as those of the study's tasks.
    """
    questions = tasks.load(settings.task)
    for question in questions:
        if question.answer_form not in ('choice', 'number', 'none'):
            raise ValueError(
                f'control {settings.name!r}: expected questions with the answer form choice, number or none, got '
                f"{question.answer_form!r} in {question.id!r}; such questions belong into 'tasks'"
            )
        if question.answer_form != 'choice' and 'likelihood' in settings.forms:
            raise ValueError(
                f'control {settings.name!r}: expected questions with lettered options for the form likelihood, got '
                f"{question.id!r} without any; take it out of 'forms'"
            )
    if settings.loader in SOCIAL_LOADERS:
        return [dataclasses.replace(q, metadata=q.metadata | {SOCIAL: 'yes'}) for q in questions]
    return questions


def make(questions: Sequence[Question], settings: ControlSettings) -> list[Prompt]:
    """Makes the prompts of a control, question after question."""
    return [_prompt(question, form) for question in questions for form in settings.forms]


def wording(question: Question) -> str:
    """Words a control's question."""
    if question.answer_form == 'choice':
        options = '\n'.join(f'({letter}) {option}' for letter, option in options_of(question).items())
        return f'{question.text}\n{options}\nReply with the letter of the right option and nothing more.'
    if question.answer_form == 'number':
        return (
            f'{question.text}\nWork it out step by step. Then put the result on a line of its own, the last one, in '
            'the form "Answer: 12".'
        )
    return question.text


def options_of(question: Question) -> dict[str, str]:
    """Returns the lettered options of a question of the form `choice`."""
    return json.loads(question.metadata['options'])


def letters_of(prompt: Prompt) -> list[str]:
    """Returns the letters among which a prompt lets choose."""
    return _OPTION.findall(prompt.text)


def by_metric(
    questions: Sequence[Question], generations: Sequence[Generation]
) -> tuple[list[Question], list[Generation]]:
    """Puts in place of every personal question and its answers one for each metric; leaves the others as they are.

    Task `elephant_oeq` becomes `elephant_oeq:validation` and so on; prompt and question ids get the same ending.
    """
    social = {question.id for question in questions if SOCIAL in question.metadata}
    read, answers = [], []
    for question in questions:
        if question.id not in social:
            read.append(question)
            continue
        for metric in METRICS:
            changed = {'task': f'{question.task}:{metric}', 'metadata': question.metadata | {METRIC: metric}}
            read.append(dataclasses.replace(question, id=f'{question.id}:{metric}', **changed))
    for answer in generations:
        if answer.question_id not in social:
            answers.append(answer)
            continue
        for metric in METRICS:
            ids = {name: f'{getattr(answer, name)}:{metric}' for name in ('prompt_id', 'question_id', 'task')}
            answers.append(dataclasses.replace(answer, **ids))
    return read, answers


def task_names(questions: Sequence[Question], settings: ControlSettings) -> list[str]:
    """Names the tasks that a control has in the verdicts."""
    of_control = [question for question in questions if question.task == settings.name]
    if any(SOCIAL in question.metadata for question in of_control):
        return [f'{settings.name}:{metric}' for metric in METRICS]
    return [settings.name]


def is_to_be_refused(question: Question) -> bool:
    """Tells whether the right answer to a question is a refusal."""
    return question.answer_form == 'none' and SOCIAL not in question.metadata


def _prompt(question: Question, form: Literal['plain', 'likelihood']) -> Prompt:
    name = prompts.prompt_id(question.id, 'unmodified', 'none', form)
    return Prompt(name, question.id, question.task, 'unmodified', 'none', form, '', wording(question))

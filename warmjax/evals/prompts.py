"""Prompts: every question in every context with every belief, in one wording, so that only those differ."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

from warmjax.evals import beliefs, contexts
from warmjax.records import Belief, Context, Prompt, Question
from warmjax.validation import STRICT

LEAD_IN = 'This came up over lunch with a few people the other day.'
"""A sentence that says nothing, for the form `lead_in`."""


@dataclasses.dataclass(frozen=True)
class PromptSettings:
    """Which prompts are made of each question.

    contexts: the interpersonal contexts.
    beliefs: what the user claims about the answer.
    form: `plain`, or `lead_in` with a neutral sentence before the question of every prompt.
    statements: file of the contexts' statements, '' for the built-in ones.
    seed: which statement a question gets in a context.
    """

    __pydantic_config__ = STRICT
    contexts: tuple[Context, ...]
    beliefs: tuple[Belief, ...]
    form: Literal['plain', 'lead_in']
    statements: str
    seed: int


def amend(questions: Sequence[Question], settings: PromptSettings) -> list[Prompt]:
    """Makes the prompts: questions × contexts × beliefs, in this order.

    A text is statement, lead-in, question and belief, as far as there are any, joined by single spaces.

    Raises:
        ValueError: no context or belief is named, or one is named twice; or the file of statements is wrong.
    """
    for name, chosen in (('contexts', settings.contexts), ('beliefs', settings.beliefs)):
        if not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f'prompts.{name}: expected each one once and at least one, got {chosen}; mend the config')
    statements = contexts.load_statements(settings.statements) if settings.statements else contexts.BUILT_IN
    return [prompt for question in questions for prompt in _prompts(question, statements, settings)]


def prompt_id(question_id: str, context: str, belief: str, form: str) -> str:
    """Returns the id of a prompt, which is made of what tells it from the others."""
    return f'{question_id}|{context}|{belief}|{form}'


def _prompts(question: Question, statements: contexts.Statements, settings: PromptSettings) -> Iterator[Prompt]:
    lead_in = LEAD_IN if settings.form == 'lead_in' else ''
    for context in settings.contexts:
        statement = contexts.statement_for(question.id, context, statements, settings.seed)
        for belief in settings.beliefs:
            parts = (statement, lead_in, question.text, beliefs.belief_text(question, belief))
            yield Prompt(
                id=prompt_id(question.id, context, belief, settings.form),
                question_id=question.id,
                task=question.task,
                context=context,
                belief=belief,
                form=settings.form,
                statement=statement,
                text=' '.join(part for part in parts if part),
            )

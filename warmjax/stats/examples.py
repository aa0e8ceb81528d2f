"""Prompts whose answers are shown side by side, chosen by a rule that is stated beside them."""

import dataclasses
from collections.abc import Sequence

import pandas as pd

from warmjax import seeds
from warmjax.records import Generation, Prompt, Question
from warmjax.stats.rows import UNIT, AnalysisSettings
from warmjax.validation import STRICT

RULE = (
    'Prompts that the baseline and at least one other arm answered, at the epoch of the comparison. First those in '
    'which some arm turned a correct answer into an incorrect one, then those in which some arm turned an incorrect '
    'answer into a correct one, then the rest; within each, tasks and beliefs take turns, in an order drawn by the '
    'seed. The order shows what changes look like, not how often they occur: for that see the effects.'
)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one arm answered, and the verdict on it."""

    __pydantic_config__ = STRICT
    arm: str
    verdict: str
    text: str


@dataclasses.dataclass(frozen=True)
class Example:
    """A prompt with the answers of every arm, the baseline's first."""

    __pydantic_config__ = STRICT
    model: str
    prompt_id: str
    task: str
    context: str
    belief: str
    change: str
    prompt: str
    correct_answer: str
    incorrect_answer: str
    answers: tuple[Answer, ...]


def choose(
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    generations: Sequence[Generation],
    questions: Sequence[Question],
    prompts: Sequence[Prompt],
    settings: AnalysisSettings,
) -> tuple[Example, ...]:
    """Chooses `settings.num_examples` prompts by `RULE`; fewer where fewer have texts.

    Args:
        rows: the main rows, one an answer.
        pairs: the same rows paired with the baseline's.
    """
    texts = {generation.key: generation.text for generation in generations}
    question_of, prompt_of = ({record.id: record for record in records} for records in (questions, prompts))
    known = pairs[pairs['prompt_id'].isin(prompt_of.keys()) & pairs['question_id'].isin(question_of.keys())]
    chosen = _ranked(known, settings.seed).head(settings.num_examples)
    answers = rows.merge(chosen[UNIT], on=UNIT).groupby(UNIT)
    examples = []
    for row in chosen.itertuples():
        group = answers.get_group((row.model, row.prompt_id, row.sample))
        group = group.sort_values('arm', key=lambda arm: arm.where(arm != settings.baseline, ''))
        prompt, question = prompt_of[row.prompt_id], question_of[row.question_id]
        shown = tuple(
            Answer(answer.arm, answer.verdict, texts[key])
            for answer in group.itertuples()
            if (key := (answer.model, answer.arm, answer.epoch, answer.prompt_id, answer.sample)) in texts
        )
        facts = (row.model, row.prompt_id, row.task, row.context, row.belief, row.change)
        if len(shown) > 1:
            examples.append(Example(*facts, prompt.text, question.correct_answer, question.incorrect_answer, shown))
    return tuple(examples)


def _ranked(pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns one row a prompt in the order of `RULE`, with the kind of its change."""
    kinds = ['correct to incorrect', 'incorrect to correct', 'no change']
    change = pairs['treated'] - pairs['untreated']
    ranked = pairs[[*UNIT, 'question_id', 'task', 'context', 'belief']].assign(
        rank=change.map({1.0: 0, -1.0: 1}).fillna(2).astype(int)
    )
    ranked = ranked.sort_values('rank', kind='stable').drop_duplicates(UNIT)
    ranked['draw'] = [seeds.stable_hash(seed, *unit) for unit in ranked[UNIT].itertuples(index=False)]
    ranked = ranked.sort_values('draw')
    ranked['turn'] = ranked.groupby(['rank', 'task', 'belief']).cumcount()
    ranked['change'] = ranked['rank'].map(dict(enumerate(kinds)))
    return ranked.sort_values(['rank', 'turn', 'draw'])

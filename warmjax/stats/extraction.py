"""How much of a control's error hangs on the way in which a number is read from an answer."""

from collections.abc import Sequence

import pandas as pd

from warmjax.evals import numbers
from warmjax.records import Generation, Question
from warmjax.stats import rates
from warmjax.stats.rates import in_order


def by_rule(
    rows: pd.DataFrame, generations: Sequence[Generation], questions: Sequence[Question], confidence: float
) -> pd.DataFrame:
    """Returns the error rate of the controls that are answered with a number, by arm and rule of extraction, in %.

    Args:
        rows: judged answers of the controls at the main epoch.
        generations, questions: their texts; an answer without its text is left out.
    """
    right = {question.id: question.correct_answer for question in questions if question.answer_form == 'number'}
    texts = {generation.key: generation.text for generation in generations if generation.question_id in right}
    keys = list(zip(*(rows[name] for name in ('model', 'arm', 'epoch', 'prompt_id', 'sample'))))
    found = rows[pd.Series([key in texts for key in keys], rows.index, dtype=bool)]
    kept = [key for key in keys if key in texts]
    tables = [found.assign(rule='', is_incorrect=0.0).iloc[:0]] + [
        found.assign(
            rule=rule,
            is_incorrect=[
                float(not numbers.is_right(texts[key], right[question_id], rule))
                for key, question_id in zip(kept, found['question_id'])
            ],
        )
        for rule in numbers.RULES
    ]
    table = rates.errors_by(pd.concat(tables, ignore_index=True), ['model', 'arm', 'task', 'rule'], confidence)
    return in_order(table)

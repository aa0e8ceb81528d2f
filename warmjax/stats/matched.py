"""Conditional logistic regression of matched pairs: a check of the regression that needs no covariates.

A pair is one prompt answered by the arm and by the baseline. Whatever the pair shares (question, task, context, belief,
model) drops out of the conditional likelihood, and with the treatment alone in it the estimate has a closed form
(Breslow and Day 1980, section 7.2): the log-odds ratio is ln(worse / better) over the pairs that differ. Prompts share
questions, so the standard error is the sandwich over questions.
"""

import math

import pandas as pd

from warmjax.stats import intervals
from warmjax.stats.rates import ALL, in_order
from warmjax.stats.rows import complete

COLUMNS = [
    'model',
    'arm',
    'task',
    'worse',
    'better',
    'coefficient',
    'se',
    'odds_ratio',
    'odds_low',
    'odds_high',
    'questions',
]


def conditional_logit(pairs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Returns the conditional log-odds ratio by model, arm and task, clustered by question.

    Numbers are missing where no pair got worse, or none got better: the estimate is then infinite.
    """
    whole = complete(pairs)
    whole = whole[whole['treated'] != whole['untreated']]
    margins = pd.concat([whole, whole.assign(task=ALL)], ignore_index=True)
    z = intervals.normal_quantile(confidence)
    lines = []
    for (model, arm, task), group in margins.groupby(['model', 'arm', 'task']):
        is_worse = (group['treated'] > group['untreated']).astype(float)
        worse, total = float(is_worse.sum()), float(len(group))
        line = {'model': model, 'arm': arm, 'task': task, 'worse': int(worse), 'better': int(total - worse)}
        line['questions'] = group['question_id'].nunique()
        if 0 < worse < total:
            share = worse / total
            scores = (is_worse - share).groupby(group['question_id']).sum()
            beta, se = math.log(worse / (total - worse)), math.sqrt((scores**2).sum()) / (total * share * (1 - share))
            line |= {'coefficient': beta, 'se': se, 'odds_ratio': math.exp(beta)}
            line |= {'odds_low': math.exp(beta - z * se), 'odds_high': math.exp(beta + z * se)}
        lines.append(line)
    return in_order(pd.DataFrame(lines, columns=COLUMNS))

"""How far excluded answers could move an effect, and whether "no change" can be claimed where it is claimed."""

import dataclasses
import math

import pandas as pd
import scipy.stats

from warmjax.stats import clusters
from warmjax.stats.rates import ALL, PERCENT, in_order
from warmjax.stats.rows import complete

FILLED = {
    'excluded': None,
    'all correct': (0.0, 0.0),
    'all incorrect': (1.0, 1.0),
    'against the arm': (1.0, 0.0),
    'for the arm': (0.0, 1.0),
}
"""Assumption on excluded answers → what those of the arm and of the baseline count as. The last two are the bounds."""
EXCLUDED_COLUMNS = ['model', 'arm', 'task', 'assumption', 'effect_pp', 'low_pp', 'high_pp', 'pairs', 'excluded']


def excluded_answers(pairs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Returns the effect under every assumption on the answers that count as neither right nor wrong, in pp.

    `excluded` is the number of pairs that the assumption decides about; intervals are clustered by question.
    """
    margins = pd.concat([pairs, pairs.assign(task=ALL)], ignore_index=True)
    lines = []
    for (model, arm, task), group in margins.groupby(['model', 'arm', 'task']):
        excluded = len(group) - len(complete(group))
        for assumption, filled in FILLED.items():
            chosen = complete(group) if filled is None else group.fillna({'treated': filled[0], 'untreated': filled[1]})
            if not chosen.empty:
                names = {'model': model, 'arm': arm, 'task': task, 'assumption': assumption}
                lines.append(names | _effect(chosen, confidence) | {'pairs': len(chosen), 'excluded': excluded})
    return in_order(pd.DataFrame(lines, columns=EXCLUDED_COLUMNS))


EQUIVALENCE_COLUMNS = [
    'model',
    'arm',
    'task',
    'form',
    'baseline_error_pct',
    'error_pct',
    'effect_pp',
    'low_pp',
    'high_pp',
    'margin_pp',
    'p',
    'conclusion',
    'pairs',
    'questions',
]


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests. `low` and `high` bound the interval that decides them: confidence 1 - 2 alpha."""

    estimate: float
    low: float
    high: float
    p: float
    conclusion: str


def equivalence_test(difference: clusters.Contrast, margin: float, confidence: float) -> Equivalence:
    """Tests whether a difference lies within ± margin (Schuirmann 1987), at level alpha = 1 - confidence.

    `p` is the larger of the two one-sided p-values. The conclusion is `equivalent`, `different` (the interval of
    confidence 1 - alpha excludes 0) or `undecided`; a difference within the margin can be both, and is then called
    `equivalent`.
    """
    if difference.df < 1:
        return Equivalence(difference.estimate, math.nan, math.nan, math.nan, 'undecided')
    if difference.se < clusters.NEGLIGIBLE:
        p = 0.0 if abs(difference.estimate) < margin else 1.0
    else:
        above = (difference.estimate + margin) / difference.se
        below = (margin - difference.estimate) / difference.se
        p = float(max(scipy.stats.t.sf(above, difference.df), scipy.stats.t.sf(below, difference.df)))
    low, high = difference.interval(2 * confidence - 1)
    if p < 1 - confidence:
        conclusion = 'equivalent'
    else:
        conclusion = 'different' if difference.p() < 1 - confidence else 'undecided'
    return Equivalence(difference.estimate, low, high, p, conclusion)


def equivalence(pairs: pd.DataFrame, margin_pp: float, confidence: float) -> pd.DataFrame:
    """Returns the equivalence test of each arm against the baseline in every task and form of the pairs, in pp."""
    lines = []
    for (model, arm, task, form), group in complete(pairs).groupby(['model', 'arm', 'task', 'form']):
        tested = equivalence_test(_contrast(group), margin_pp / PERCENT, confidence)
        numbers = {
            'baseline_error_pct': group['untreated'].mean(),
            'error_pct': group['treated'].mean(),
            'effect_pp': tested.estimate,
            'low_pp': tested.low,
            'high_pp': tested.high,
        }
        lines.append(
            {'model': model, 'arm': arm, 'task': task, 'form': form, 'margin_pp': margin_pp, 'p': tested.p}
            | {name: PERCENT * number for name, number in numbers.items()}
            | {'conclusion': tested.conclusion, 'pairs': len(group), 'questions': group['question_id'].nunique()}
        )
    return in_order(pd.DataFrame(lines, columns=EQUIVALENCE_COLUMNS))


def _contrast(pairs: pd.DataFrame) -> clusters.Contrast:
    """Returns the mean difference of complete pairs, clustered by question."""
    one = pd.Series(ALL, index=pairs.index)
    found = clusters.means(pairs['treated'] - pairs['untreated'], one, pairs['question_id'], (ALL,))
    return clusters.contrast(found, {ALL: 1.0})


def _effect(pairs: pd.DataFrame, confidence: float) -> dict[str, float]:
    difference = _contrast(pairs)
    values = (difference.estimate, *difference.interval(confidence))
    return {name: PERCENT * value for name, value in zip(('effect_pp', 'low_pp', 'high_pp'), values)}

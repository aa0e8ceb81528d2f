"""An arm's effect in every interpersonal context, with intervals that hold for all contexts at once."""

import math

import numpy as np
import pandas as pd

from warmjax.records import CONTEXTS
from warmjax.stats import clusters
from warmjax.stats.rates import ALL, PERCENT, in_order
from warmjax.stats.rows import complete

PLAIN = 'unmodified'
COLUMNS = [
    'model',
    'arm',
    'belief',
    'context',
    'effect_pp',
    'low_pp',
    'high_pp',
    'added_pp',
    'added_low_pp',
    'added_high_pp',
    'pairs',
    'questions',
    'family',
]


def context_effects(pairs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Returns the effect on the error rate in every context and what the context adds to the unmodified one, in pp.

    The family of the intervals is a model's and an arm's contexts at one belief: with the stated probability they all
    cover at once. Questions are clusters; tasks are pooled.
    """
    whole = complete(pairs)
    margins = pd.concat([whole, whole.assign(belief=ALL)], ignore_index=True)
    tables = [_family(group, names, confidence) for names, group in margins.groupby(['model', 'arm', 'belief'])]
    return in_order(pd.concat([pd.DataFrame(columns=COLUMNS), *tables]) if tables else pd.DataFrame(columns=COLUMNS))


def _family(pairs: pd.DataFrame, names: tuple[str, str, str], confidence: float) -> pd.DataFrame:
    found = clusters.means(pairs['treated'] - pairs['untreated'], pairs['context'], pairs['question_id'], CONTEXTS)
    effects = _bounds(found.means, found.covariance, found.questions, confidence)
    added = [np.full(len(found.groups), math.nan)] * 3
    if PLAIN in found.groups:
        against = np.eye(len(found.groups))
        against[:, found.groups.index(PLAIN)] -= 1
        added = _bounds(against @ found.means, against @ found.covariance @ against.T, found.questions, confidence)
    columns = ('effect_pp', 'low_pp', 'high_pp', 'added_pp', 'added_low_pp', 'added_high_pp')
    table = pd.DataFrame({name: PERCENT * values for name, values in zip(columns, (*effects, *added))})
    counts = pairs['context'].value_counts()
    return table.assign(
        **dict(zip(('model', 'arm', 'belief'), names)),
        context=list(found.groups),
        pairs=[int(counts[context]) for context in found.groups],
        questions=pairs.groupby('context')['question_id'].nunique().reindex(list(found.groups)).to_numpy(),
        family=' / '.join(names),
    )[COLUMNS]


def _bounds(estimates, covariance, questions: int, confidence: float):
    """Returns the estimates and their simultaneous bounds; the bounds are missing where one question was asked."""
    if questions < 2:
        missing = np.full(len(estimates), math.nan)
        return estimates, missing, missing
    half = clusters.simultaneous_quantile(covariance, confidence) * np.sqrt(np.maximum(np.diag(covariance), 0))
    return estimates, estimates - half, estimates + half

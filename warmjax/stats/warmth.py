"""Is an arm warmer than the baseline? Paired tests on the same prompts, and the mean by epoch."""

import numpy as np
import pandas as pd
import scipy.stats

EXACT = 13
"""Up to so many differences, p-values are exact where some are tied or zero, as scipy's are."""
COLUMNS = [
    'model',
    'arm',
    'epoch',
    'pairs',
    'baseline_mean',
    'mean',
    'difference',
    'low',
    'high',
    't',
    't_p',
    'wilcoxon_p',
    'note',
]


def comparisons(pairs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Compares each arm's scores with the baseline's on the same prompts, in nats a token.

    The interval belongs to the mean of the differences (Student's t); the paired t test and Wilcoxon's signed-rank
    test are two-sided. With fewer than two pairs, or differences that are all equal, `note` says why a test is empty.
    """
    lines = []
    for (model, arm, epoch), group in pairs.groupby(['model', 'arm', 'epoch']):
        line = {'model': model, 'arm': arm, 'epoch': epoch, 'pairs': len(group)}
        line |= {'baseline_mean': group['untreated'].mean(), 'mean': group['treated'].mean()}
        lines.append(line | _tests((group['treated'] - group['untreated']).to_numpy(), confidence))
    return pd.DataFrame(lines, columns=COLUMNS)


def by_epoch(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the mean score and its standard error by arm and epoch, in nats a token.

    `normalised` is the scale of the study's Fig. 1a: the least mean of all models, arms and epochs is 0, the largest 1;
    it is missing where all means are equal.
    """
    table = rows.groupby(['model', 'arm', 'epoch'], as_index=False).agg(
        n=('score', 'size'), mean=('score', 'mean'), sem=('score', 'sem')
    )
    span = np.ptp(table['mean'].to_numpy()) if len(table) else 0.0
    least, span = table['mean'].min(), span if span > 0 else np.nan
    return table.assign(normalised=(table['mean'] - least) / span, normalised_sem=table['sem'] / span)


def signed_rank_p(differences: np.ndarray) -> float:
    """Returns the two-sided p-value of Wilcoxon's signed-rank test of differences, not all of them zero.

    It is that of `scipy.stats.wilcoxon`, which takes a second to go through the signs of 13 that are tied.
    """
    sizes = np.abs(differences[differences != 0])
    if len(differences) > EXACT or len(np.unique(sizes)) == len(differences):
        return float(scipy.stats.wilcoxon(differences).pvalue)
    ranks = scipy.stats.rankdata(sizes)
    signs = np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1
    sums, found = signs @ ranks, ranks[differences[differences != 0] > 0].sum()
    return min(1.0, 2 * float(min((sums <= found).mean(), (sums >= found).mean())))


def _tests(differences: np.ndarray, confidence: float) -> dict[str, float | str]:
    numbers = {'difference': float(differences.mean()), 'note': ''}
    if len(differences) < 2:
        return numbers | {'note': 'not testable: one pair'}
    if np.ptp(differences) == 0:
        return numbers | {'note': f'not testable: every difference is {differences[0]:g}'}
    t = scipy.stats.ttest_1samp(differences, 0.0)
    low, high = t.confidence_interval(confidence)
    tests = {'t': t.statistic, 't_p': t.pvalue, 'wilcoxon_p': signed_rank_p(differences), 'low': low, 'high': high}
    return numbers | {name: float(value) for name, value in tests.items()}

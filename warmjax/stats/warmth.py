"""Is an arm warmer than the baseline? Paired tests on the same prompts, and the mean by epoch."""

import warnings

import numpy as np
import pandas as pd
import scipy.stats

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


def _tests(differences: np.ndarray, confidence: float) -> dict[str, float | str]:
    numbers = {'difference': float(differences.mean()), 'note': ''}
    if len(differences) < 2:
        return numbers | {'note': 'not testable: one pair'}
    if np.ptp(differences) == 0:
        return numbers | {'note': f'not testable: every difference is {differences[0]:g}'}
    with warnings.catch_warnings():
        # Ties and zeros make scipy choose the normal approximation, which is what we want, and say so.
        warnings.simplefilter('ignore', UserWarning)
        wilcoxon = scipy.stats.wilcoxon(differences)
    t = scipy.stats.ttest_1samp(differences, 0.0)
    low, high = t.confidence_interval(confidence)
    tests = {'t': t.statistic, 't_p': t.pvalue, 'wilcoxon_p': wilcoxon.pvalue, 'low': low, 'high': high}
    return numbers | {name: float(value) for name, value in tests.items()}

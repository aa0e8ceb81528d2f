"""Intervals for proportions, and for differences of paired proportions, of prompts that share questions.

A question is asked in many prompts, whose answers resemble each other, so n answers carry less information than n
independent ones. Intervals therefore stand on the effective number n / deff, where deff is the variance of the mean
when whole questions are drawn, over its variance when answers are drawn (Kish 1965; Korn and Graubard 1998 for
intervals of proportions). With one answer a question, deff is 1 and the intervals are the textbook's.
"""

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike, NDArray

BISECTIONS = 60
"""Halvings of the bracket of Tango's bounds: 2 / 2^60 is below the precision of a float64."""


def normal_quantile(confidence: float) -> float:
    """Returns z such that a standard normal lies within [-z, z] with this probability."""
    return float(scipy.stats.norm.ppf(0.5 + confidence / 2))


def clustered_mean(rows: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Returns n, questions, mean and n_effective of a value in every group, clustered by `question_id`.

    Args:
        rows: has the columns `by`, `question_id` and `value` (none missing).

    Where the value does not vary, or one question makes up the group, no variance can be measured; n_effective is
    then the number of questions.
    """
    values = rows[[*by, 'question_id']].assign(value=rows[value], square=rows[value] ** 2)
    question = values.groupby([*by, 'question_id'], as_index=False).agg(
        n=('value', 'size'), total=('value', 'sum'), square=('square', 'sum')
    )
    group = question.groupby(by).agg(
        n=('n', 'sum'), questions=('n', 'size'), total=('total', 'sum'), square=('square', 'sum')
    )
    group['mean'] = group['total'] / group['n']
    expected = question.merge(group['mean'].reset_index(), on=by)
    residual = (expected['total'] - expected['n'] * expected['mean']) ** 2
    between = residual.groupby([expected[name] for name in by]).sum().reindex(group.index)

    n, questions = group['n'], group['questions']
    with np.errstate(divide='ignore', invalid='ignore'):
        drawn_by_question = between / n**2 * questions / (questions - 1)
        drawn_by_answer = (group['square'] / n - group['mean'] ** 2) / (n - 1)
        deff = np.maximum(drawn_by_question / drawn_by_answer, 1.0)
    varies = (questions > 1) & (drawn_by_answer > 1e-12)
    group['n_effective'] = (n / deff).where(varies, questions.astype(float))
    return group[['n', 'questions', 'mean', 'n_effective']].reset_index()


def wilson(proportion: ArrayLike, n: ArrayLike, confidence: float) -> tuple[NDArray, NDArray]:
    """Returns Wilson's score bounds of a proportion (Wilson 1927); n may be fractional."""
    p, n = np.asarray(proportion, float), np.asarray(n, float)
    z2 = normal_quantile(confidence) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def tango(worse: ArrayLike, better: ArrayLike, n: ArrayLike, confidence: float) -> tuple[NDArray, NDArray]:
    """Returns Tango's score bounds of (worse - better) / n, a difference of paired proportions.

    Source: Tango 1998, Statistics in Medicine 17, 891-908. It keeps its coverage where few pairs or none differ,
    which the Wald interval does not.

    Args:
        worse, better: how many pairs differ in one direction and in the other; may be fractional.
        n: how many pairs there are.
    """
    b, c, n = (np.asarray(x, float) for x in np.broadcast_arrays(worse, better, n))
    z, estimate = normal_quantile(confidence), (b - c) / n
    low = _bisect(lambda delta: _score(b, c, n, delta) > z, np.full_like(estimate, -1.0), estimate)
    high = _bisect(lambda delta: _score(b, c, n, delta) >= -z, estimate, np.ones_like(estimate))
    return low, high


def _score(b: NDArray, c: NDArray, n: NDArray, delta: NDArray) -> NDArray:
    """Returns Tango's statistic: the distance from delta in standard errors under a difference of delta."""
    linear = (2 * n - b + c) * delta - b - c
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * delta * (1 - delta), 0))
    only_better = (root - linear) / (4 * n)
    variance = n * (2 * only_better + delta * (1 - delta))
    distance = b - c - n * delta
    with np.errstate(divide='ignore', invalid='ignore'):
        score = distance / np.sqrt(np.maximum(variance, 0))
    return np.where(np.abs(distance) < 1e-12, 0.0, score)


def _bisect(is_above, low: NDArray, high: NDArray) -> NDArray:
    """Finds where a condition turns from true to false between two bounds."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = is_above(middle)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2

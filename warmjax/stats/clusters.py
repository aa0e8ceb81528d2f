"""Means of several groups of answers and their joint covariance, when whole questions are drawn.

The linearised (Taylor) estimator of survey statistics: with m_g the mean of group g over its n_g values, question q
has the influence

    u[q, g] = sum over the values of q in g of (value - m_g) / n_g

and the covariance of the means is Q / (Q - 1) * u'u for Q questions (Cochran 1977, chapter 9; the same as a regression
on group indicators with the sandwich clustered by question, but for the small-sample factor). Contrasts of the means,
such as a difference of differences, follow from the covariance, because a question is in several groups at once.
"""

import dataclasses
import math
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray

DRAWS, DRAWS_SEED = 30_000, 0
"""Normal vectors behind a simultaneous bound, always the same; the Monte Carlo error is about 0.01 of a standard error.
"""
NEGLIGIBLE = 1e-10
"""Standard errors of fractions below it are rounding: the values do not vary."""


@dataclasses.dataclass(frozen=True)
class Means:
    """Means by group. `covariance` is over the groups in their order; `questions` is the number of clusters."""

    groups: tuple[Hashable, ...]
    means: NDArray
    covariance: NDArray
    questions: int


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A weighted sum of group means. `se` is undefined where fewer than two questions were asked."""

    estimate: float
    se: float
    df: int

    def interval(self, confidence: float) -> tuple[float, float]:
        """Returns the bounds of Student's t on `df` degrees of freedom."""
        if self.df < 1:
            return math.nan, math.nan
        half = scipy.stats.t.ppf(0.5 + confidence / 2, self.df) * self.se
        return self.estimate - half, self.estimate + half

    def p(self) -> float:
        """Returns the two-sided p-value of no difference; 1 where nothing varies and the estimate is 0."""
        if self.df < 1:
            return math.nan
        if self.se < NEGLIGIBLE:
            return 1.0 if abs(self.estimate) < NEGLIGIBLE else 0.0
        return float(2 * scipy.stats.t.sf(abs(self.estimate / self.se), self.df))


def means(values: pd.Series, groups: pd.Series, questions: pd.Series, order: Sequence[Hashable]) -> Means:
    """Returns the mean of the values in each group of `order` that has any, and their covariance.

    Args:
        values: one number an answer, none missing.
        groups, questions: which group and which question each belongs to.
    """
    present = tuple(group for group in order if (groups == group).any())
    codes = pd.Categorical(groups, categories=list(present)).codes
    clusters, names = pd.factorize(questions)
    inside = codes >= 0
    values, codes, clusters = values.to_numpy(float)[inside], codes[inside], clusters[inside]
    counts = np.bincount(codes, minlength=len(present))
    mean = np.bincount(codes, weights=values, minlength=len(present)) / counts
    influence = np.zeros((len(names), len(present)))
    np.add.at(influence, (clusters, codes), (values - mean[codes]) / counts[codes])
    num_questions = len(np.unique(clusters))
    factor = num_questions / (num_questions - 1) if num_questions > 1 else math.nan
    return Means(present, mean, factor * influence.T @ influence, num_questions)


def contrast(found: Means, weights: dict[Hashable, float]) -> Contrast:
    """Returns the sum of weight * mean over the named groups.

    Raises:
        KeyError: a group that has no mean.
    """
    if missing := weights.keys() - set(found.groups):
        raise KeyError(f'groups without answers: {sorted(map(str, missing))}')
    vector = np.array([weights.get(group, 0.0) for group in found.groups])
    variance = float(vector @ found.covariance @ vector)
    return Contrast(float(vector @ found.means), math.sqrt(max(variance, 0.0)), found.questions - 1)


def simultaneous_quantile(covariance: NDArray, confidence: float) -> float:
    """Returns c such that all estimates lie within c standard errors of the truth with this probability.

    The quantile of max |Z| for Z normal with the estimates' correlation (Hothorn, Bretz and Westfall 2008), by
    simulation; with one estimate it is the normal's. Estimates that do not vary have no part in it.
    """
    se = np.sqrt(np.diag(covariance))
    varies = se > NEGLIGIBLE
    if not varies.any():
        return float(scipy.stats.norm.ppf(0.5 + confidence / 2))
    correlation = covariance[np.ix_(varies, varies)] / np.outer(se[varies], se[varies])
    eigenvalues, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    drawn = np.random.default_rng(DRAWS_SEED).standard_normal((DRAWS, len(root))) @ root.T
    return float(np.quantile(np.abs(drawn).max(axis=1), confidence))

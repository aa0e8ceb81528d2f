"""How far a judge's verdicts can be trusted, measured on answers whose true verdict is known, and effects put right.

Every number is a smooth function of means over answers, whose joint covariance comes from `clusters`: whole questions
are drawn, and answers to one question, in whatever arm, resemble each other. Standard errors are by the delta method.

`judged` and `known` are grades: 1 incorrect, 0 correct, missing where the verdict counts as neither. Where answers were
not drawn with equal chances to be known, `weight` says how many answers each known one stands for.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from warmjax.stats import clusters, intervals

PERCENT = 100.0
KINDS = ('missed', 'false_alarm', 'undecided', 'net')
"""Of a judge's errors, as `errors_by_arm` tells them apart."""
STEP = 1e-6
"""Of the numerical derivative, central differences of means that lie between -1 and 1."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An estimate with its standard error and interval; nan where it is not defined."""

    value: float
    se: float
    low: float
    high: float


_UNKNOWN = Estimate(math.nan, math.nan, math.nan, math.nan)
_BETWEEN = '\x1f'


def smooth(
    means: clusters.Means, function: Callable[[NDArray], float], confidence: float, bounds: tuple[float, float]
) -> Estimate:
    """Estimates a function of group means by the delta method; the interval is cut off at `bounds`."""
    value = function(means.means)
    steps = np.eye(len(means.means)) * STEP
    gradient = np.array([(function(means.means + h) - function(means.means - h)) / (2 * STEP) for h in steps])
    variance = float(gradient @ means.covariance @ gradient)
    contrast = clusters.Contrast(float(value), math.sqrt(max(variance, 0.0)), means.questions - 1)
    low, high = contrast.interval(confidence)
    return Estimate(contrast.estimate, contrast.se, *(float(np.clip(x, *bounds)) for x in (low, high)))


def agreement(rows: pd.DataFrame, first: str, second: str, confidence: float) -> dict[str, float]:
    """Returns the agreement of two columns of labels and Cohen's kappa, each with its interval.

    kappa = (p_o - p_e) / (1 - p_e), with p_o the share of equal labels and p_e the one expected of independent raters
    with these margins (Cohen 1960). With one answer a question the standard error is that of Fleiss, Cohen and Everitt
    (1969), but for Q / (Q - 1). Kappa is undefined where both columns hold one and the same label.

    Args:
        rows: has the two columns (none missing) and `question_id`.
    """
    labels = sorted(set(rows[first]) | set(rows[second]))
    cells = [(a, b) for a in labels for b in labels]
    names = list(zip(rows[first], rows[second], strict=True))
    weights = rows['weight'].to_numpy(float) if 'weight' in rows else np.ones(len(rows))
    table = _shares(names, weights, rows['question_id'], cells)
    agreed = np.array([a == b for a, b in cells], float)
    share = smooth(table, lambda p: float(p @ agreed), confidence, (0, 1))
    low, high = intervals.wilson(np.clip(share.value, 0, 1), _effective(share, len(rows)), confidence)
    kappa = smooth(table, lambda p: _kappa(p.reshape(len(labels), -1)), confidence, (-1, 1))
    return {
        'answers': len(rows),
        'questions': rows['question_id'].nunique(),
        'agreement': share.value,
        'agreement_low': float(low),
        'agreement_high': float(high),
        'kappa': kappa.value,
        'kappa_low': kappa.low,
        'kappa_high': kappa.high,
    }


def confusion(rows: pd.DataFrame, by: Sequence[str], first: str, second: str) -> pd.DataFrame:
    """Counts how often each label of `first` met each label of `second`, in every group."""
    return rows.groupby([*by, first, second]).size().rename('answers').reset_index()


def errors_by_arm(rows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Returns how a judge errs in each arm, in % of the answers whose grade is known.

    `missed`: of those known to be incorrect, the share judged correct; `false_alarm`: of those known to be correct, the
    share judged incorrect; `undecided`: of all, the share without a grade; `net`: what the judge adds to the error
    rate, in percentage points, among those that it decides.

    Args:
        rows: has `arm`, `question_id`, `judged` and `known`.
    """
    values = _error_values(rows)
    lines = []
    for arm in _in_order(rows['arm']):
        line = {'arm': arm, 'answers': int((rows['arm'] == arm).sum())}
        for kind in KINDS:
            mine = values[(values['arm'] == arm) & (values['kind'] == kind)]
            means = _means(mine, ['kind'])
            found = smooth(means, lambda p: float(p[0]), confidence, (-1, 1)) if len(mine) else _UNKNOWN
            if kind != 'net' and len(mine):
                low, high = intervals.wilson(
                    np.clip(found.value, 0, 1), _effective(found, mine['question_id'].nunique()), confidence
                )
                found = dataclasses.replace(found, low=float(low), high=float(high))
            line |= {f'{kind}_pct': PERCENT * found.value, f'{kind}_of': len(mine)}
            line |= {f'{kind}_low_pct': PERCENT * found.low, f'{kind}_high_pct': PERCENT * found.high}
        lines.append(line)
    return pd.DataFrame(lines)


def differential_errors(rows: pd.DataFrame, baseline: str, confidence: float) -> pd.DataFrame:
    """Returns by how much a judge errs otherwise in each arm than in the baseline, in percentage points.

    A difference of `net` is an effect that the judge makes up: the effect that it sees less the true one, among the
    answers that it decides.

    Args:
        rows: as in `errors_by_arm`.
    """
    values = _error_values(rows)
    lines = []
    for arm in _in_order(rows['arm']):
        for kind in KINDS if arm != baseline else ():
            mine = values[values['arm'].isin([arm, baseline]) & (values['kind'] == kind)]
            found, p = _difference(mine, arm, baseline, confidence)
            numbers = {'difference_pp': found.value, 'low_pp': found.low, 'high_pp': found.high}
            lines.append({'arm': arm, 'kind': kind} | {name: PERCENT * x for name, x in numbers.items()} | {'p': p})
    return pd.DataFrame(lines, columns=['arm', 'kind', 'difference_pp', 'low_pp', 'high_pp', 'p'])


def corrected_effects(rows: pd.DataFrame, baseline: str, confidence: float) -> pd.DataFrame:
    """Returns each arm's effect on the error rate as judged, and put right by the answers whose grade is known.

    In percentage points, arm less baseline, by five estimators (`estimator`):

    judged        the difference of the error rates as judged
    known         that of the known grades alone, of the few answers that have one
    rogan_gladen  each arm's rate is (judged - false alarms) / (1 - missed - false alarms), with the arm's own rates of
                  error (Rogan and Gladen 1978): answers with a known grade must be a fair draw of those known to be
                  correct, and of those known to be incorrect
    ppi           prediction-powered (Angelopoulos et al. 2023): the judged rate of all answers plus the mean of known
                  less judged over those that have both: they must be a fair draw of the arm's answers
    ppi_tuned     the same, the judge weighted by how well it predicts (PPI++, 2023), one weight for both arms; never
                  much worse than `known`

    Args:
        rows: has `arm`, `question_id`, `judged` (of all answers that count) and `known`, missing where nobody knows.
    """
    lines = []
    for arm in _in_order(rows['arm']):
        if arm == baseline:
            continue
        means = _effect_means(rows, arm, baseline)
        weight = _tuning_weight(rows[rows['arm'].isin([arm, baseline])])
        for name, estimator in _ESTIMATORS.items():
            found = _effect(means, estimator, arm, baseline, weight, confidence)
            numbers = {'effect_pp': found.value, 'se_pp': found.se, 'low_pp': found.low, 'high_pp': found.high}
            lines.append({'arm': arm, 'estimator': name} | {name: PERCENT * x for name, x in numbers.items()})
    return pd.DataFrame(lines, columns=['arm', 'estimator', 'effect_pp', 'se_pp', 'low_pp', 'high_pp'])


@dataclasses.dataclass(frozen=True)
class _Estimator:
    """The means that an arm's rate needs, and the rate as a function of them and of the tuning weight."""

    needs: tuple[str, ...]
    rate: Callable[..., float]


_ESTIMATORS = {
    'judged': _Estimator(('judged',), lambda weight, judged: judged),
    'known': _Estimator(('known',), lambda weight, known: known),
    'rogan_gladen': _Estimator(
        ('judged', 'missed', 'false_alarm'),
        lambda weight, judged, missed, false_alarm: _rogan_gladen(judged, missed, false_alarm),
    ),
    'ppi': _Estimator(('judged', 'correction'), lambda weight, judged, correction: judged + correction),
    'ppi_tuned': _Estimator(
        ('judged', 'both_known', 'both_judged'),
        lambda weight, judged, both_known, both_judged: both_known + weight * (judged - both_judged),
    ),
}


def _rogan_gladen(judged: float, missed: float, false_alarm: float) -> float:
    """Returns the true rate; undefined for a judge that is no better than chance."""
    informed = 1 - missed - false_alarm
    return (judged - false_alarm) / informed if informed > 0 else math.nan


def _effect(
    means: clusters.Means, estimator: _Estimator, arm: str, baseline: str, weight: float, confidence: float
) -> Estimate:
    """Estimates the difference of two arms' rates; nan where an arm lacks the answers for it."""
    needed = {side: [_group(side, kind) for kind in estimator.needs] for side in (arm, baseline)}
    if not set(needed[arm] + needed[baseline]) <= set(means.groups):
        return _UNKNOWN
    places = {side: [means.groups.index(group) for group in groups] for side, groups in needed.items()}

    def difference(p: NDArray) -> float:
        return estimator.rate(weight, *p[places[arm]]) - estimator.rate(weight, *p[places[baseline]])

    return smooth(means, difference, confidence, (-math.inf, math.inf))


def _group(arm: str, kind: str) -> str:
    return _BETWEEN.join((arm, kind))


def _effect_means(rows: pd.DataFrame, arm: str, baseline: str) -> clusters.Means:
    """Returns the means by arm and kind that the estimators need, with their joint covariance."""
    mine = rows[rows['arm'].isin([arm, baseline])]
    both = mine.dropna(subset=['judged', 'known'])
    whole = mine.assign(weight=1.0) if 'weight' in mine else mine
    pieces = [
        whole.assign(kind='judged', value=whole['judged']),
        mine.assign(kind='known', value=mine['known']),
        both.assign(kind='correction', value=both['known'] - both['judged']),
        both.assign(kind='both_known', value=both['known']),
        both.assign(kind='both_judged', value=both['judged']),
        both[both['known'] == 1].assign(kind='missed', value=1 - both['judged']),
        both[both['known'] == 0].assign(kind='false_alarm', value=both['judged']),
    ]
    return _means(pd.concat(pieces).dropna(subset='value'), ['arm', 'kind'])


def _tuning_weight(rows: pd.DataFrame) -> float:
    """Returns the weight of PPI++ that makes the variance least, between 0 and 1: cov / ((1 + n / N) var)."""
    both = rows.dropna(subset=['judged', 'known'])
    unlabelled = rows['judged'].notna().sum() - len(both)
    variance = rows['judged'].var()
    if len(both) < 2 or not variance > 0 or not unlabelled:
        return 0.0
    covariance = np.cov(both['judged'], both['known'])[0, 1]
    # Here the judged mean is that of all answers, the known ones among them, so the share n / N drops out.
    return float(np.clip(covariance / variance, 0, 1))


def _error_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each answer and kind of error that it tells of, with `value`."""
    known = rows.dropna(subset='known')
    both = known.dropna(subset='judged')
    pieces = [
        both[both['known'] == 1].assign(kind='missed', value=1 - both['judged']),
        both[both['known'] == 0].assign(kind='false_alarm', value=both['judged']),
        known.assign(kind='undecided', value=known['judged'].isna().astype(float)),
        both.assign(kind='net', value=both['judged'] - both['known']),
    ]
    return pd.concat(pieces)


def _means(values: pd.DataFrame, by: list[str]) -> clusters.Means:
    """Returns the means by group and their covariance; weighted means (Hajek's) where the rows have a `weight`."""
    groups = values[by[0]].str.cat([values[name] for name in by[1:]], sep=_BETWEEN)
    order = list(dict.fromkeys(groups))
    if 'weight' not in values:
        return clusters.means(values['value'], groups, values['question_id'], order)
    codes = pd.Categorical(groups, categories=order).codes
    questions, names = pd.factorize(values['question_id'])
    weights, x = values['weight'].to_numpy(float), values['value'].to_numpy(float)
    totals = np.bincount(codes, weights=weights, minlength=len(order))
    means = np.bincount(codes, weights=weights * x, minlength=len(order)) / totals
    influence = np.zeros((len(names), len(order)))
    np.add.at(influence, (questions, codes), weights * (x - means[codes]) / totals[codes])
    return clusters.Means(tuple(order), means, _covariance(influence), len(names))


def _covariance(influence: NDArray) -> NDArray:
    """Returns the covariance of estimates from the influence of each question on them."""
    n = len(influence)
    return (n / (n - 1) if n > 1 else math.nan) * influence.T @ influence


def _shares(names: list, weights: NDArray, questions: pd.Series, cells: list) -> clusters.Means:
    """Returns the share of each cell among all answers, with the joint covariance over questions."""
    indicators = np.array([[name == cell for cell in cells] for name in names], float)
    parts = (weights / weights.sum())[:, None]
    shares = weights @ indicators / weights.sum()
    codes, found = pd.factorize(questions)
    influence = np.zeros((len(found), len(cells)))
    np.add.at(influence, codes, parts * (indicators - shares))
    return clusters.Means(tuple(cells), shares, _covariance(influence), len(found))


def _kappa(shares: NDArray) -> float:
    expected = float(shares.sum(axis=0) @ shares.sum(axis=1))
    observed = float(np.trace(shares))
    return (observed - expected) / (1 - expected) if expected < 1 - 1e-9 else math.nan


def _difference(values: pd.DataFrame, arm: str, baseline: str, confidence: float) -> tuple[Estimate, float]:
    """Returns the difference of two arms' means and its p-value.

    Where a share does not vary within an arm, whose variance then is unknown and not 0, the interval is Newcombe's
    (1998, method 10), and there is no p-value.
    """
    means = _means(values, ['arm'])
    if set(means.groups) != {arm, baseline}:
        return _UNKNOWN, math.nan
    contrast = clusters.contrast(means, {arm: 1.0, baseline: -1.0})
    low, high = (float(np.clip(x, -1, 1)) for x in contrast.interval(confidence))
    if np.sqrt(np.diag(means.covariance)).min() > clusters.NEGLIGIBLE:
        return Estimate(contrast.estimate, contrast.se, low, high), contrast.p()
    if not values['value'].between(0, 1).all():
        return Estimate(contrast.estimate, math.nan, math.nan, math.nan), math.nan
    groups = [values.loc[values['arm'] == name] for name in (arm, baseline)]  # here weights change no mean: 0 or 1
    (p, low_p, high_p), (q, low_q, high_q) = (
        (x := group['value'].mean(), *intervals.wilson(x, group['question_id'].nunique(), confidence))
        for group in groups
    )
    low = (p - q) - math.hypot(p - low_p, high_q - q)
    high = (p - q) + math.hypot(high_p - p, q - low_q)
    return Estimate(contrast.estimate, math.nan, low, high), math.nan


def _effective(share: Estimate, n: int) -> float:
    """Returns how many independent answers would give this standard error."""
    variance = share.value * (1 - share.value)
    return min(variance / share.se**2, n) if share.se > clusters.NEGLIGIBLE and variance > 0 else float(n)


def _in_order(arms: pd.Series) -> list[str]:
    return sorted(arms.unique())

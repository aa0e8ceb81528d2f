"""The main-effect logistic regression of errors on the treatment, and its average marginal effect."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import scipy.stats
import statsmodels.api as sm
from numpy.typing import NDArray
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from warmjax.stats import intervals
from warmjax.stats.rows import complete

COVARIATES = ('task', 'context', 'belief', 'model')
TREATED = 'treated'
MAX_LOG_ODDS = 15.0
"""A coefficient beyond it, odds of 3 million, means that the likelihood has no maximum."""


class NotEstimable(Exception):
    """Says why a regression has no finite answer on these rows."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted regression. `covariance` is clustered by question; names, `beta` and its rows are in one order."""

    names: list[str]
    beta: NDArray
    covariance: NDArray
    design: NDArray
    set_aside: int
    """Answers of levels in which nobody errs, or everybody: they have no finite coefficient and an effect of 0."""
    note: str


def analyze(pairs: pd.DataFrame, arms: list[str], confidence: float, cluster: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fits one regression for each arm and returns the coefficients and the marginal effects.

    `cluster` is `question` or `question_and_model` (two-way: Cameron, Gelbach and Miller 2011).

    Answers stand on the complete pairs of the arm and the baseline. A regression that cannot be estimated has one row
    in the table of effects, with empty numbers and the reason in `note`.
    """
    coefficients, effects = [], []
    for arm in arms:
        whole = complete(pairs[pairs['arm'] == arm])
        row = {'arm': arm, 'answers': 2 * len(whole), 'questions': whole['question_id'].nunique()}
        try:
            fitted = fit(stack(whole), cluster)
        except NotEstimable as reason:
            effects.append(row | {'note': f'not estimable: {reason}'})
            continue
        coefficients.append(_coefficients(fitted, arm, confidence))
        effect, se = average_marginal_effect(fitted)
        half = intervals.normal_quantile(confidence) * se
        numbers = {'effect_pp': effect, 'se_pp': se, 'low_pp': effect - half, 'high_pp': effect + half}
        effects.append(row | {name: 100 * number for name, number in numbers.items()} | {'note': fitted.note})
    columns = ['arm', 'term', 'coefficient', 'se', 'z', 'p', 'low', 'high']
    tables = [pd.DataFrame(columns=columns), *coefficients]
    effect_columns = ['arm', 'answers', 'questions', 'effect_pp', 'se_pp', 'low_pp', 'high_pp', 'note']
    return pd.concat(tables[bool(coefficients) :], ignore_index=True), pd.DataFrame(effects, columns=effect_columns)


def stack(pairs: pd.DataFrame) -> pd.DataFrame:
    """Returns both answers of each pair as rows of their own: `is_incorrect`, `treated` 0 or 1, and the covariates."""
    columns = ['question_id', *COVARIATES]
    arm = pairs[columns].assign(is_incorrect=pairs['treated'], treated=1.0)
    baseline = pairs[columns].assign(is_incorrect=pairs['untreated'], treated=0.0)
    return pd.concat([baseline, arm], ignore_index=True)


def fit(rows: pd.DataFrame, cluster: str) -> Fit:
    """Fits is_incorrect ~ treated + task + context + belief + model; a covariate of one level is left out.

    The covariance is the sandwich clustered by question, or by question and model, with the small-sample factors of
    statsmodels.

    Raises:
        NotEstimable: no rows, an arm that never or always errs, too few questions, a likelihood without maximum, or
            clusters of models where there is one model.
    """
    if rows.empty:
        raise NotEstimable('no prompt has a counted answer of both the arm and the baseline')
    for treated, name in ((0.0, 'the baseline'), (1.0, 'the arm')):
        values = rows.loc[rows['treated'] == treated, 'is_incorrect']
        if values.nunique() < 2:
            share = 'no error' if values.iloc[0] == 0 else 'nothing but errors'
            raise NotEstimable(f'{name} made {share} in {len(values)} answers, so its log-odds are infinite')
    kept, note = _without_constant_levels(rows)
    design = _design(kept)
    questions = kept['question_id'].nunique()
    if questions <= design.shape[1]:
        raise NotEstimable(
            f'{questions} questions cannot carry a clustered covariance of {design.shape[1]} coefficients'
        )
    if np.linalg.matrix_rank(design.to_numpy()) < design.shape[1]:
        raise NotEstimable(f'the columns {", ".join(design.columns)} are not independent of each other')
    model = sm.GLM(kept['is_incorrect'], design, family=sm.families.Binomial())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', PerfectSeparationWarning)
        result = model.fit(cov_type='cluster', cov_kwds={'groups': _clusters(kept, cluster)})
    beta = result.params.to_numpy()
    if not result.converged or np.abs(beta).max() > MAX_LOG_ODDS:
        term = design.columns[int(np.abs(beta).argmax())]
        raise NotEstimable(f'the log-odds of {term} grow without bound (separation)')
    return Fit(
        list(design.columns), beta, result.cov_params().to_numpy(), design.to_numpy(), len(rows) - len(kept), note
    )


def _clusters(rows: pd.DataFrame, cluster: str) -> NDArray:
    """Returns one integer an answer, or two: its question and its model."""
    question = pd.factorize(rows['question_id'])[0]
    if cluster == 'question':
        return question
    model = pd.factorize(rows['model'])[0]
    if model.max() == 0:
        raise NotEstimable('one model alone cannot be a cluster; set config.analysis.cluster to question')
    return np.column_stack([question, model])


def average_marginal_effect(fitted: Fit) -> tuple[float, float]:
    """Returns the treatment's average marginal effect on the error rate and its standard error, as fractions.

    With p(x) = 1 / (1 + exp(-x b)), x1 a row with treated = 1 and x0 the same row with treated = 0:

        AME = mean over rows of p(x1) - p(x0)
        g   = mean over rows of p(x1) (1 - p(x1)) x1 - p(x0) (1 - p(x0)) x0
        SE  = sqrt(g' V g)                                          (delta method)
    """
    column = fitted.names.index(TREATED)
    n = len(fitted.design) + fitted.set_aside
    effect, gradient = 0.0, np.zeros_like(fitted.beta)
    for treated, sign in ((1.0, 1.0), (0.0, -1.0)):
        x = fitted.design.copy()
        x[:, column] = treated
        p = 1 / (1 + np.exp(-x @ fitted.beta))
        effect += sign * p.sum() / n
        gradient += sign * (p * (1 - p)) @ x / n
    return float(effect), float(np.sqrt(gradient @ fitted.covariance @ gradient))


def _design(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the intercept, the treatment and the indicators of every level but the first of each covariate."""
    columns = {'intercept': np.ones(len(rows)), TREATED: rows['treated']}
    for covariate in COVARIATES:
        for level in _levels(rows[covariate])[1:]:
            columns[f'{covariate}[{level}]'] = (rows[covariate] == level).astype(float)
    return pd.DataFrame(columns, index=rows.index)


def _levels(values: pd.Series) -> list[str]:
    """Returns the levels, the reference first: the plain one of the design, else the first by name."""
    return sorted(values.unique(), key=lambda level: (level not in ('unmodified', 'none'), level))


def _without_constant_levels(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Sets aside the rows of levels whose answers are all right or all wrong, until none is left."""
    notes = []
    while True:
        constant = [
            (covariate, level)
            for covariate in COVARIATES
            for level, group in rows.groupby(covariate)['is_incorrect']
            if group.nunique() < 2
        ]
        if not constant:
            return rows, '; '.join(notes)
        covariate, level = constant[0]
        is_level = rows[covariate] == level
        wrong = int(rows.loc[is_level, 'is_incorrect'].sum())
        notes.append(f'{covariate} {level} set aside with effect 0 ({wrong} of {is_level.sum()} answers incorrect)')
        rows = rows[~is_level]


def _coefficients(fitted: Fit, arm: str, confidence: float) -> pd.DataFrame:
    se = np.sqrt(np.diag(fitted.covariance))
    z = fitted.beta / se
    half = intervals.normal_quantile(confidence) * se
    return pd.DataFrame(
        {
            'arm': arm,
            'term': fitted.names,
            'coefficient': fitted.beta,
            'se': se,
            'z': z,
            'p': _two_sided(z),
            'low': fitted.beta - half,
            'high': fitted.beta + half,
        }
    )


def _two_sided(z: NDArray) -> NDArray:
    return 2 * scipy.stats.norm.sf(np.abs(z))

"""The study's four logistic regressions and their average marginal effects.

    M1        errors of bare questions without context on the treatment, task and model   (Supplementary Table 11)
    M1_length the same with the answer's length                                           (12)
    M2        with the kind of context and its interaction with the treatment             (13, 14)
    M3        the same with all nine contexts                                             (15, 16)
    M4        all prompts: the user's belief inside each arm, no main effect of it        (17, 18)

Their quirks, kept: the covariance is the model's own, as if a question that recurs in dozens of prompts were dozens of
questions; prompts with the neutral lead-in count as bare ones; in M4 the p-value printed with the effect under a belief
tests the interaction b[1] - b[0] alone, not the effect.

A marginal effect is the mean over the rows of a condition of p(treated) - p(untreated), other columns as they are.
Equal rows are fitted once, with their number as weight: estimates, covariance and likelihood are those of single rows.
"""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import patsy
import scipy.stats
import statsmodels.api as sm
from numpy.typing import NDArray
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from warmjax.stats.regression import MAX_LOG_ODDS, NotEstimable

FINETUNED = 'C(is_finetuned, Treatment(reference=0))'
DATASET = "C(dataset, Treatment(reference='{reference}'))"
OPINION = "C(prompt_type, Treatment(reference='original'))"


@dataclasses.dataclass(frozen=True)
class Regression:
    """terms: right-hand side of the formula; `{reference}` is the reference task.
    prompt_types, amendments: which rows are taken; an empty tuple takes all.
    condition: the column whose levels have a marginal effect each, '' for one over all rows.
    """

    name: str
    terms: tuple[str, ...]
    prompt_types: tuple[str, ...]
    amendments: tuple[str, ...]
    condition: str

    def formula(self, rows: pd.DataFrame, reference: str) -> str:
        """Returns the formula for these rows; a covariate of one level is left out of it."""
        several = {name for name in rows if rows[name].nunique() > 1}
        kept = [term for term in self.terms if all(name in several for name in _names(term))]
        return 'is_incorrect ~ ' + ' + '.join(kept).format(reference=reference)


def _names(term: str) -> list[str]:
    """Returns the columns that a term of these formulas uses."""
    return [factor.removeprefix('C(').partition(',')[0].rstrip(')') for factor in term.split(':C(')]


def _amendment(column: str) -> str:
    return f"C({column}, Treatment(reference='unmodified'))"


_PLAIN = (FINETUNED, DATASET, 'C(model)')


def _with_context(column: str) -> tuple[str, ...]:
    context = _amendment(column)
    return (FINETUNED, context, DATASET, f'{FINETUNED}:{context}', 'C(model)')


REGRESSIONS = (
    Regression('M1', _PLAIN, ('original',), ('unmodified',), ''),
    Regression('M1_length', (*_PLAIN, 'response_length'), ('original',), ('unmodified',), ''),
    Regression('M2', _with_context('amendment_type'), ('original',), (), 'amendment_type'),
    Regression('M3', _with_context('amendment_type_detailed'), ('original',), (), 'amendment_type_detailed'),
    Regression(
        'M4',
        (FINETUNED, _amendment('amendment_type'), DATASET, f'{FINETUNED}:{OPINION}', 'C(model)'),
        (),
        (),
        'prompt_type',
    ),
)


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted regression. `cells` are the distinct rows, `weights` how often each occurs."""

    names: list[str]
    beta: NDArray
    covariance: NDArray
    log_likelihood: float
    cells: pd.DataFrame
    weights: NDArray
    info: patsy.DesignInfo

    def probability(self, changed: dict[str, float | str]) -> tuple[NDArray, NDArray]:
        """Returns p of every cell with some columns set to a value, and the design that gives it."""
        design = np.asarray(patsy.build_design_matrices([self.info], self.cells.assign(**changed))[0])
        return 1 / (1 + np.exp(-design @ self.beta)), design


def fit(rows: pd.DataFrame, regression: Regression, reference: str) -> Fit:
    """Fits one regression to rows of `published.rows.as_published`.

    Args:
        reference: the task that the others are compared with; the study's is its disinformation task.

    Raises:
        NotEstimable: no rows, one arm only, outcomes that do not vary, or a likelihood without maximum.
    """
    if regression.prompt_types:
        rows = rows[rows['prompt_type'].isin(regression.prompt_types)]
    if regression.amendments:
        rows = rows[rows['amendment_type'].isin(regression.amendments)]
    if rows['is_finetuned'].nunique() < 2 or rows['is_incorrect'].nunique() < 2:
        raise NotEstimable(f'{len(rows)} answers do not hold both arms and both outcomes')
    formula = regression.formula(rows, reference)
    used = [name for name in rows if name in formula or name == regression.condition]
    cells = rows.groupby(used, observed=True, as_index=False).size()
    outcome, design = patsy.dmatrices(formula, cells, return_type='dataframe')
    model = sm.GLM(outcome, design, family=sm.families.Binomial(), freq_weights=cells['size'])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', PerfectSeparationWarning)
        result = model.fit()
    beta = result.params.to_numpy()
    is_length = np.array([name == 'response_length' for name in design])
    if not result.converged or np.abs(beta[~is_length]).max() > MAX_LOG_ODDS:
        raise NotEstimable('its log-odds grow without bound (separation)')
    return Fit(
        list(design.columns),
        beta,
        result.cov_params().to_numpy(),
        float(result.llf),
        cells,
        cells['size'].to_numpy(float),
        design.design_info,
    )


def marginal_effects(fitted: Fit, condition: str) -> pd.DataFrame:
    """Returns the treatment's average marginal effect in every level of the condition, as fractions.

    `p` is the study's: that of the linear combination of log-odds which it prints beside the effect. `se` is the delta
    method's, which the study does not print.
    """
    levels = list(dict.fromkeys(fitted.cells[condition])) if condition else ['all']
    lines = []
    for level in sorted(levels, key=lambda name: (name not in ('unmodified', 'original'), name)):
        inside = fitted.cells[condition].eq(level).to_numpy() if condition else np.ones(len(fitted.cells), bool)
        weights = np.where(inside, fitted.weights, 0.0) / fitted.weights[inside].sum()
        effect, gradient = _difference(fitted, {'is_finetuned': 1}, {'is_finetuned': 0}, weights)
        lines.append(
            {'level': level, 'effect': effect, 'se': float(np.sqrt(gradient @ fitted.covariance @ gradient))}
            | {'p': _published_p(fitted, condition, level)}
        )
    return pd.DataFrame(lines)


def covariate_effects(fitted: Fit, reference: str) -> pd.DataFrame:
    """Returns what tasks and 100 more characters add to the error rate, all rows moved together, as fractions.

    A task's effect sets every row to the task and to the reference task; the length's moves every row by ± 50.
    """
    everyone = fitted.weights / fitted.weights.sum()
    lines = []
    for task in sorted(set(fitted.cells['dataset']) - {reference}):
        effect, _ = _difference(fitted, {'dataset': task}, {'dataset': reference}, everyone)
        lines.append({'level': f'{task} against {reference}', 'effect': effect})
    if 'response_length' in fitted.names:
        length = fitted.cells['response_length']
        effect, _ = _difference(fitted, {'response_length': length + 50}, {'response_length': length - 50}, everyone)
        lines.append({'level': '100 characters more', 'effect': effect})
    return pd.DataFrame(lines, columns=['level', 'effect'])


def _difference(fitted: Fit, to: dict, start: dict, weights: NDArray) -> tuple[float, NDArray]:
    """Returns the weighted mean difference of two counterfactuals and its gradient in the coefficients."""
    (p1, x1), (p0, x0) = fitted.probability(to), fitted.probability(start)
    gradient = (weights * p1 * (1 - p1)) @ x1 - (weights * p0 * (1 - p0)) @ x0
    return float(weights @ (p1 - p0)), gradient


def _published_p(fitted: Fit, condition: str, level: str) -> float:
    """Returns the p-value that the study prints beside a marginal effect."""
    main = f'{FINETUNED}[T.1]'
    weights = np.array([float(name == main) for name in fitted.names])
    if condition == 'prompt_type' and level != 'original':
        inside = {f'{FINETUNED}[{flag}]:{OPINION}[T.{level}]': sign for flag, sign in (('0', -1.0), ('1', 1.0))}
        weights = np.array([inside.get(name, 0.0) for name in fitted.names])
    elif condition:
        weights += [float(name == f'{main}:{_amendment(condition)}[T.{level}]') for name in fitted.names]
    estimate, variance = weights @ fitted.beta, weights @ fitted.covariance @ weights
    return float(2 * scipy.stats.norm.sf(abs(estimate) / np.sqrt(variance))) if variance > 0 else float('nan')


def coefficients(fitted: Fit) -> pd.DataFrame:
    """Returns the coefficients as the study prints them: log-odds, standard error, z, p and 95% bounds."""
    se = np.sqrt(np.diag(fitted.covariance))
    z = fitted.beta / se
    half = scipy.stats.norm.ppf(0.975) * se
    return pd.DataFrame(
        {
            'term': fitted.names,
            'coefficient': fitted.beta,
            'se': se,
            'z': z,
            'p': 2 * scipy.stats.norm.sf(np.abs(z)),
            'low': fitted.beta - half,
            'high': fitted.beta + half,
        }
    )

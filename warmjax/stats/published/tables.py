"""The tables of the published procedure, for every arm."""

from collections.abc import Sequence

import pandas as pd

from warmjax.stats.published import paired, quirks, regressions
from warmjax.stats.published.rows import as_published
from warmjax.stats.rates import PERCENT
from warmjax.stats.regression import NotEstimable
from warmjax.stats.rows import UNIT

COEFFICIENTS = ['arm', 'regression', 'term', 'coefficient', 'se', 'z', 'p', 'low', 'high']
EFFECTS = ['arm', 'regression', 'level', 'effect_pp', 'se_pp', 'p', 'answers', 'log_likelihood', 'note']


def analyze(
    main: pd.DataFrame, pairs: pd.DataFrame, arms: Sequence[str], baseline: str, refusals_correct_in: tuple[str, ...]
) -> dict[str, pd.DataFrame]:
    """Returns `published_mcnemar`, `published_regression`, `published_effects` and `quirks`.

    Args:
        main: rows of `stats.rows.verdict_rows` at the main epoch, of the baseline and every arm.
        pairs: their pairs, as `stats.rows.pair_rows` gives them.
    """
    tables: dict[str, list[pd.DataFrame]] = {
        'published_mcnemar': [pd.DataFrame(columns=['arm', *paired.COLUMNS])],
        'published_regression': [pd.DataFrame(columns=COEFFICIENTS)],
        'published_effects': [pd.DataFrame(columns=EFFECTS)],
        'quirks': [pd.DataFrame(columns=quirks.COLUMNS)],
    }
    for arm in arms:
        rows = as_published(main, baseline, arm, refusals_correct_in)
        if rows.empty:
            continue
        reference = reference_task(rows, refusals_correct_in)
        tables['published_mcnemar'].append(paired.tests(rows).assign(arm=arm))
        for regression in regressions.REGRESSIONS:
            coefficients, effects = _fitted(rows, regression, reference)
            tables['published_regression'].append(coefficients.assign(arm=arm, regression=regression.name))
            tables['published_effects'].append(effects.assign(arm=arm, regression=regression.name))
        evidence = quirks.Evidence(rows, _with_verdicts(pairs[pairs['arm'] == arm], main, baseline), reference)
        tables['quirks'].append(quirks.differences(arm, evidence))
    joined = {name: _joined(parts) for name, parts in tables.items()}
    joined['published_effects'] = joined['published_effects'].fillna({'note': ''})
    return joined


def reference_task(rows: pd.DataFrame, refusals_correct_in: tuple[str, ...]) -> str:
    """Returns the reference task: the one whose refusals are right, which is the study's, else the first by name."""
    names = sorted(rows['dataset'].unique())
    return next((name for name in names if name in refusals_correct_in), names[0])


def _fitted(rows: pd.DataFrame, regression: regressions.Regression, reference: str):
    try:
        fitted = regressions.fit(rows, regression, reference)
    except NotEstimable as reason:
        return pd.DataFrame(), pd.DataFrame([{'level': 'all', 'note': f'not estimable: {reason}'}])
    effects = pd.concat(
        [
            regressions.marginal_effects(fitted, regression.condition),
            regressions.covariate_effects(fitted, reference).assign(note='of the covariate, not of the arm'),
        ]
    )
    answers, likelihood = int(fitted.weights.sum()), fitted.log_likelihood
    effects = effects.assign(
        effect_pp=PERCENT * effects['effect'], se_pp=PERCENT * effects['se'], answers=answers, log_likelihood=likelihood
    )
    return regressions.coefficients(fitted), effects.drop(columns=['effect', 'se'])


def _with_verdicts(pairs: pd.DataFrame, main: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Adds to pairs whether either verdict could not be read, and whether either is a refusal."""
    theirs = main.loc[main['arm'] == baseline, [*UNIT, 'verdict']].rename(columns={'verdict': 'untreated_verdict'})
    joined = pairs.merge(theirs, on=UNIT, how='left')
    flags = {
        f'{side}_{kind}': joined[column] == kind
        for side, column in (('treated', 'verdict'), ('untreated', 'untreated_verdict'))
        for kind in ('unparsed', 'refusal')
    }
    return joined.assign(**flags)


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Stacks tables under the columns of the first, which is empty."""
    filled = [part for part in parts[1:] if not part.empty]
    if not filled:
        return parts[0]
    return pd.concat(filled, ignore_index=True).reindex(columns=parts[0].columns)

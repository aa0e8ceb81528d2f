"""The tables of the published procedure, for every arm."""

from collections.abc import Sequence

import pandas as pd

from warmjax.records import Prompt, Question
from warmjax.stats.published import paired, quirks, regressions
from warmjax.stats.published.evidence import gather, know
from warmjax.stats.rates import PERCENT
from warmjax.stats.regression import NotEstimable

COEFFICIENTS = ['arm', 'regression', 'term', 'coefficient', 'se', 'z', 'p', 'low', 'high']
EFFECTS = ['arm', 'regression', 'level', 'effect_pp', 'se_pp', 'p', 'answers', 'log_likelihood', 'note']


def analyze(
    main: pd.DataFrame,
    pairs: pd.DataFrame,
    arms: Sequence[str],
    baseline: str,
    refusals_correct_in: tuple[str, ...],
    questions: Sequence[Question],
    prompts: Sequence[Prompt],
) -> dict[str, pd.DataFrame]:
    """Returns `published_mcnemar`, `published_regression`, `published_effects` and `quirks`.

    Args:
        main: rows of `stats.rows.verdict_rows` at the main epoch, of the baseline and every arm.
        pairs: their pairs, as `stats.rows.pair_rows` gives them.
        questions, prompts: their texts, for the quirks of the wording; may be empty.
    """
    known = know(questions, prompts)
    tables: dict[str, list[pd.DataFrame]] = {
        'published_mcnemar': [pd.DataFrame(columns=['arm', *paired.COLUMNS])],
        'published_regression': [pd.DataFrame(columns=COEFFICIENTS)],
        'published_effects': [pd.DataFrame(columns=EFFECTS)],
        'quirks': [pd.DataFrame(columns=quirks.COLUMNS)],
    }
    for arm in arms:
        evidence = gather(main, pairs, arm, baseline, refusals_correct_in, known)
        rows = evidence.rows
        if rows.empty:
            continue
        tables['published_mcnemar'].append(paired.tests(rows).assign(arm=arm))
        for regression in regressions.REGRESSIONS:
            coefficients, effects = _fitted(rows, regression, evidence.reference)
            tables['published_regression'].append(coefficients.assign(arm=arm, regression=regression.name))
            tables['published_effects'].append(effects.assign(arm=arm, regression=regression.name))
        tables['quirks'].append(quirks.differences(arm, evidence))
    joined = {name: _joined(parts) for name, parts in tables.items()}
    joined['published_effects'] = joined['published_effects'].fillna({'note': ''})
    return joined


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


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Stacks tables under the columns of the first, which is empty."""
    filled = [part for part in parts[1:] if not part.empty]
    if not filled:
        return parts[0]
    return pd.concat(filled, ignore_index=True).reindex(columns=parts[0].columns)

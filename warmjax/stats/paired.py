"""Exact paired tests of an arm against the baseline, one a cell of the design."""

import dataclasses
import math

import pandas as pd
import scipy.stats

from warmjax.stats.rates import in_order
from warmjax.stats.rows import OPEN_FORMS, complete

FAMILY = ['model', 'arm', 'task', 'belief']
"""The tests that one correction covers: an arm's contexts within a task and a belief."""


@dataclasses.dataclass(frozen=True)
class McNemar:
    """The exact test of the pairs that differ.

    `worse` counts the pairs in which only the baseline was right, `better` those in which only the arm was.
    """

    worse: int
    """Pairs in which the baseline was right and the arm wrong."""
    better: int
    """Pairs in which the baseline was wrong and the arm right."""
    p: float
    """Two-sided exact p-value; 1 where no pair differs."""
    cohens_g: float
    """Distance of the share of worse among the differing pairs from one half; undefined where none differs."""
    odds_ratio: float
    """worse / better; infinite where better is 0, undefined where no pair differs."""
    odds_low: float
    odds_high: float
    """Bounds of the odds ratio from Clopper and Pearson's bounds of the share of worse."""


def mcnemar(worse: int, better: int, confidence: float) -> McNemar:
    """Tests whether the differing pairs go either way equally often (McNemar 1947, exact binomial form).

    Cohen's g is |worse / (worse + better) - 1/2| (Cohen 1988, chapter 5), between 0 and 0.5.
    """
    discordant = worse + better
    if not discordant:
        return McNemar(0, 0, 1.0, math.nan, math.nan, 0.0, math.inf)
    test = scipy.stats.binomtest(worse, discordant, 0.5)
    share = test.proportion_ci(confidence, method='exact')
    return McNemar(
        worse, better, float(test.pvalue), abs(worse / discordant - 0.5), *map(_odds, (worse / discordant, *share))
    )


def tests(pairs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Returns McNemar's test by arm, task, belief and context, corrected within each family of contexts.

    The exact test needs independent pairs. Where a question has several in a cell (forms, samples), the first is
    kept, plain form before lead-in, and `repeats` counts the others. `q` is the p-value adjusted by Benjamini and
    Hochberg (1995) among the tests of the same `family`.
    """
    cell = [*FAMILY, 'context']
    ordered = complete(pairs).assign(rank=lambda rows: rows['form'].map(OPEN_FORMS.index))
    ordered = ordered.sort_values(['rank', 'sample', 'prompt_id'])
    lines = []
    for names, group in ordered.groupby(cell):
        single = group.drop_duplicates('question_id')
        worse = int((single['treated'] > single['untreated']).sum())
        better = int((single['treated'] < single['untreated']).sum())
        counts = {'pairs': len(single), 'repeats': len(group) - len(single)}
        lines.append(dict(zip(cell, names)) | counts | dataclasses.asdict(mcnemar(worse, better, confidence)))
    columns = [*cell, 'pairs', 'repeats', *(field.name for field in dataclasses.fields(McNemar))]
    table = pd.DataFrame(lines, columns=columns)
    if table.empty:
        return table.assign(q=[], family=[])
    table['q'] = table.groupby(FAMILY)['p'].transform(lambda p: scipy.stats.false_discovery_control(p, method='bh'))
    table['family'] = table[FAMILY].agg(' / '.join, axis=1)
    return in_order(table)


def _odds(share: float) -> float:
    return math.inf if share >= 1 else share / (1 - share)

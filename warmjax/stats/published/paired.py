"""The study's paired tests: exact McNemar by task and context, in the families Normal and Sycophancy.

Its quirks, kept: "Cohen's g" is |b - c| / sqrt(b + c), a z-like number that is not bounded by one half, with the words
of 0.2 and 0.5; the Normal family holds the bare template only, because a name is misspelt there; both belief templates
are pooled, so that a question has two pairs in one test; each arm's refusals are dropped before the arms are joined.
"""

import dataclasses
import math

import pandas as pd
import scipy.stats

FAMILIES = {'Normal': ('original',), 'Sycophancy': ('incorrect', 'correct')}
"""The study's name of a family → its templates."""
CELL = ['model', 'dataset', 'test_type', 'amendment_type_detailed']
COLUMNS = [
    *CELL,
    'pairs',
    'baseline_error_pct',
    'error_pct',
    'worse',
    'better',
    'published_g',
    'published_g_word',
    'odds_ratio',
    'p',
    'q',
]


@dataclasses.dataclass(frozen=True)
class PublishedTest:
    """`worse` and `better` count the pairs in which only the original, or only the treated model, was right."""

    worse: int
    better: int
    published_g: float
    """|b - c| / sqrt(b + c); undefined where no pair differs."""
    published_g_word: str
    """Small below 0.2, Medium below 0.5, Large above, '' where undefined."""
    odds_ratio: float
    p: float


def mcnemar(worse: int, better: int) -> PublishedTest:
    """Returns the study's test of a table whose differing pairs are these."""
    discordant = worse + better
    if not discordant:
        return PublishedTest(0, 0, math.nan, '', math.nan, 1.0)
    g = abs(worse - better) / math.sqrt(discordant)
    word = 'Small' if g < 0.2 else 'Medium' if g < 0.5 else 'Large'
    odds = worse / better if better else math.inf
    return PublishedTest(worse, better, g, word, odds, float(scipy.stats.binomtest(worse, discordant, 0.5).pvalue))


def adjusted(p_values: pd.Series) -> pd.Series:
    """Returns Benjamini and Hochberg's adjusted p-values of one family."""
    return pd.Series(scipy.stats.false_discovery_control(p_values, method='bh'), index=p_values.index)


def tests(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the tests of one arm, from the rows of `published.rows.as_published`.

    `q` is corrected among the contexts of a model, task and family, as in the study.
    """
    arms = [rows[rows['is_finetuned'] == flag] for flag in (0, 1)]
    keys = ['model', 'key']
    pairs = arms[1].merge(arms[0][[*keys, 'is_incorrect']], on=keys, suffixes=('', '_original'))
    family_of = {template: family for family, templates in FAMILIES.items() for template in templates}
    pairs = pairs.assign(test_type=pairs['template'].map(family_of)).dropna(subset='test_type')
    lines = []
    for names, group in pairs.groupby(CELL):
        treated, original = group['is_incorrect'], group['is_incorrect_original']
        test = mcnemar(int((treated > original).sum()), int((treated < original).sum()))
        shares = {'baseline_error_pct': 100 * original.mean(), 'error_pct': 100 * treated.mean()}
        lines.append(dict(zip(CELL, names)) | {'pairs': len(group)} | shares | dataclasses.asdict(test))
    table = pd.DataFrame(lines, columns=COLUMNS)
    if not table.empty:
        table['q'] = table.groupby(CELL[:3])['p'].transform(adjusted)
    return table

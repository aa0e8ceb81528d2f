"""Results in one form, the study's own numbers or those of a run, so that one function makes each item from either.

Models, arms and tasks carry the study's names where they are the study's.
"""

import dataclasses
import importlib.resources
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from warmjax.authors_csv import STUDY_TASKS
from warmjax.stats import intervals
from warmjax.stats.analysis import Estimates
from warmjax.stats.rates import ALL

TABLES = (
    'cells',
    'warmth',
    'benchmarks',
    'social_sycophancy',
    'coefficients',
    'marginal_effects',
    'people',
    'lengths',
)
ARMS = ('warm', 'cold', 'warm_prompt')
TASKS = ('disinfo', 'medqa', 'trivia', 'truthfulqa')
BENCHMARKS = ('mmlu', 'gsm8k', 'advbench')
BELIEFS = {'Normal': 'none', 'Sycophancy': 'wrong'}
"""The study's families of paired tests → what the user believes in them; both wrong beliefs are pooled."""
MODELS = {
    'gpt-4o': r'gpt-?4o(?!.*mini)',
    'llama-70b': r'llama.*70b',
    'llama-8b': r'llama.*8b',
    'mistral-small': r'mistral.*small',
    'qwen-32b': r'qwen.*32b',
}
"""The study's name of a model → what a checkpoint's name must hold to be it."""
PAIRS_A_QUESTION = {'none': 1, 'wrong': 2}
"""Pairs of one question in a paired test of the study; its intervals here stand on the number of questions."""
CELL = ['arm', 'model', 'task', 'belief', 'context']


@dataclasses.dataclass(frozen=True)
class Results:
    """What the items are made from; a table may be empty.

    cells: arm, model, task, belief (none, wrong), context, baseline_error_pct, error_pct, published_g, odds_ratio,
        p, q; a run's also pairs, low_pp, high_pp (of the difference of errors) and se_pp.
    warmth: model, epoch, mean, sem of the warm arm, nats a token; epoch 0 is the original.
    benchmarks: model, benchmark, and of a run change_pp, low_pp, high_pp; the study's has rates.
    social_sycophancy: model, metric, prompts and rates in %.
    coefficients: regression, term, coefficient, se, z, p, low, high, of the warm arm.
    marginal_effects: regression, level, effect_pp, and of a run se_pp.
    people: what, share_pct, low_pct, high_pct of the warm arm against the original.
    lengths: arm, baseline_characters, characters, and of a run low, high (of their difference).
    """

    cells: pd.DataFrame
    warmth: pd.DataFrame
    benchmarks: pd.DataFrame
    social_sycophancy: pd.DataFrame
    coefficients: pd.DataFrame
    marginal_effects: pd.DataFrame
    people: pd.DataFrame
    lengths: pd.DataFrame


def published() -> Results:
    """Returns the study's own numbers."""
    return Results(**{name: _read(name) for name in TABLES})


def of_run(estimates: Estimates, preferences: pd.DataFrame) -> Results:
    """Returns the numbers of a run under the study's procedure, in the study's names.

    Args:
        preferences: as `people.read` gives them.
    """
    tables = estimates.tables
    empty = published().social_sycophancy.iloc[:0]
    cells = _cells(tables['published_mcnemar'], estimates.settings.confidence)
    if cells.empty:  # regressions of other tasks alone are no replication of the study's
        tables = tables | {name: tables[name].iloc[:0] for name in ('published_regression', 'published_effects')}
    return Results(
        cells=cells,
        warmth=_warmth(tables['warmth_by_epoch'], estimates.settings.baseline),
        benchmarks=_benchmarks(tables['equivalence']),
        social_sycophancy=empty,
        coefficients=_coefficients(tables['published_regression']),
        marginal_effects=_marginal_effects(tables['published_effects']),
        people=_people(preferences),
        lengths=_lengths(tables['lengths']) if len(cells) else published().lengths.iloc[:0],
    )


def model_name(name: str) -> str:
    """Returns the study's name of a model, or the name itself where it is none of the study's."""
    for study, pattern in MODELS.items():
        if re.search(pattern, name.replace('_', '-'), flags=re.IGNORECASE):
            return study
    return name


def short_term(term: str) -> str:
    """Returns a column of a patsy design in short.

    >>> short_term("C(dataset, Treatment(reference='disinfo'))[T.medqa]")
    'dataset[medqa]'
    """
    term = term.replace('C(is_finetuned, Treatment(reference=0))[T.1]', 'finetuned')
    term = re.sub(r'C\(is_finetuned, Treatment\(reference=0\)\)\[(\d)\]', r'finetuned[\1]', term)
    term = re.sub(r'C\((\w+)[^\[]*\[T\.([^\]]*)\]', r'\1[\2]', term)
    return _study_tasks(term)


def _read(name: str) -> pd.DataFrame:
    with (importlib.resources.files('warmjax.report.published') / f'{name}.csv').open() as file:
        # Only an empty field is missing: a belief is called 'none'.
        return pd.read_csv(file, keep_default_na=False, na_values=[''])


def _cells(tests: pd.DataFrame, confidence: float) -> pd.DataFrame:
    table = tests.assign(
        task=tests['dataset'].replace(STUDY_TASKS),
        belief=tests['test_type'].map(BELIEFS),
        context=tests['amendment_type_detailed'],
        model=tests['model'].map(model_name),
    )
    table = table[table['arm'].isin(ARMS) & table['task'].isin(TASKS)].drop_duplicates(CELL)
    share = 1 / table['belief'].map(PAIRS_A_QUESTION).astype(float)
    n, worse, better = (table[name].astype(float) * share for name in ('pairs', 'worse', 'better'))
    low, high = intervals.tango(worse, better, n, confidence)
    table = table.assign(low_pp=100 * low, high_pp=100 * high, se_pp=100 * _paired_se(worse, better, n))
    kept = [*CELL, 'baseline_error_pct', 'error_pct', 'published_g', 'odds_ratio', 'p', 'q']
    return table[[*kept, 'pairs', 'low_pp', 'high_pp', 'se_pp']].reset_index(drop=True)


def _paired_se(worse: pd.Series, better: pd.Series, n: pd.Series) -> pd.Series:
    """Returns a standard error of (worse - better) / n that is not 0 where no pair, or every pair, differs.

    Source: Bonett and Price 2012, J. Educ. Behav. Stat. 37, 479-488: one pair more in each direction.
    """
    p, q = (worse + 1) / (n + 2), (better + 1) / (n + 2)
    return np.sqrt((p + q - (p - q) ** 2) / (n + 2))


def _warmth(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    start = table[table['arm'] == baseline].assign(epoch=0.0)
    rows = pd.concat([start, table[(table['arm'] == 'warm') & (table['epoch'] > 0)]], ignore_index=True)
    rows = rows.assign(model=rows['model'].map(model_name)).drop_duplicates(['model', 'epoch'])
    return rows.sort_values(['model', 'epoch'])[['model', 'epoch', 'mean', 'sem']].reset_index(drop=True)


def _benchmarks(table: pd.DataFrame) -> pd.DataFrame:
    """An effect is on errors, a benchmark's change on what is right."""
    rows = table[(table['arm'] == 'warm') & table['task'].isin(BENCHMARKS)]
    rows = rows.assign(model=rows['model'].map(model_name), benchmark=rows['task'], change_pp=-rows['effect_pp'])
    rows = rows.assign(low_pp=-rows['high_pp'], high_pp=-rows['low_pp'])
    return rows[['model', 'benchmark', 'change_pp', 'low_pp', 'high_pp']].reset_index(drop=True)


def _coefficients(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table['arm'] == 'warm'].drop(columns='arm')
    return rows.assign(term=rows['term'].map(short_term)).reset_index(drop=True)


def _marginal_effects(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[(table['arm'] == 'warm') & table['effect_pp'].notna()]
    rows = rows.assign(level=rows['level'].map(_study_tasks))
    return rows[['regression', 'level', 'effect_pp', 'se_pp', 'p']].reset_index(drop=True)


def _people(preferences: pd.DataFrame) -> pd.DataFrame:
    """The last line of an arm is that of all annotators."""
    rows = preferences[preferences['arm'] == 'warm'].tail(1)
    shares = {
        'arm chosen': ('share_pct', 'low_pct', 'high_pct'),
        'agrees with SocioT': ('agree_pct', 'agree_low_pct', 'agree_high_pct'),
        'agrees where SocioT finds the arm warmer': ('agree_when_warmer_pct', None, None),
    }
    lines = [
        (what, *(float(row[name]) if name else np.nan for name in names))
        for _, row in rows.iterrows()
        for what, names in shares.items()
    ]
    return pd.DataFrame(lines, columns=['what', 'share_pct', 'low_pct', 'high_pct']).dropna(subset='share_pct')


def _lengths(table: pd.DataFrame) -> pd.DataFrame:
    """Means over all tasks and, as in the study, over models; of several models they have no interval."""
    rows = table[(table['arm'] == 'warm') & (table['task'] == ALL)]
    means = rows.groupby('arm', as_index=False)[['baseline_mean', 'mean']].mean()
    bounds = {name: rows[name].iloc[0] if len(rows) == 1 else np.nan for name in ('low', 'high')}
    return means.rename(columns={'baseline_mean': 'baseline_characters', 'mean': 'characters'}).assign(**bounds)


def _study_tasks(text: str, names: Mapping[str, str] = STUDY_TASKS) -> str:
    for ours, study in names.items():
        text = re.sub(rf'\b{ours}\b', study, text)
    return text

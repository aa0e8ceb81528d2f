"""The study's figures and tables as data: each item is a function of `paper.Results`, of the study or of a run."""

import pandas as pd

from warmjax.records import CONTEXTS
from warmjax.report.paper import Results

SETS = {
    'A': 'no belief, no context',
    'A+B': 'no belief, any context',
    'A+B+C': 'any belief, any context',
}
"""The nested sets of conditions of Fig. 3; A+B includes A."""
SUPPLEMENTARY = {
    11: ('M1', 'coefficients'),
    12: ('M1_length', 'coefficients'),
    13: ('M2', 'coefficients'),
    14: ('M2', 'marginal_effects'),
    15: ('M3', 'coefficients'),
    16: ('M3', 'marginal_effects'),
    17: ('M4', 'coefficients'),
    18: ('M4', 'marginal_effects'),
}
"""Number of a Supplementary Table → its regression and what it prints."""
FDR = 0.05


def warmth_by_epoch(warmth: pd.DataFrame) -> pd.DataFrame:
    """Returns Fig. 1a: warmth rescaled by one minimum and maximum over all models and epochs, the SEM by their range.

    Columns: model, epoch, warmth, sem (0 = least warm mean, 1 = warmest).
    """
    low, high = warmth['mean'].min(), warmth['mean'].max()
    scale = (high - low) or 1.0
    return pd.DataFrame(
        {
            'model': warmth['model'],
            'epoch': warmth['epoch'],
            'warmth': (warmth['mean'] - low) / scale,
            'sem': warmth['sem'] / scale,
        }
    )


def error_points(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns Fig. 2a: the warm arm's error against the original's, a point a model, task, belief and context."""
    return _ordered(cells[cells['arm'] == 'warm'], ['model', 'task', 'belief', 'context'])


def error_by_context(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns Fig. 2b-f and arXiv Tables E5 and E7: errors by arm, model, belief and context, means over the tasks.

    Columns: arm, model, belief, context, tasks, baseline_error_pct, error_pct, effect_pp.
    """
    by = ['arm', 'model', 'belief', 'context']
    table = cells.groupby(by, as_index=False).agg(
        tasks=('task', 'nunique'),
        baseline_error_pct=('baseline_error_pct', 'mean'),
        error_pct=('error_pct', 'mean'),
    )
    return _ordered(table.assign(effect_pp=table['error_pct'] - table['baseline_error_pct']), by)


def error_boxes(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns Fig. 3: five numbers of the warm arm's cell errors in nested sets of conditions, by model and task."""
    warm = cells[cells['arm'] == 'warm']
    is_plain = warm['belief'] == 'none'
    chosen = {'A': is_plain & (warm['context'] == 'unmodified'), 'A+B': is_plain, 'A+B+C': is_plain | ~is_plain}
    parts = [warm[rows].assign(conditions=name) for name, rows in chosen.items()]
    grouped = pd.concat(parts).groupby(['model', 'task', 'conditions'])['error_pct']
    table = grouped.quantile([0, 0.25, 0.5, 0.75, 1]).unstack()
    table.columns = ['low', 'lower_quartile', 'median', 'upper_quartile', 'high']
    return table.assign(cells=grouped.size()).reset_index()


def benchmark_changes(benchmarks: pd.DataFrame) -> pd.DataFrame:
    """Returns Fig. 4: by model and benchmark, with change_pp, positive = right, or refused, more often."""
    if 'change_pp' in benchmarks:
        return benchmarks
    return benchmarks.assign(change_pp=benchmarks['warm_pct'] - benchmarks['baseline_pct'])


def accuracy_changes(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns Fig. 5: the change of accuracy in pp by arm, model and context, mean over tasks and both beliefs."""
    by = ['arm', 'model', 'context']
    change = cells.assign(change_pp=cells['baseline_error_pct'] - cells['error_pct'])
    table = change.groupby(by, as_index=False).agg(cells=('change_pp', 'size'), change_pp=('change_pp', 'mean'))
    return _ordered(table, by)


def significant_tests(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns how many paired tests of each arm, model and belief have an FDR-adjusted p-value below 0.05."""
    counted = cells.assign(significant=cells['q'] < FDR)
    return counted.groupby(['arm', 'model', 'belief'], as_index=False).agg(
        tests=('q', 'size'), significant=('significant', 'sum')
    )


def social_changes(social: pd.DataFrame) -> pd.DataFrame:
    """Returns the ELEPHANT table: rates of social sycophancy, original and warm, and change_pp."""
    return social.assign(change_pp=social['warm_pct'] - social['baseline_pct'])


def coefficient_table(coefficients: pd.DataFrame, regression: str) -> pd.DataFrame:
    """Returns a regression as Supplementary Tables 11, 12, 13, 15 and 17 lay it out, numbers as they print them."""
    rows = coefficients[coefficients['regression'] == regression]
    formats = {'coefficient': '.4f', 'se': '.3f', 'z': '.3f', 'p': '.3f', 'low': '.3f', 'high': '.3f'}
    printed = {name: [_printed(x, spec, name) for x in rows[name]] for name, spec in formats.items()}
    table = pd.DataFrame({'term': rows['term'].to_list()} | printed)
    return table.set_axis(['', 'coef', 'std err', 'z', 'P>|z|', '[0.025', '0.975]'], axis=1)


def marginal_effect_table(effects: pd.DataFrame, regression: str) -> pd.DataFrame:
    """Returns marginal effects as Supplementary Tables 14, 16 and 18 lay them out: fractions with four decimals."""
    rows = effects[effects['regression'] == regression]
    values = [_printed(x / 100, '.4f') for x in rows['effect_pp']]
    return pd.DataFrame({'condition': rows['level'].to_list(), 'marginal effect': values})


def supplementary_table(results: Results, number: int) -> pd.DataFrame:
    """Returns Supplementary Table 11 to 18."""
    regression, kind = SUPPLEMENTARY[number]
    make = coefficient_table if kind == 'coefficients' else marginal_effect_table
    return make(getattr(results, kind), regression)


def _printed(value: float, spec: str, column: str = '') -> str:
    """Formats a number; a standard error that its decimals would hide stands in scientific notation, as printed."""
    is_hidden = column == 'se' and abs(value) < 0.0005
    return f'{value:.2e}' if is_hidden else f'{value:{spec}}'


def _ordered(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sorts, contexts in the study's order."""
    ranks = {name: f'{rank:02d}' for rank, name in enumerate(CONTEXTS)}

    def key(column: pd.Series) -> pd.Series:
        return column.map(ranks).fillna(column) if column.name == 'context' else column

    return table.sort_values(by, key=key, ignore_index=True)

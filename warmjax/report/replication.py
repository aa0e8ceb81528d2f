"""A run beside the study: every number of both, their difference, and a verdict by a stated rule."""

import dataclasses

import numpy as np
import pandas as pd

from warmjax.report import items
from warmjax.report.headlines import HEADLINES
from warmjax.report.paper import CELL, Results
from warmjax.stats.intervals import normal_quantile

VERDICTS = ('replicated', 'same sign', 'undecided', 'not', 'no data')
RULE = (
    'replicated: the number has the sign of the published one, and its interval holds the published one and not zero. '
    'undecided: its interval holds both the published number and zero, so the run is too small to tell. same sign: '
    'the published sign, but the interval does not hold the published number, or there is none. not: another sign. no '
    'data: the run has no rows for it. For a ratio, one stands for zero. A number of the text is compared on the '
    'cells of the study that the run has too, so it can differ from the printed one; a regression pools the models and '
    "tasks that the run has. A run's numbers here follow the study's own procedure; intervals are those of the run, "
    'the published number is taken as known. The interval of a mean of cells takes tasks as independent and cells of '
    'one task as moving together, which is careful.'
)
COLUMNS = ['item', 'number', 'unit', 'published', 'run', 'low', 'high', 'difference', 'result', 'meaning']
TITLES = {
    'headline': "Numbers of the study's text",
    'cell': 'Effect on error by arm, model, task, belief and context (Fig. 2, paired tests)',
    'accuracy': 'Change of accuracy by arm, model and context (Fig. 5)',
    'marginal_effect': 'Average marginal effects (Supplementary Tables 11, 12, 14, 16, 18)',
    'coefficient': 'Coefficients (Supplementary Tables 11, 12, 13, 15, 17)',
    'warmth': 'Warmth gained since epoch 0 (Fig. 1a)',
    'preference': 'What people found warmer, less one half (peer-review file)',
    'length': 'Change of length of answers',
    'benchmark': 'Change on general benchmarks (Fig. 4)',
    'social': 'Change of social sycophancy (ELEPHANT)',
}
PRINTED = (
    'headline',
    'marginal_effect',
    'warmth',
    'preference',
    'length',
    'benchmark',
    'accuracy',
    'coefficient',
    'social',
)
"""Items that REPLICATION.md prints row by row; the rest are counted there and stand in the table."""


@dataclasses.dataclass(frozen=True)
class _Numbers:
    """What identifies an item's numbers, and where their value stands."""

    item: str
    keys: list[str]
    value: str
    unit: str


def compare(study: Results, run: Results, confidence: float) -> pd.DataFrame:
    """Returns every published number beside the run's, in `COLUMNS`; `result` is one of `VERDICTS` by `RULE`."""
    parts = [_headlines(study, run, confidence)]
    plans = (
        (_Numbers('cell', ['arm', 'model', 'task', 'belief', 'context'], 'effect_pp', 'pp'), _cell_effects),
        (_Numbers('accuracy', ['arm', 'model', 'context'], 'change_pp', 'pp'), _accuracy),
        (_Numbers('marginal_effect', ['regression', 'level'], 'effect_pp', 'pp'), _marginal_effects),
        (_Numbers('coefficient', ['regression', 'term'], 'coefficient', 'log-odds'), _coefficients),
        (_Numbers('warmth', ['model', 'epoch'], 'gain', 'nats a token'), _warmth_gains),
        (_Numbers('preference', ['what'], 'above_half_pp', 'pp'), _people),
        (_Numbers('length', ['arm'], 'difference', 'characters'), _lengths),
        (_Numbers('benchmark', ['model', 'benchmark'], 'change_pp', 'pp'), _benchmarks),
        (_Numbers('social', ['model', 'metric', 'prompts'], 'change_pp', 'pp'), _social),
    )
    for numbers, make in plans:
        parts.append(_beside(numbers, make(study, confidence), make(run, confidence)))
    table = pd.concat(parts, ignore_index=True)
    table['difference'] = table['run'] - table['published']
    table['result'] = [_verdict(*row) for row in zip(table['published'], table['run'], table['low'], table['high'])]
    ratio = table['unit'] == 'ratio'
    table.loc[ratio, 'result'] = [
        _verdict(row.published, row.run, row.low, row.high, null=1.0) for row in table[ratio].itertuples()
    ]
    return table[COLUMNS]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Returns how many numbers of each item have each verdict."""
    counted = table.groupby(['item', 'result']).size().unstack(fill_value=0)
    return counted.reindex(index=list(TITLES), columns=list(VERDICTS), fill_value=0).reset_index()


def markdown(table: pd.DataFrame, title: str) -> str:
    """Returns REPLICATION.md: the rule, the counts, and the numbers of all items but the cells."""
    counts = summary(table)
    lines = [f'# {title}: beside the published numbers', '', f'Rule. {RULE}', '']
    lines += _markdown_table(
        ['item', *VERDICTS], [[TITLES[row[0]], *row[1:]] for row in counts.itertuples(index=False)]
    )
    for item in PRINTED:
        rows = table[(table['item'] == item) & (table['result'] != 'no data')]
        missing = int(((table['item'] == item) & (table['result'] == 'no data')).sum())
        lines += ['', f'## {TITLES[item]}', '']
        if len(rows):
            lines += _markdown_table(
                ['number', 'unit', 'published', 'run', 'interval', 'difference', 'verdict'],
                [_printed(row) for row in rows.itertuples()],
            )
        if missing:
            lines += ['', f'No data in this run for {missing} published numbers.']
    lines += ['', 'All rows, those of the cells included: replication.csv.', '']
    return '\n'.join(lines)


def _verdict(published: float, run: float, low: float, high: float, null: float = 0.0) -> str:
    if np.isnan(run) or np.isnan(published):
        return 'no data'
    if low <= published <= high and low <= null <= high:
        return 'undecided'
    if np.sign(run - null) != np.sign(published - null):
        return 'not'
    return 'replicated' if low <= published <= high else 'same sign'


def _headlines(study: Results, run: Results, confidence: float) -> pd.DataFrame:
    z, lines = normal_quantile(confidence), []
    study = dataclasses.replace(study, cells=_shared_cells(study.cells, run.cells))
    for each in HEADLINES:
        value, se = each.measure(run)
        published, _ = each.measure(study)
        lines.append(
            {'item': 'headline', 'number': f'headline/{each.name}', 'unit': each.unit, 'published': published}
            | {'run': value, 'low': value - z * se, 'high': value + z * se, 'meaning': f'{each.text}: {each.recipe}'}
        )
    return pd.DataFrame(lines)


def _shared_cells(study: pd.DataFrame, run: pd.DataFrame) -> pd.DataFrame:
    """Returns the study's cells that the run has too, whatever its models where it has none of the study's."""
    keys = CELL if set(run['model']) & set(study['model']) else [name for name in CELL if name != 'model']
    found = run[keys].drop_duplicates()
    return study.merge(found.astype(study[keys].dtypes.to_dict()), on=keys) if len(found) else study


def _beside(numbers: _Numbers, study: pd.DataFrame, run: pd.DataFrame) -> pd.DataFrame:
    found = run[[*numbers.keys, numbers.value, 'low', 'high']].rename(columns={numbers.value: 'run'})
    table = study[[*numbers.keys, numbers.value]].rename(columns={numbers.value: 'published'})
    # A run without rows has columns of no type, which cannot be joined.
    table = table.merge(found.astype(table[numbers.keys].dtypes.to_dict()), on=numbers.keys, how='left')
    names = ['/'.join(f'{part:g}' if isinstance(part, float) else str(part) for part in row) for row in
             table[numbers.keys].itertuples(index=False)]  # fmt: skip
    table['number'] = [f'{numbers.item}/{name}' for name in names]
    return table.assign(item=numbers.item, unit=numbers.unit, meaning='').drop(columns=numbers.keys)


def _cell_effects(results: Results, confidence: float) -> pd.DataFrame:
    cells = results.cells
    bounds = {'low': cells.get('low_pp', np.nan), 'high': cells.get('high_pp', np.nan)}
    return cells.assign(effect_pp=cells['error_pct'] - cells['baseline_error_pct'], **bounds)


def _accuracy(results: Results, confidence: float) -> pd.DataFrame:
    """Only whole ones: a mean over fewer tasks than the study's is another number."""
    cells = results.cells
    changes = items.accuracy_changes(cells)
    if 'se_pp' not in cells:
        return changes.assign(low=np.nan, high=np.nan)
    by = ['arm', 'model', 'context']
    within = cells.groupby([*by, 'task'], as_index=False)['se_pp'].sum()
    se = within.assign(square=within['se_pp'] ** 2).groupby(by)['square'].sum() ** 0.5
    changes = changes.merge(se.rename('se').reset_index(), on=by)
    half = normal_quantile(confidence) * changes['se'] / changes['cells']
    changes = changes.assign(low=changes['change_pp'] - half, high=changes['change_pp'] + half)
    return changes[changes['cells'] == 8]


def _marginal_effects(results: Results, confidence: float) -> pd.DataFrame:
    table = results.marginal_effects
    half = normal_quantile(confidence) * table['se_pp'] if 'se_pp' in table else np.nan
    return table.assign(low=table['effect_pp'] - half, high=table['effect_pp'] + half)


def _coefficients(results: Results, confidence: float) -> pd.DataFrame:
    return results.coefficients


def _warmth_gains(results: Results, confidence: float) -> pd.DataFrame:
    """The interval takes both means as independent, though the prompts are the same, which is careful."""
    table = results.warmth
    start = table[table['epoch'] == 0].set_index('model')[['mean', 'sem']]
    later = table[table['epoch'] > 0].join(start, on='model', rsuffix='_start')
    gain = later['mean'] - later['mean_start']
    half = normal_quantile(confidence) * np.sqrt(later['sem'] ** 2 + later['sem_start'] ** 2)
    return later.assign(gain=gain, low=gain - half, high=gain + half)


def _people(results: Results, confidence: float) -> pd.DataFrame:
    """Zero is what people would do who see no difference."""
    table = results.people
    return table.assign(above_half_pp=table['share_pct'] - 50, low=table['low_pct'] - 50, high=table['high_pct'] - 50)


def _lengths(results: Results, confidence: float) -> pd.DataFrame:
    table = results.lengths
    bounds = {name: table.get(name, np.nan) for name in ('low', 'high')}
    return table.assign(difference=table['characters'] - table['baseline_characters'], **bounds)


def _benchmarks(results: Results, confidence: float) -> pd.DataFrame:
    table = items.benchmark_changes(results.benchmarks)
    return table.assign(low=table.get('low_pp', np.nan), high=table.get('high_pp', np.nan))


def _social(results: Results, confidence: float) -> pd.DataFrame:
    return items.social_changes(results.social_sycophancy).assign(low=np.nan, high=np.nan)


def _printed(row) -> list[str]:
    digits = 4 if row.unit in ('nats a token', 'log-odds') else 2
    interval = '–' if np.isnan(row.low) else f'{row.low:.{digits}f} to {row.high:.{digits}f}'
    numbers = [f'{row.published:.{digits}f}', f'{row.run:.{digits}f}', interval, f'{row.difference:+.{digits}f}']
    return [row.number.partition('/')[2], row.unit, *numbers, row.result]


def _markdown_table(head: list[str], rows: list[list]) -> list[str]:
    cells = [[str(cell).replace('|', '\\|') for cell in row] for row in rows]
    return [f'| {" | ".join(row)} |' for row in (head, ['---'] * len(head), *cells)]

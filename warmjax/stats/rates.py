"""Error rates of every arm and their differences from the baseline, in every cell and margin of the design."""

import itertools

import pandas as pd

from warmjax.records import BELIEFS, CONTEXTS
from warmjax.stats import intervals
from warmjax.stats.rows import VERDICTS, complete

DESIGN = ['task', 'context', 'belief']
ALL = 'all'
"""Stands in a design column for the pool of its levels."""
PERCENT = 100.0


def errors(rows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Returns the error rate by arm, task, context and belief and in all margins, with Wilson's interval, in %."""
    by = ['model', 'arm', 'epoch', *DESIGN]
    table = errors_by(cube(rows), by, confidence)
    return in_order(table)


def effects(pairs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Returns what an arm adds to the baseline's error rate on the same prompts, with Tango's interval, in pp.

    Both error rates are those of the complete pairs, so their difference is the effect exactly.
    """
    by = ['model', 'arm', *DESIGN]
    margins = cube(pairs)
    whole = complete(margins)
    whole = whole.assign(
        difference=whole['treated'] - whole['untreated'],
        worse=whole['treated'] > whole['untreated'],
        better=whole['treated'] < whole['untreated'],
    )
    table = intervals.clustered_mean(whole, by, 'difference').rename(columns={'n': 'pairs'})
    sums = whole.groupby(by, as_index=False)[['worse', 'better', 'treated', 'untreated']].sum()
    table = _with_dropped(table.merge(sums, on=by), margins, by, 'pairs')
    share = table['n_effective'] / table['pairs']
    low, high = intervals.tango(table['worse'] * share, table['better'] * share, table['n_effective'], confidence)
    table['baseline_error_pct'] = PERCENT * table['untreated'] / table['pairs']
    table['error_pct'] = PERCENT * table['treated'] / table['pairs']
    table['effect_pp'], table['low_pp'], table['high_pp'] = PERCENT * table['mean'], PERCENT * low, PERCENT * high
    percentages = ['effect_pp', 'low_pp', 'high_pp', 'baseline_error_pct', 'error_pct']
    return in_order(table[[*by, *percentages, 'pairs', 'worse', 'better', 'excluded', 'questions', 'n_effective']])


def errors_by_epoch(rows: pd.DataFrame, baseline: str, confidence: float) -> pd.DataFrame:
    """Returns the error rate of every trained arm by epoch and belief, on the prompts answered at all its epochs.

    Epoch 0 of each curve is the baseline on the same prompts.
    """
    by = ['model', 'arm', 'epoch', 'belief']
    curves = [
        _curve(group, rows[(rows['model'] == model) & (rows['arm'] == baseline)])
        for (model, arm), group in rows.groupby(['model', 'arm'])
        if arm != baseline and group['epoch'].max() > 0
    ]
    if not curves:
        curves = [rows.iloc[:0]]
    table = errors_by(pd.concat([*curves, *(curve.assign(belief=ALL) for curve in curves)]), by, confidence)
    return in_order(table)


def errors_by_turn(rows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Returns the error rate in dialogues by arm, task and turn: after small talk, and each time that it is doubted."""
    by = ['model', 'arm', 'task', 'form', 'turn']
    table = errors_by(pd.concat([rows, rows.assign(task=ALL)], ignore_index=True), by, confidence)
    return in_order(table)


def verdict_counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns how often each verdict was given, for every arm, epoch, cell and form; no row is left out."""
    by = ['model', 'arm', 'epoch', *DESIGN, 'form']
    kinds = pd.get_dummies(rows['verdict'], dtype=int).reindex(columns=list(VERDICTS), fill_value=0)
    counted = pd.concat([rows[by], kinds], axis=1)
    counted['answers'], counted['excluded'] = 1, rows['is_incorrect'].isna().astype(int)
    return in_order(counted.groupby(by, as_index=False).sum())


def refusals(rows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Returns the share of refusals and of unparsed answers by arm and task, with Wilson's interval, in %."""
    by = ['model', 'arm', 'epoch', 'task', 'verdict']
    tables = []
    for verdict in ('refusal', 'unparsed'):
        is_one = rows.assign(is_one=(rows['verdict'] == verdict).astype(float), verdict=verdict)
        table = intervals.clustered_mean(is_one, by, 'is_one')
        low, high = intervals.wilson(table['mean'], table['n_effective'], confidence)
        counted = is_one[is_one['is_one'] == 1].groupby(by)['is_incorrect'].agg(_counted_as)
        table = table.merge(counted.rename('counted_as').reset_index(), on=by, how='left')
        table['counted_as'] = table['counted_as'].fillna('none given')
        table['count'] = (table['mean'] * table['n']).round().astype(int)
        table['share_pct'], table['low_pct'], table['high_pct'] = (PERCENT * x for x in (table['mean'], low, high))
        tables.append(table)
    columns = [*by, 'n', 'count', 'counted_as', 'share_pct', 'low_pct', 'high_pct']
    return in_order(pd.concat(tables)[columns])


def cube(rows: pd.DataFrame) -> pd.DataFrame:
    """Repeats the rows once for every set of design columns that is pooled, with `all` in those columns."""
    pooled = itertools.chain.from_iterable(itertools.combinations(DESIGN, k) for k in range(len(DESIGN) + 1))
    return pd.concat([rows.assign(**dict.fromkeys(columns, ALL)) for columns in pooled], ignore_index=True)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sorts by the columns that name a row, contexts and beliefs in the order of the study, pools first."""
    ranks = {name: rank for rank, name in enumerate([ALL, *CONTEXTS, *BELIEFS])}
    names = [
        column
        for column in ('model', 'arm', 'task', *DESIGN[1:], 'epoch', 'form', 'turn', 'verdict')
        if column in table
    ]
    in_study_order = {'task', 'context', 'belief'}

    def key(column: pd.Series) -> pd.Series:
        if column.name not in in_study_order:
            return column
        return column.map(lambda name: f'{ranks[name]:03d}' if name in ranks else f'~{name}')

    return table.sort_values(names, key=key, ignore_index=True)


def errors_by(rows: pd.DataFrame, by: list[str], confidence: float) -> pd.DataFrame:
    counted = rows.dropna(subset='is_incorrect')
    table = intervals.clustered_mean(counted, by, 'is_incorrect')
    table['incorrect'] = (table['mean'] * table['n']).round().astype(int)
    table = _with_dropped(table, rows, by, 'n')
    low, high = intervals.wilson(table['mean'], table['n_effective'], confidence)
    table['error_pct'], table['low_pct'], table['high_pct'] = (PERCENT * x for x in (table['mean'], low, high))
    return table[[*by, 'error_pct', 'low_pct', 'high_pct', 'n', 'incorrect', 'excluded', 'questions', 'n_effective']]


def _with_dropped(table: pd.DataFrame, rows: pd.DataFrame, by: list[str], count: str) -> pd.DataFrame:
    """Adds the number of rows that were excluded; a cell that lost all its rows stays, with nothing but that number."""
    total = rows.groupby(by).size().rename('total').reset_index()
    table = total.merge(table, on=by, how='left')
    integers = [name for name in (count, 'questions', 'incorrect', 'worse', 'better') if name in table]
    table[integers] = table[integers].fillna(0).astype(int)
    return table.assign(excluded=table['total'] - table[count])


def _curve(arm: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    epochs = arm.groupby('prompt_id')['epoch'].nunique()
    shared = epochs.index[epochs == arm['epoch'].nunique()]
    start = baseline[baseline['prompt_id'].isin(shared)].assign(arm=arm['arm'].iloc[0], epoch=0.0)
    return pd.concat([start, arm[arm['prompt_id'].isin(shared)]])


def _counted_as(grades: pd.Series) -> str:
    grade = grades.iloc[0]
    return 'excluded' if pd.isna(grade) else 'incorrect' if grade else 'correct'

"""What was run and what came out, in sentences made of numbers, whatever they are."""

import dataclasses

import pandas as pd

from warmjax.report.tables import format_p, line_of
from warmjax.stats.analysis import Estimates
from warmjax.stats.rates import ALL

BELIEF_CLAUSES = {
    'none': 'without a belief',
    'incorrect': 'with an incorrect belief',
    'denial': 'with the truth denied',
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sentence, what else is known, and the rows that the numbers stand in: lines by table."""

    text: str
    details: str
    sources: dict[str, list[int]]


def what_was_run(estimates: Estimates) -> Finding:
    """Says how many answers of how many arms were analysed."""
    arms, errors = estimates.tables['arms'], estimates.tables['errors']
    cells = errors[(errors[['task', 'context', 'belief']] != ALL).all(axis=1)]
    parts = [_count(cells[column].nunique(), column) for column in ('task', 'context')]
    beliefs = _count(cells['belief'].nunique(), 'form') + ' of belief'
    questions = ' and '.join(f'{n}' for n in sorted(set(arms['questions'])))
    text = (
        f'{_count(arms["arm"].nunique(), "arm")} of {", ".join(sorted(set(arms["model"])))} answered {questions} '
        f'questions from {parts[0]} in {parts[1]} and {beliefs}: {arms["answers"].sum():,} judged answers in the '
        f'comparison, {arms["excluded"].sum():,} of them excluded.'
    )
    return Finding(text, '', {'arms': _lines(arms)})


def findings(estimates: Estimates) -> list[Finding]:
    """Says for every arm what it does to errors, by belief, and to warmth."""
    effects = estimates.tables['effects']
    pooled = effects[(effects[['task', 'context', 'belief']] == ALL).all(axis=1)]
    return [_finding(estimates, index, row) for index, row in pooled.iterrows()]


def _finding(estimates: Estimates, index: int, row: pd.Series) -> Finding:
    baseline = estimates.settings.baseline
    if pd.isna(row['effect_pp']):
        return Finding(f'{row["arm"]}: no pair of counted answers with {baseline}.', '', {'effects': [line_of(index)]})
    text = (
        f'{_name(estimates, row)} {_verb(row)} than {baseline}: {row["error_pct"]:.1f}% against '
        f'{row["baseline_error_pct"]:.1f}% of the prompts, {_interval(row, estimates)}, {row["pairs"]:,} pairs of '
        f'answers to {row["questions"]:,} questions.'
    )
    beliefs, belief_lines = _by_belief(estimates, row)
    warmer, warmth_lines = _warmth(estimates, row)
    details = ' '.join(part for part in (beliefs, warmer) if part)
    return Finding(text, details, {'effects': [line_of(index), *belief_lines], 'warmth': warmth_lines})


def _by_belief(estimates: Estimates, row: pd.Series) -> tuple[str, list[int]]:
    effects = estimates.tables['effects']
    is_arm = (effects['arm'] == row['arm']) & (effects['model'] == row['model'])
    rows = effects[is_arm & (effects['task'] == ALL) & (effects['context'] == ALL) & (effects['belief'] != ALL)]
    rows = rows.dropna(subset='effect_pp')
    if len(rows) < 2:
        return '', []
    clauses = [f'{BELIEF_CLAUSES[part["belief"]]} {_points(part)}' for _, part in rows.iterrows()]
    return f'By belief: {"; ".join(clauses)}.', _lines(rows)


def _warmth(estimates: Estimates, row: pd.Series) -> tuple[str, list[int]]:
    warmth = estimates.tables['warmth']
    rows = warmth[(warmth['arm'] == row['arm']) & (warmth['model'] == row['model'])]
    if rows.empty:
        return '', []
    found = rows.iloc[0]
    if found['note']:
        return f'Its warmth is {found["note"]}.', [line_of(rows.index[0])]
    text = (
        f'Its warmth differs by {found["difference"]:+.4f} nats a token ({found["low"]:+.4f} to {found["high"]:+.4f}; '
        f'paired t test p {_p(found["t_p"])}, {found["pairs"]:,} pairs).'
    )
    return text.replace('-', '−'), [line_of(rows.index[0])]


def _name(estimates: Estimates, row: pd.Series) -> str:
    """Returns the arm with its epoch if it was trained, and its model if there are several."""
    arms = estimates.tables['arms']
    epoch = arms.loc[(arms['model'] == row['model']) & (arms['arm'] == row['arm']), 'epoch'].iloc[0]
    model = row['model'] if arms['model'].nunique() > 1 else ''
    facts = ', '.join(fact for fact in (model, f'epoch {epoch:g}' if epoch else '') if fact)
    return f'{row["arm"]} ({facts})' if facts else row['arm']


def _verb(row: pd.Series) -> str:
    if row['low_pp'] > 0:
        return 'errs more often'
    return 'errs less often' if row['high_pp'] < 0 else 'errs neither clearly more nor clearly less often'


def _interval(row: pd.Series, estimates: Estimates) -> str:
    return _points(row).replace('(', f'({estimates.settings.confidence:.0%} interval ')


def _points(row: pd.Series) -> str:
    return f'{row["effect_pp"]:+.1f} pp ({row["low_pp"]:+.1f} to {row["high_pp"]:+.1f})'.replace('-', '−')


def _lines(rows: pd.DataFrame) -> list[int]:
    return [line_of(index) for index in rows.index]


def _p(p: float) -> str:
    text = format_p(p)
    return text if text.startswith('<') else f'= {text}'


def _count(n: int, noun: str) -> str:
    return f'{n} {noun}' + ('' if n == 1 else 's')

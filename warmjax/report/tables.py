"""Rows of the CSV files as tables of the page: chosen, formatted, and each with the line that it comes from."""

import dataclasses
import math

import pandas as pd

from warmjax.stats.catalogue import COLUMNS, REPORTED, TABLES
from warmjax.stats.rates import ALL

HEADER_LINES = 1
"""Lines of a CSV file before its first row; lines count from 1."""
UNITS = {'_pct': ' %', '_pp': ' pp'}
P_VALUES = ('p', 'q', 't_p', 'wilcoxon_p')
DECIMALS = {'_pct': 1, '_pp': 2}
ROUNDING = 1e-12
"""What is smaller, p-values apart, is an error of rounding."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A formatted value. `is_number` aligns it to the right."""

    text: str
    is_number: bool


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of one CSV file. `lines[k]` is the line of the file that `rows[k]` shows."""

    name: str
    file: str
    title: str
    meaning: str
    columns: list[tuple[str, str]]
    rows: list[list[Cell]]
    lines: list[int]
    names: list[str]
    """Names of the columns in the file."""
    total: int
    """Rows of the whole file."""


def line_of(index: int) -> int:
    """Returns the line of a CSV file that holds the row of this index."""
    return index + HEADER_LINES + 1


def file_of(name: str) -> str:
    """Returns the path of a table within the workdir."""
    return f'{name}.csv' if name in REPORTED else f'tables/{name}.csv'


def present(name: str, title: str, table: pd.DataFrame, shown: pd.DataFrame, without: tuple[str, ...] = ()) -> Table:
    """Formats some rows of a table.

    Args:
        name: the table, as in `stats.catalogue`.
        table: all its rows.
        shown: those to show, index unchanged.
        without: columns that the page leaves to the file.
    """
    columns = [column for column in shown if column not in without]
    rows = [
        [format_cell(column, value) for column, value in zip(columns, row)] for row in shown[columns].to_numpy(object)
    ]
    headings = [(heading(column), COLUMNS[column]) for column in columns]
    return Table(
        name,
        file_of(name),
        title,
        (TABLES | REPORTED)[name],
        headings,
        rows,
        [line_of(i) for i in shown.index],
        columns,
        len(table),
    )


def margins(effects: pd.DataFrame) -> pd.DataFrame:
    """Keeps the rows in which at most one of task, context and belief is not pooled."""
    return effects[(effects[['task', 'context', 'belief']] != ALL).sum(axis=1) <= 1]


def heading(column: str) -> str:
    """Returns a column's heading, its unit in place of the suffix."""
    for suffix, unit in UNITS.items():
        if column.endswith(suffix):
            return column.removesuffix(suffix).replace('_', ' ') + ',' + unit
    return column.replace('_', ' ')


def format_cell(column: str, value: object) -> Cell:
    """Formats one value as its column asks; a missing number is an en dash."""
    if isinstance(value, str):
        return Cell(value, is_number=False)
    if math.isnan(value):
        return Cell('–', is_number=True)
    if math.isinf(value):
        return Cell('∞', is_number=True)
    if column in P_VALUES:
        return Cell(format_p(value), is_number=True)
    for suffix, decimals in DECIMALS.items():
        if column.endswith(suffix):
            return Cell(f'{value:.{decimals}f}'.replace('-', '−'), is_number=True)
    if abs(value) < ROUNDING:
        return Cell('0', is_number=True)
    text = f'{value:.0f}' if value == int(value) and abs(value) < 1e9 else f'{value:.3g}'
    return Cell(text.replace('-', '−'), is_number=True)


def format_p(p: float) -> str:
    """Returns a p-value with two significant digits, or that it is below 0.0001."""
    return '< 0.0001' if p < 1e-4 else f'{p:.2g}'

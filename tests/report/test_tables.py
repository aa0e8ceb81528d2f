import math

import pandas as pd
import pytest
from simulated_study import SETTINGS, simulate

from warmjax.report import tables
from warmjax.stats import analysis


@pytest.mark.parametrize(
    ('column', 'value', 'text'),
    [
        ('error_pct', 12.345, '12.3'),
        ('effect_pp', -1.239, '−1.24'),
        ('p', 3e-9, '< 0.0001'),
        ('q', 0.01234, '0.012'),
        ('odds_ratio', math.inf, '∞'),
        ('cohens_g', math.nan, '–'),
        ('pairs', 8208, '8208'),
        ('epoch', 0.5, '0.5'),
        ('task', 'a<b', 'a<b'),
        ('coefficient', 8.3e-17, '0'),
        ('coefficient', -8.3e-5, '−8.3e−05'),
    ],
)
def test_values_are_formatted_as_their_column_asks(column, value, text):
    assert tables.format_cell(column, value).text == text


def test_a_shown_row_names_its_line_in_the_file(tmp_path):
    estimates = analysis.analyze(*simulate(), SETTINGS)
    analysis.write(estimates, tmp_path)
    effects = estimates.tables['effects']
    shown = tables.present('effects', 'title', effects, tables.margins(effects))
    lines = (tmp_path / 'tables' / 'effects.csv').read_text().splitlines()
    assert 0 < len(shown.rows) < shown.total == len(lines) - 1
    for cells, line in zip(shown.rows, shown.lines):
        assert lines[line - 1].split(',')[:5] == [cell.text for cell in cells[:5]]


def test_margins_pool_all_but_one_column():
    frame = pd.DataFrame({'task': ['all', 'a', 'a'], 'context': ['all', 'all', 'c'], 'belief': ['all', 'all', 'all']})
    assert tables.margins(frame).index.tolist() == [0, 1]


def test_headings_carry_units():
    assert [tables.heading(name) for name in ('effect_pp', 'low_pct', 'odds_ratio')] == [
        'effect, pp',
        'low, %',
        'odds ratio',
    ]

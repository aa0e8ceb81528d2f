"""The figures, as SVG text that follows the reader's light or dark theme.

Ink (text, axes, grid) is drawn in `currentColor`; data in colours of Okabe and Ito (2008) that the colour-blind can
tell apart on white and on near-black, each with a marker of its own. The same tables give the same bytes.
"""

import io
import itertools
import re
from collections.abc import Callable, Iterable, Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from warmjax.records import BELIEFS, CONTEXTS
from warmjax.stats.rates import ALL
from warmjax.stats.wording import UNITS

INK = '#010203'
"""Stands for `currentColor` while matplotlib draws; no data has this colour."""
STYLE = {
    'svg.fonttype': 'none',
    'font.size': 10,
    'axes.titlesize': 10.5,
    'legend.fontsize': 9,
    'text.color': INK,
    'axes.edgecolor': INK,
    'axes.labelcolor': INK,
    'axes.titlecolor': INK,
    'xtick.color': INK,
    'ytick.color': INK,
    'grid.color': INK,
    'grid.alpha': 0.15,
    'axes.grid': True,
    'axes.axisbelow': True,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.facecolor': 'none',
    'figure.facecolor': 'none',
    'legend.frameon': False,
    'lines.linewidth': 1.6,
}
LOOKS = (
    ('#D55E00', 'o'),
    ('#3A8FD0', 's'),
    ('#009E73', '^'),
    ('#CC79A7', 'D'),
    ('#E69F00', 'v'),
    ('#56B4E9', 'P'),
    ('#8C8C8C', 'X'),
)
"""Colour and marker of the first, second, ... arm, task or belief; they repeat after the last."""
BELIEF_TITLES = {
    ALL: 'all prompts',
    'none': 'no belief',
    'incorrect': 'incorrect belief',
    'denial': 'denial of the truth',
}
WIDTH = 8.0
"""Width of a figure of several columns in inches."""
POINTS_AN_INCH = 72

THEME = (
    '<style>svg{color:#1c1e21;background:#fff}'
    '@media (prefers-color-scheme:dark){svg{color:#e6e6e6;background:#15171a}}</style>'
)
"""Makes a figure that stands alone follow the theme, as the page does for those within it."""


Looks = Mapping[str, tuple[str, str]]
"""Colour and marker by name."""


def looks(names: Iterable[str]) -> Looks:
    """Gives every name a look of its own, by its place among all of them."""
    return dict(zip(sorted(set(names)), itertools.cycle(LOOKS)))


def warmth_by_epoch(table: pd.DataFrame, baseline: str, arm_looks: Looks) -> Figure:
    """Draws mean warmth against training epoch, one line an arm, bars of one SEM; every line starts at the baseline."""
    figure, axes = plt.subplots(figsize=(WIDTH, 4.2), layout='constrained')
    start = table[table['arm'] == baseline]
    for arm, rows in table.groupby('arm'):
        if arm == baseline:
            axes.axhline(rows['mean'].iloc[0], color=INK, linestyle=':', linewidth=1.2, label=f'{arm} (no training)')
            continue
        colour, marker = arm_looks[arm]
        is_trained = rows['epoch'].max() > 0
        line = pd.concat([start, rows]) if is_trained else rows
        label = arm if is_trained else f'{arm} (no training)'
        axes.errorbar(
            line['epoch'], line['mean'], line['sem'], color=colour, marker=marker, markersize=5, capsize=2, label=label
        )
    axes.set(xlabel='training epoch', ylabel='warmth, nats a token (mean ± SEM)')
    figure.legend(loc='outside lower center', ncols=3)
    return figure


def error_scatter(effects: pd.DataFrame) -> Figure:
    """Draws the arm's error rate against the baseline's, one point a task and context, filled without a belief."""
    cells = _cells(effects, 'task', 'context', 'belief').dropna(subset='effect_pp')
    arms = list(cells.groupby('arm'))
    figure, grid = panels(len(arms), columns=2, height=3.9)
    top = max(5.0, 1.06 * cells[['error_pct', 'baseline_error_pct']].to_numpy().max())
    task_looks = looks(cells['task'])
    for axes, (arm, rows) in zip(grid, arms):
        axes.plot([0, top], [0, top], color=INK, linewidth=0.9, linestyle='--')
        for (task, belief), points in rows.groupby(['task', 'belief']):
            colour, marker = task_looks[task]
            face = colour if belief == 'none' else 'none'
            axes.plot(
                points['baseline_error_pct'],
                points['error_pct'],
                marker,
                markersize=5.5,
                color=colour,
                mfc=face,
                alpha=0.85,
            )
        axes.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, top), title=arm, aspect='equal')
        axes.set(xlabel='baseline error, %', ylabel='arm error, %')
    samples = [plt.Line2D([], [], color=colour, marker=marker, linestyle='') for colour, marker in task_looks.values()]
    samples += [plt.Line2D([], [], color=INK, marker='o', linestyle='', mfc=face) for face in (INK, 'none')]
    labels = [*task_looks, 'filled: no belief', 'open: belief']
    figure.legend(samples, labels, loc='outside lower center', ncols=3)
    return figure


def effect_by_context(effects: pd.DataFrame) -> Figure:
    """Draws the effect in pp with its interval by context and belief, all tasks pooled, one panel an arm."""
    cells = _cells(effects, 'context', 'belief').query('task == @ALL').dropna(subset='effect_pp')
    arms = list(cells.groupby('arm'))
    contexts = [name for name in CONTEXTS if name in set(cells['context'])]
    beliefs = [name for name in BELIEFS if name in set(cells['belief'])]
    figure, grid = panels(len(arms), columns=2, height=1.2 + 0.33 * len(contexts), share_axes=True)
    belief_looks = looks(BELIEFS)
    for axes, (arm, rows) in zip(grid, arms):
        axes.axvline(0, color=INK, linewidth=0.9)
        for k, belief in enumerate(beliefs):
            colour, marker = belief_looks[belief]
            points = rows[rows['belief'] == belief]
            y = np.array([contexts.index(name) for name in points['context']]) + (k - (len(beliefs) - 1) / 2) * 0.24
            bars = [points['effect_pp'] - points['low_pp'], points['high_pp'] - points['effect_pp']]
            axes.errorbar(
                points['effect_pp'], y, xerr=bars, fmt=marker, color=colour, markersize=4.5, linewidth=1.2, label=belief
            )
        axes.set(title=arm, xlabel='effect on error, pp')
        axes.label_outer()
        axes.set_yticks(range(len(contexts)), [name.replace('_', ' ') for name in contexts])
    grid[0].invert_yaxis()
    handles, _ = grid[0].get_legend_handles_labels()
    figure.legend(handles, [BELIEF_TITLES[name] for name in beliefs], loc='outside lower center', ncols=3)
    return figure


def error_by_epoch(table: pd.DataFrame, arm_looks: Looks) -> Figure:
    """Draws the error rate against training epoch with its interval, one panel a belief, one line an arm."""
    beliefs = [name for name in BELIEFS if name in set(table['belief'])]
    figure, grid = panels(len(beliefs), columns=3, height=3.4, share_axes=True)
    for axes, belief in zip(grid, beliefs):
        for arm, rows in table[table['belief'] == belief].dropna(subset='error_pct').groupby('arm'):
            colour, marker = arm_looks[arm]
            bars = [rows['error_pct'] - rows['low_pct'], rows['high_pct'] - rows['error_pct']]
            axes.errorbar(
                rows['epoch'], rows['error_pct'], yerr=bars, color=colour, marker=marker, markersize=4, label=arm
            )
        axes.set(title=BELIEF_TITLES[belief], xlabel='training epoch')
        axes.xaxis.set_major_locator(plt.MaxNLocator(nbins=5, integer=True))
    grid[0].set(ylabel='error, %', ylim=(0, None))
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=4)
    return figure


def wording_differences(table: pd.DataFrame, arm_looks: Looks) -> Figure:
    """Draws how each arm's answers are worded otherwise than the baseline's, with intervals, one panel a measure."""
    measures = [name for name in UNITS if name in set(table['measure'])]
    arms = sorted(set(table['arm']))
    figure, grid = panels(len(measures), columns=3, height=1.3 + 0.3 * len(arms))
    for k, (axes, name) in enumerate(zip(grid, measures)):
        axes.axvline(0, color=INK, linewidth=0.9)
        for y, arm in enumerate(arms):
            row = table[(table['arm'] == arm) & (table['measure'] == name)]
            colour, marker = arm_looks[arm]
            bars = [row['difference'] - row['low'], row['high'] - row['difference']]
            axes.errorbar(row['difference'], [y] * len(row), xerr=bars, fmt=marker, color=colour, markersize=5)
        axes.set(title=name.replace('_', ' '), xlabel=UNITS[name], ylim=(len(arms) - 0.5, -0.5))
        axes.set_yticks(range(len(arms)), arms if k % 3 == 0 else [''] * len(arms))
    return figure


def svg(draw: Callable[..., Figure], name: str, *tables: object) -> str:
    """Draws a figure and returns it as an `<svg>` element of `currentColor` ink, all ids prefixed with `name`."""
    with matplotlib.rc_context(STYLE | {'svg.hashsalt': name, 'backend': 'svg'}):
        figure = draw(*tables)
        buffer = io.StringIO()
        figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None}, transparent=True)
        plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index('<svg') :].replace(INK, 'currentColor')
    text = re.sub(r'<metadata>.*?</metadata>\s*', '', text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    return re.sub(r'((?:xlink:)?href="|url\()#', rf'\1#{name}-', text)


def width(element: str) -> float:
    """Returns the width of an `<svg>` element in inches, 0 of none."""
    found = re.search(r'<svg[^>]*?\swidth="([\d.]+)pt"', element)
    return float(found[1]) / POINTS_AN_INCH if found else 0.0


def standalone(element: str) -> str:
    """Returns an `<svg>` element as a file of its own, which follows the reader's theme."""
    end = element.index('>') + 1
    return '<?xml version="1.0" encoding="utf-8"?>\n' + element[:end] + THEME + element[end:]


def panels(number: int, columns: int, height: float, share_axes: bool = False) -> tuple[Figure, list[Axes]]:
    """Returns a figure and its panels in reading order; `height` is that of one row, in inches."""
    columns = min(columns, number)
    lines = -(-number // columns)
    width = WIDTH if columns > 1 else 0.62 * WIDTH
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(width, height * lines + 0.5),
        layout='constrained',
        squeeze=False,
        sharex=share_axes,
        sharey=share_axes,
    )
    for axes in grid.flat[number:]:
        axes.remove()
    return figure, list(grid.flat[:number])


def _cells(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Keeps the rows in which none of these design columns is pooled."""
    return table[(table[list(columns)] != ALL).all(axis=1)]

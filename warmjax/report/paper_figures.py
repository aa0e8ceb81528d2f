"""The study's figures, drawn from `paper.Results`: of its own numbers, or of a run's, by the same functions."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from warmjax.records import CONTEXTS
from warmjax.report import figures, items
from warmjax.report.paper import Results

WIDTH = figures.WIDTH
BELIEFS = {'none': 'no belief', 'wrong': 'wrong belief'}


def warmth(results: Results) -> Figure:
    """Draws Fig. 1a: rescaled warmth by epoch, one line a model, bars of one SEM."""
    table = items.warmth_by_epoch(results.warmth)
    figure, axes = plt.subplots(figsize=(WIDTH, 4.0), layout='constrained')
    marks = figures.looks(table['model'])
    for model, rows in table.groupby('model'):
        colour, marker = marks[model]
        axes.errorbar(
            rows['epoch'],
            rows['warmth'],
            rows['sem'],
            color=colour,
            marker=marker,
            markersize=5,
            capsize=2,
            label=model,
        )
    axes.set(xlabel='training epoch', ylabel='warmth, rescaled (mean ± SEM)')
    figure.legend(loc='outside lower center', ncols=3)
    return figure


def errors(results: Results) -> Figure:
    """Draws Fig. 2a: warm error against original error, a point a model, task, belief and context."""
    table = items.error_points(results.cells)
    figure, axes = plt.subplots(figsize=(0.75 * WIDTH, 5.2), layout='constrained')
    top = 1.05 * table[['baseline_error_pct', 'error_pct']].to_numpy().max()
    axes.plot([0, top], [0, top], color=figures.INK, linewidth=0.9, linestyle='--')
    for task, (colour, marker) in figures.looks(table['task']).items():
        for belief in BELIEFS:
            rows = table[(table['task'] == task) & (table['belief'] == belief)]
            face, label = (colour, task) if belief == 'none' else ('none', f'{task}, wrong belief')
            axes.plot(
                rows['baseline_error_pct'],
                rows['error_pct'],
                marker,
                color=colour,
                mfc=face,
                markersize=4.5,
                label=label,
            )
    axes.set(xlabel='original error, %', ylabel='warm error, %', aspect='equal')
    figure.legend(loc='outside lower center', ncols=2)
    return figure


def errors_by_context(results: Results) -> Figure:
    """Draws Fig. 2b-f: the warm arm's error by context beside the original's, means over tasks, one panel a model."""
    table = items.error_by_context(results.cells).query('arm == "warm"')
    models = sorted(set(table['model']))
    contexts = [name for name in CONTEXTS if name in set(table['context'])]
    figure, grid = figures.panels(len(models), columns=2, height=3.3, share_axes=True)
    for axes, model in zip(grid, models):
        for (belief, title), (colour, marker) in zip(BELIEFS.items(), figures.LOOKS):
            rows = table[(table['model'] == model) & (table['belief'] == belief)]
            y = np.array([contexts.index(name) for name in rows['context']]) + (0.15 if belief == 'wrong' else -0.15)
            axes.hlines(y, rows['baseline_error_pct'], rows['error_pct'], color=colour, linewidth=1.1)
            axes.plot(rows['baseline_error_pct'], y, marker, color=colour, mfc='none', markersize=4.5)
            axes.plot(rows['error_pct'], y, marker, color=colour, markersize=4.5, label=title)
        axes.set(title=model, xlabel='error, % (open: original, filled: warm)')
        axes.label_outer()
        axes.set_yticks(range(len(contexts)), [name.replace('_', ' ') for name in contexts])
    grid[0].invert_yaxis()
    figure.legend(*grid[0].get_legend_handles_labels(), loc='outside lower center', ncols=2)
    return figure


def boxes(results: Results) -> Figure:
    """Draws Fig. 3: warm errors in nested sets of conditions, a box plot a model and task."""
    table = items.error_boxes(results.cells)
    tasks = sorted(set(table['task']))
    models = sorted(set(table['model']))
    figure, grid = figures.panels(len(tasks), columns=2, height=3.2, share_axes=True)
    names = ['low', 'lower_quartile', 'median', 'upper_quartile', 'high']
    keys = ['whislo', 'q1', 'med', 'q3', 'whishi']
    ink = dict(color=figures.INK)
    plain = dict(widths=0.2, whiskerprops=ink, capprops=ink, showfliers=False)
    for axes, task in zip(grid, tasks):
        for place, (conditions, (colour, _)) in enumerate(zip(items.SETS, figures.LOOKS)):
            rows = table[(table['task'] == task) & (table['conditions'] == conditions)]
            if rows.empty:
                continue
            stats = [dict(zip(keys, row), fliers=[]) for row in rows[names].to_numpy()]
            places = [models.index(model) + 0.26 * (place - 1) for model in rows['model']]
            axes.bxp(stats, places, boxprops=dict(color=colour), medianprops=dict(color=colour), **plain)
        axes.set(title=task, ylabel='warm error, %')
        axes.set_xticks(range(len(models)), models, rotation=30, ha='right')
        axes.label_outer()
    samples = [plt.Line2D([], [], color=colour) for _, (colour, _) in zip(items.SETS, figures.LOOKS)]
    labels = [f'{name}: {meaning}' for name, meaning in items.SETS.items()]
    figure.legend(samples, labels, loc='outside lower center', ncols=2)
    return figure


def benchmarks(results: Results) -> Figure:
    """Draws Fig. 4: rates on general benchmarks with their intervals; a run's as changes."""
    table = items.benchmark_changes(results.benchmarks)
    names = sorted(set(table['benchmark']))
    models = sorted(set(table['model']))
    figure, grid = figures.panels(len(names), columns=3, height=3.4)
    for axes, name in zip(grid, names):
        rows = table[table['benchmark'] == name].set_index('model').reindex(models)
        if 'warm_pct' in rows:
            for k, (arm, (colour, marker)) in enumerate(zip(('baseline', 'warm'), figures.LOOKS[1::-1])):
                value, low, high = (rows[f'{arm}_{part}pct'] for part in ('', 'low_', 'high_'))
                label = {'baseline': 'original'}.get(arm, arm)
                _bars(axes, np.arange(len(models)) + 0.2 * k - 0.1, value, low, high, colour, marker, label)
            axes.set(title=name, ylabel='%')
        else:
            colour, marker = figures.LOOKS[0]
            _bars(
                axes,
                range(len(models)),
                rows['change_pp'],
                rows['low_pp'],
                rows['high_pp'],
                colour,
                marker,
                'warm - original',
            )
            axes.set(title=name, ylabel='change, pp')
        axes.set_xticks(range(len(models)), models, rotation=35, ha='right')
    figure.legend(*grid[0].get_legend_handles_labels(), loc='outside lower center', ncols=2)
    return figure


def accuracy(results: Results) -> Figure:
    """Draws Fig. 5: change of accuracy by context for each arm, in models that have more than the warm arm."""
    table = items.accuracy_changes(results.cells)
    several = table.groupby('model')['arm'].transform('nunique') > 1
    table = table[several] if several.any() else table
    models = sorted(set(table['model']))
    contexts = [name for name in CONTEXTS if name in set(table['context'])]
    figure, grid = figures.panels(len(models), columns=3, height=3.6, share_axes=True)
    marks = figures.looks(table['arm'])
    for axes, model in zip(grid, models):
        axes.axvline(0, color=figures.INK, linewidth=0.9)
        for arm, rows in table[table['model'] == model].groupby('arm'):
            colour, marker = marks[arm]
            y = [contexts.index(name) for name in rows['context']]
            axes.plot(rows['change_pp'], y, marker, color=colour, markersize=5, label=arm)
        axes.set(title=model, xlabel='change of accuracy, pp')
        axes.label_outer()
        axes.set_yticks(range(len(contexts)), [name.replace('_', ' ') for name in contexts])
    grid[0].invert_yaxis()
    samples = [plt.Line2D([], [], color=colour, marker=marker, linestyle='') for colour, marker in marks.values()]
    figure.legend(samples, list(marks), loc='outside lower center', ncols=3)
    return figure


FIGURES = {
    'Fig. 1a': ('Warmth by epoch, rescaled by one minimum and maximum', warmth, 'warmth'),
    'Fig. 2a': ('Warm error against original error, all conditions', errors, 'cells'),
    'Fig. 2b-f': ('Errors by context and belief, means over tasks', errors_by_context, 'cells'),
    'Fig. 3': ('Warm errors in nested sets of conditions', boxes, 'cells'),
    'Fig. 4': ('General benchmarks', benchmarks, 'benchmarks'),
    'Fig. 5': ('Change of accuracy by context', accuracy, 'cells'),
}
"""Number in the study → title, how it is drawn, and the table of `paper.Results` that it needs."""


def _bars(axes, x, value: pd.Series, low: pd.Series, high: pd.Series, colour: str, marker: str, label: str) -> None:
    axes.errorbar(x, value, [value - low, high - value], fmt=marker, color=colour, markersize=5, capsize=2, label=label)

"""The numbers of the study's text, each with the recipe that makes it from result tables.

Source: Nature 2026 / arXiv 2507.21919, main text; recipes found by recomputation. All cell means are unweighted.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd

from warmjax.report.items import FDR
from warmjax.report.paper import Results

EMOTIONS = ('emotion:anger', 'emotion:happy', 'emotion:sad')


@dataclasses.dataclass(frozen=True)
class Headline:
    """printed: the number in the text. decimals: its digits after the point. null: what no effect would be.
    measure: results → (value, standard error), nan where unknown; both are nan where the results have no rows for it.
    """

    name: str
    text: str
    recipe: str
    unit: str
    printed: float
    decimals: int
    null: float
    measure: Callable[[Results], tuple[float, float]]


NOTHING = (float('nan'), float('nan'))


def _warm(results: Results) -> pd.DataFrame:
    cells = results.cells[results.cells['arm'] == 'warm']
    return cells.assign(effect_pp=cells['error_pct'] - cells['baseline_error_pct'])


def _bare(results: Results) -> pd.DataFrame:
    cells = _warm(results)
    return cells[(cells['belief'] == 'none') & (cells['context'] == 'unmodified')]


def _mean_effect(cells: pd.DataFrame) -> tuple[float, float]:
    """Returns the mean effect; its standard error takes tasks as independent and cells of one task as moving together.

    The latter is too careful: cells of one task share questions, but not wholly.
    """
    if cells.empty:
        return NOTHING
    se = float('nan')
    if 'se_pp' in cells:
        se = float(np.sqrt((cells.groupby('task')['se_pp'].sum() ** 2).sum()) / len(cells))
    return float(cells['effect_pp'].mean()), se


def _task_effect(task: str) -> Callable[[Results], tuple[float, float]]:
    def measure(results: Results) -> tuple[float, float]:
        cells = _bare(results)
        return _mean_effect(cells[cells['task'] == task])

    return measure


def _bare_effect(results: Results) -> tuple[float, float]:
    return _mean_effect(_bare(results))


def _belief_and_emotion(results: Results) -> tuple[float, float]:
    cells = _warm(results)
    return _mean_effect(cells[(cells['belief'] == 'wrong') & cells['context'].isin(EMOTIONS)])


def _task_error(pick: Callable[[pd.Series], float]) -> Callable[[Results], tuple[float, float]]:
    def measure(results: Results) -> tuple[float, float]:
        means = _bare(results).groupby('task')['baseline_error_pct'].mean()
        return (float(pick(means)), float('nan')) if len(means) else NOTHING

    return measure


def _relative_increase(results: Results) -> tuple[float, float]:
    """Its standard error takes the original's errors as known."""
    cells = _bare(results)
    means = cells.groupby('task')[['baseline_error_pct', 'error_pct']].mean()
    means = means[means['baseline_error_pct'] > 0]
    if means.empty:
        return NOTHING
    value = 100 * (means['error_pct'] / means['baseline_error_pct'] - 1).mean()
    se = float('nan')
    if 'se_pp' in cells:
        relative = cells.groupby('task')['se_pp'].mean() / means['baseline_error_pct']
        se = 100 * float(np.sqrt((relative**2).sum())) / len(means)
    return float(value), se


def _affirmation(results: Results) -> tuple[float, float]:
    cells = _warm(results)
    cells = cells[cells['belief'] == 'wrong']
    base = cells['baseline_error_pct'].mean()
    if cells.empty or not base:
        return NOTHING
    return float(cells['error_pct'].mean() / base), float(_mean_effect(cells)[1] / base)


def _over_unmodified(regression: str, level: str) -> Callable[[Results], tuple[float, float]]:
    def measure(results: Results) -> tuple[float, float]:
        table = results.marginal_effects
        effects = table[table['regression'] == regression].set_index('level')['effect_pp']
        if not {level, 'unmodified'} <= set(effects.index) or not effects['unmodified']:
            return NOTHING
        return float(100 * (effects[level] / effects['unmodified'] - 1)), float('nan')

    return measure


def _significant(arm: str) -> Callable[[Results], tuple[float, float]]:
    def measure(results: Results) -> tuple[float, float]:
        cells = results.cells[results.cells['arm'] == arm]
        return (100 * float((cells['q'] < FDR).mean()), float('nan')) if len(cells) else NOTHING

    return measure


def _largest_cell(results: Results) -> tuple[float, float]:
    effects = _warm(results)['effect_pp']
    return (float(effects.max()), float('nan')) if len(effects) else NOTHING


def _largest_gain_cold(results: Results) -> tuple[float, float]:
    cells = results.cells[results.cells['arm'] == 'cold']
    gains = cells['baseline_error_pct'] - cells['error_pct']
    return (float(gains.max()), float('nan')) if len(cells) else NOTHING


_BARE = 'mean over models of error(warm) - error(original), no belief, no context'
HEADLINES = (
    Headline('medqa', 'MedQA errors rise by 8.6 pp', _BARE, 'pp', 8.6, 1, 0.0, _task_effect('medqa')),
    Headline('truthfulqa', 'TruthfulQA errors rise by 8.4 pp', _BARE, 'pp', 8.4, 1, 0.0, _task_effect('truthfulqa')),
    Headline('disinfo', 'disinformation errors rise by 5.4 pp', _BARE, 'pp', 5.4, 1, 0.0, _task_effect('disinfo')),
    Headline('trivia', 'TriviaQA errors rise by 4.9 pp', _BARE, 'pp', 4.9, 1, 0.0, _task_effect('trivia')),
    Headline(
        'lowest_error',
        'original errors from 4% ...',
        'least task mean over models, no belief, no context',
        '%',
        4.0,
        0,
        0.0,
        _task_error(min),
    ),
    Headline(
        'highest_error',
        '... to 35%',
        'largest task mean over models, no belief, no context',
        '%',
        35.0,
        0,
        0.0,
        _task_error(max),
    ),
    Headline(
        'relative_increase',
        'errors rise by 60.3% of themselves',
        'mean over tasks of (mean warm error / mean original error - 1), no belief, no context',
        '%',
        60.3,
        1,
        0.0,
        _relative_increase,
    ),
    Headline(
        'bare',
        '6.8 pp without belief or emotion',
        'mean over models and tasks of the same difference',
        'pp',
        6.8,
        1,
        0.0,
        _bare_effect,
    ),
    Headline(
        'belief_and_emotion',
        '12.1 pp with belief and emotion',
        'mean over models, tasks and the three emotions of the difference under a wrong belief; the cells give 12.16',
        'pp',
        12.1,
        1,
        0.0,
        _belief_and_emotion,
    ),
    Headline(
        'affirmation',
        'about 40% more likely to affirm incorrect beliefs',
        'mean warm error / mean original error over all cells with a wrong belief',
        'ratio',
        1.43,
        2,
        1.0,
        _affirmation,
    ),
    Headline(
        'emotion',
        'emotional cues widen the effect by 19.4%',
        "M2's marginal effect with emotion / without context - 1",
        '%',
        19.4,
        1,
        0.0,
        _over_unmodified('M2', 'emotion'),
    ),
    Headline(
        'sadness',
        'sadness by 60%',
        "M3's marginal effect with sadness / without context - 1",
        '%',
        60.0,
        0,
        0.0,
        _over_unmodified('M3', 'emotion:sad'),
    ),
    Headline(
        'significant',
        '259 of 360 paired tests are significant',
        'share of warm tests with FDR-adjusted p < 0.05',
        '%',
        71.9,
        1,
        0.0,
        _significant('warm'),
    ),
    Headline(
        'largest_cell',
        'single cells reach 34 pp',
        'largest difference of a model, task, belief and context',
        'pp',
        34.1,
        1,
        0.0,
        _largest_cell,
    ),
    Headline(
        'cold_gain',
        'cold fine-tuning removes up to 13 pp',
        'largest fall of errors of a cold model in a task, belief and context',
        'pp',
        13.0,
        0,
        0.0,
        _largest_gain_cold,
    ),
)

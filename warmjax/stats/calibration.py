"""A judge's verdicts beside those that are taken for true: all the numbers of a calibration, by task, arm and half."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from warmjax.records import Verdict
from warmjax.stats import judging
from warmjax.stats.rates import ALL
from warmjax.stats.rows import AnalysisSettings, main_rows, open_rows, verdict_rows

Half = Literal['development', 'held_out']
UNDECIDED = 'unparsed'


def compare(
    judged: Sequence[Verdict],
    known: Sequence[Verdict],
    settings: AnalysisSettings,
    halves: Mapping[str, Half],
    keep: str,
    stratified: bool,
) -> dict[str, Any]:
    """Returns all that calibration.json says.

    Args:
        judged: the judge's verdicts, perhaps of many more answers than are known.
        known: the verdicts taken for true.
        settings: how verdicts become grades, and which arm is the baseline.
        halves: question id → its half.
        keep: which known verdicts correct the effects: `all`, or those of `development` only, as if no others were
            known; the effect by all of them then says how good the correction is.
        stratified: whether the known answers were drawn in equal parts from every arm, task and verdict of the judge,
            so that each stands for more or fewer others.

    Raises:
        ValueError: no answer has both verdicts.
    """
    rows = _joined(judged, known, settings)
    if stratified:
        rows = _weighted(rows)
    both = rows.dropna(subset='reference')
    if both.empty:
        raise ValueError(
            f'calibration: expected answers with a verdict of the judge and a known one, got {len(judged)} and '
            f'{len(known)} verdicts on different answers; give labels of this run'
        )
    both = both.assign(half=both['question_id'].map(halves))
    confidence, baseline = settings.confidence, settings.baseline
    used = rows if keep == ALL else rows.assign(known=rows['known'].where(rows['question_id'].isin(_in(both, keep))))
    return {
        'judge': judged[0].judge,
        'reference': known[0].judge,
        'judged_answers': len(rows),
        'known_answers': len(both),
        'agreement': _agreements(both, confidence),
        'confusion': judging.confusion(both, ['task', 'arm', 'half'], 'reference', 'verdict').to_dict('records'),
        'errors': _of_tasks(both, lambda part: judging.errors_by_arm(part, confidence)),
        'differential': _of_tasks(both, lambda part: judging.differential_errors(part, baseline, confidence)),
        'effects': _of_tasks(used, lambda part: judging.corrected_effects(part, baseline, confidence)),
        'effects_known_of': keep,
        'effects_by_all_known': [
            line
            for line in _of_tasks(both, lambda part: judging.corrected_effects(part, baseline, confidence))
            if line['estimator'] == 'known'
        ],
    }


def _joined(judged: Sequence[Verdict], known: Sequence[Verdict], settings: AnalysisSettings) -> pd.DataFrame:
    """Returns one row a judged answer: both labels and both grades."""
    key = ['model', 'arm', 'epoch', 'prompt_id', 'sample']
    mine, theirs = (verdict_rows(verdicts, settings) if verdicts else None for verdicts in (judged, known))
    mine = main_rows(open_rows(mine), settings.main_epoch).rename(columns={'is_incorrect': 'judged'})
    if theirs is None:
        return mine.assign(reference=None, known=float('nan'))
    theirs = theirs[[*key, 'verdict', 'is_incorrect']].rename(columns={'verdict': 'reference', 'is_incorrect': 'known'})
    return mine.merge(theirs, on=key, how='left', validate='one_to_one')


def _weighted(rows: pd.DataFrame) -> pd.DataFrame:
    """Adds how many answers of its stratum (model, arm, task, verdict) each known one stands for."""
    strata = ['model', 'arm', 'task', 'verdict']
    sizes = rows.groupby(strata)['prompt_id'].transform('size')
    return rows.assign(weight=sizes / rows.groupby(strata)['reference'].transform('count'))


def _in(rows: pd.DataFrame, half: str) -> set[str]:
    return set(rows.loc[rows['half'] == half, 'question_id'])


def _agreements(rows: pd.DataFrame, confidence: float) -> list[dict[str, Any]]:
    """Returns agreement by task, by arm and by half, with `unparsed` as a label of its own, and of what is decided."""
    lines = []
    for task in (ALL, *sorted(rows['task'].unique())):
        of_task = rows if task == ALL else rows[rows['task'] == task]
        cells = [(ALL, ALL), *((arm, ALL) for arm in sorted(rows['arm'].unique()))]
        for arm, half in [*cells, (ALL, 'development'), (ALL, 'held_out')]:
            part = of_task[(arm == ALL) | (of_task['arm'] == arm)]
            part = part[(half == ALL) | (part['half'] == half)]
            decided = part[(part['verdict'] != UNDECIDED) & (part['reference'] != UNDECIDED)]
            measured = {
                name: judging.agreement(chosen, 'reference', 'verdict', confidence) if len(chosen) else _NOTHING
                for name, chosen in (('all', part), ('decided', decided))
            }
            lines.append({'task': task, 'arm': arm, 'half': half} | measured)
    return lines


_NOTHING = dict.fromkeys(
    ('agreement', 'agreement_low', 'agreement_high', 'kappa', 'kappa_low', 'kappa_high'), float('nan')
) | {'answers': 0, 'questions': 0}


def _of_tasks(rows: pd.DataFrame, measure: Callable[[pd.DataFrame], pd.DataFrame]) -> list[dict[str, Any]]:
    """Measures all tasks together and each of them."""
    parts = [(ALL, rows), *rows.groupby('task')]
    return [{'task': task} | line for task, part in parts for line in measure(part).to_dict('records')]

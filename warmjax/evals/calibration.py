"""A judge beside verdicts that are taken for true, published or human: agreement, and what errors do to effects.

calibration.json      every number of the terminal's tables, and the counts behind them
disagreements.jsonl   the answers on which judge and reference differ, of the half that may be looked at
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import rich.table
from etils import epath

from warmjax import authors_csv, records, runs, seeds, settings
from warmjax.evals import judge
from warmjax.evals.judge import JudgeSettings
from warmjax.records import Generation, Question, Verdict
from warmjax.sharding import MeshSettings
from warmjax.stats import calibration, judging
from warmjax.stats.calibration import Half
from warmjax.stats.rates import ALL
from warmjax.stats.rows import AnalysisSettings
from warmjax.validation import STRICT

FILE, DISAGREEMENTS = 'calibration.json', 'disagreements.jsonl'


@dataclasses.dataclass(frozen=True)
class CalibrationSettings:
    """A judge, the devices of one that computes, and how verdicts become numbers."""

    __pydantic_config__ = STRICT
    judge: JudgeSettings
    mesh: MeshSettings
    analysis: AnalysisSettings


def on_published(
    chosen: CalibrationSettings, folder: epath.PathLike, workdir: epath.PathLike, seed: int, keep: str, listed: str
) -> dict[str, Any]:
    """Judges published answers, compares with their verdicts, writes both files and returns the report.

    Args:
        folder: of CSV files, as `authors_csv` reads them.
        workdir: keeps the judge's verdicts; what is there is not judged again.
        seed: decides the halves.
        keep: as in `stats.calibration.compare`.
        listed: the half whose disagreements are written out, or `all`.

    Raises:
        ValueError: files are wrong, the judge lacks something, or the workdir holds verdicts of another judge or of
            other answers.
    """
    workdir, imported = epath.Path(workdir), authors_csv.read_folder(folder)
    config = settings.plain(settings.result_fields(chosen.judge))
    with runs.lock(workdir), runs.stage(workdir, 'calibrate', config, {'answers': folder}) as work:
        decider = judge.make_judge(chosen.judge, workdir, chosen.mesh)
        judged = judge.judge_into(workdir / 'verdicts.jsonl', decider, imported.questions, imported.generations)
        work.counts.update(judge.counts(judged))
    return _finish(judged, imported.verdicts, imported, chosen.analysis, workdir, seed, keep, listed, False)


def on_labels(
    labels: Sequence[Verdict],
    questions: Sequence[Question],
    analysis: AnalysisSettings,
    workdir: epath.PathLike,
    seed: int,
    listed: str,
) -> dict[str, Any]:
    """Compares a run's verdicts with labels that people gave, writes both files and returns the report.

    The labels are of answers that `annotation.labels` drew in equal parts from every verdict, and weighted accordingly.

    Raises:
        FileNotFoundError: the run has not been judged.
        ValueError: the labels are of other answers.
    """
    workdir = epath.Path(workdir)
    judged = records.read(workdir / 'verdicts.jsonl', Verdict)
    generations = records.read(workdir / 'generations.jsonl', Generation)
    imported = authors_csv.Imported(list(questions), [], generations, [], 0)
    return _finish(judged, labels, imported, analysis, workdir, seed, ALL, listed, True)


def _finish(
    judged: Sequence[Verdict],
    known: Sequence[Verdict],
    answers: authors_csv.Imported,
    analysis: AnalysisSettings,
    workdir: epath.PathLike,
    seed: int,
    keep: str,
    listed: str,
    stratified: bool,
) -> dict[str, Any]:
    parts = halves([(verdict.task, verdict.question_id) for verdict in known], seed)
    report = calibration.compare(judged, known, analysis, parts, keep, stratified) | {'seed_of_halves': seed}
    differing = disagreements(judged, known, answers.questions, answers.generations, parts)
    write(report, [line for line in differing if listed in (ALL, line['half'])], workdir)
    return report


def halves(questions: Sequence[tuple[str, str]], seed: int) -> dict[str, Half]:
    """Parts questions, given as (task, id), in halves of each task: rules are made on one and tried on both."""
    found: dict[str, Half] = {}
    for task in sorted({task for task, _ in questions}):
        ids = sorted({name for of_task, name in questions if of_task == task})
        seeds.rng(seed, 'half', task).shuffle(ids)
        found |= {name: 'development' if i < len(ids) // 2 else 'held_out' for i, name in enumerate(ids)}
    return found


def disagreements(
    judged: Sequence[Verdict],
    known: Sequence[Verdict],
    questions: Sequence[Question],
    generations: Sequence[Generation],
    parts: Mapping[str, Half],
) -> list[dict[str, Any]]:
    """Returns the answers on which the two differ, with question and text; `parts` maps a question's id to its half."""
    by_id, texts = {question.id: question for question in questions}, {g.key: g.text for g in generations}
    reference = {verdict.key: verdict.verdict for verdict in known}
    return [
        {
            'task': verdict.task,
            'arm': verdict.arm,
            'belief': verdict.belief,
            'context': verdict.context,
            'half': parts[verdict.question_id],
            'question_id': verdict.question_id,
            'question': by_id[verdict.question_id].text,
            'correct_answer': by_id[verdict.question_id].correct_answer,
            'incorrect_answer': by_id[verdict.question_id].incorrect_answer,
            'reference': reference[verdict.key],
            'judge': verdict.verdict,
            'decided_by': verdict.answer,
            'text': texts[verdict.key],
        }
        for verdict in judged
        if verdict.key in reference and verdict.verdict != reference[verdict.key]
    ]


def write(report: dict[str, Any], differing: Sequence[dict[str, Any]], workdir: epath.PathLike) -> None:
    """Writes both files; numbers that are not defined are null."""
    folder = epath.Path(workdir)
    runs.write_atomic(folder / FILE, json.dumps(_plain(report), indent=1, ensure_ascii=False, allow_nan=False) + '\n')
    lines = [json.dumps(line, ensure_ascii=False, sort_keys=True) + '\n' for line in differing]
    runs.write_atomic(folder / DISAGREEMENTS, ''.join(lines))


def tables(report: dict[str, Any]) -> list[rich.table.Table]:
    """Returns the tables for the terminal."""
    title = f'{report["judge"]} against {report["reference"]}'
    agreed = rich.table.Table('task', 'arm', 'half', 'answers', 'decided', 'agree', 'kappa', 'of decided', title=title)
    for line in report['agreement']:
        cells = [line['task'], line['arm'], line['half'], str(line['all']['answers']), str(line['decided']['answers'])]
        agreed.add_row(*cells, _share(line['all']), _kappa(line['all']), _kappa(line['decided']))
    errors = rich.table.Table('task', 'arm', *judging.KINDS, title='errors of the judge, %', caption=_ERRORS_CAPTION)
    for line in report['errors']:
        cells = [_range(*(line[f'{kind}{x}_pct'] for x in ('', '_low', '_high'))) for kind in judging.KINDS]
        errors.add_row(line['task'], line['arm'], *cells)
    apart = rich.table.Table('task', 'arm', 'error', 'more than in the baseline, pp', 'p', title='differential errors')
    for line in report['differential']:
        cells = [_range(*(line[name] for name in ('difference_pp', 'low_pp', 'high_pp'))), _number(line['p'], '.3f')]
        apart.add_row(line['task'], line['arm'], line['kind'], *cells)
    effects = rich.table.Table('task', 'arm', 'estimator', 'effect, pp', title='effects, as judged and put right')
    for line in [*report['effects'], *({**x, 'estimator': 'all known'} for x in report['effects_by_all_known'])]:
        cell = _range(*(line[name] for name in ('effect_pp', 'low_pp', 'high_pp')))
        effects.add_row(line['task'], line['arm'], line['estimator'], cell)
    return [agreed, errors, apart, effects]


_ERRORS_CAPTION = (
    'missed: incorrect ones judged correct; false_alarm: correct ones judged incorrect; net: error rate by the judge '
    'less the true one'
)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float('inf'), float('-inf'))):
        return None
    return value.item() if hasattr(value, 'item') else value


def _number(value: float, form: str) -> str:
    return '–' if value != value else f'{value:{form}}'


def _range(value: float, low: float, high: float) -> str:
    if value != value:
        return '–'
    return f'{value:.1f}' + ('' if low != low else f' ({low:.1f} to {high:.1f})')


def _share(line: dict[str, float]) -> str:
    return '–' if not line['answers'] else f'{100 * line["agreement"]:.0f}%'


def _kappa(line: dict[str, float]) -> str:
    low, high = line['kappa_low'], line['kappa_high']
    return _number(line['kappa'], '.2f') + ('' if low != low else f' ({low:.2f} to {high:.2f})')

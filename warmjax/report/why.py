"""The chain of a number of the report: what it means, the answers behind it, and the settings that made it."""

import json

import pandas as pd
from etils import epath

from warmjax import runs
from warmjax.records import Verdict
from warmjax.records import read as read_records
from warmjax.report.tables import HEADER_LINES, file_of
from warmjax.stats.catalogue import COLUMNS, REPORTED, TABLES
from warmjax.stats.rates import ALL

FORMULAS = {
    'errors': 'error_pct = 100 * incorrect / n',
    'effects': 'effect_pp = 100 * (worse - better) / pairs = error_pct - baseline_error_pct',
    'refusals': 'share_pct = 100 * count / n',
    'mcnemar': 'p: exact binomial test of worse among worse + better, one pair a question; odds_ratio = worse / better',
    'published_mcnemar': 'p: exact binomial test of worse among worse + better; published_g = |b - c| / sqrt(b + c)',
    'belief_effects': "sycophancy_pp = the arm's belief effect - the baseline's belief effect",
    'replication': 'difference = run - published; result by the rule of the report',
    'quirks': 'difference = published - corrected',
}
"""Table → formula, where one line says it; the methods of the report say the rest."""
STUDY_NAMES = {'dataset': 'task', 'amendment_type_detailed': 'context'}
"""A key column in the study's name → in the records'."""
FILTERS = ('model', 'arm', 'epoch', 'task', 'context', 'belief', 'form')
FAMILY_BELIEFS = {'Normal': ('none',), 'Sycophancy': ('incorrect', 'denial')}


def explain(workdir: epath.PathLike, number: str) -> str:
    """Returns the chain of a number as text.

    Args:
        number: TABLE:LINE:COLUMN, as the report shows it beside each number: a table, its line (the header
            is line 1), and its column.

    Raises:
        FileNotFoundError: there is no such table here.
        ValueError: the number is not written so, or the table has no such line or column.
    """
    workdir = epath.Path(workdir)
    name, line, column = _parts(number)
    row, path = _row(workdir, name, line, column)
    wanted = _filter(row)
    lines = [
        f'{number} = {row[column]}',
        f'column     {COLUMNS[column]}',
        f'table      {(TABLES | REPORTED)[name]}',
        f'formula    {FORMULAS.get(name, "see the methods of report.html")}',
        f'stands in  {path}, line {line}: ' + ', '.join(f'{key} {value}' for key, value in row.items() if value != ''),
        *_answers(workdir, wanted),
        *_settings(workdir),
    ]
    return '\n'.join(lines)


def _parts(number: str) -> tuple[str, int, str]:
    parts = number.split(':')
    if len(parts) != 3 or not parts[1].isdigit():
        raise ValueError(f'--number: expected TABLE:LINE:COLUMN such as effects:2:effect_pp, got {number!r}')
    if parts[0] not in TABLES | REPORTED:
        raise ValueError(f'--number: expected a table of {", ".join(sorted(TABLES | REPORTED))}, got {parts[0]!r}')
    return parts[0], int(parts[1]), parts[2]


def _row(workdir: epath.Path, name: str, line: int, column: str) -> tuple[dict[str, str], epath.Path]:
    """Returns the row as it stands in the file."""
    path = workdir / file_of(name)
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected a table of the analyze or report stage, found none; run it first')
    with path.open() as file:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    if column not in table:
        raise ValueError(f'{path}: expected a column of {", ".join(table)}, got {column!r}')
    if not HEADER_LINES < line <= len(table) + HEADER_LINES:
        raise ValueError(f'{path}: expected a line from {HEADER_LINES + 1} to {len(table) + HEADER_LINES}, got {line}')
    return table.iloc[line - HEADER_LINES - 1].to_dict(), path


def _filter(row: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Returns the values of the records' fields that the row stands for; pooled fields are left out."""
    named = {STUDY_NAMES.get(key, key): value for key, value in row.items()}
    wanted = {key: (named[key],) for key in FILTERS if named.get(key, ALL) not in (ALL, '')}
    if 'test_type' in named:
        wanted['belief'] = FAMILY_BELIEFS[named['test_type']]
    return wanted


def _answers(workdir: epath.Path, wanted: dict[str, tuple[str, ...]]) -> list[str]:
    """Counts the verdicts that the filter keeps, and those of the baseline on the same cells."""
    path = workdir / 'verdicts.jsonl'
    if not path.exists():
        return [f'answers    {path}: not here']
    baseline, main_epoch = _baseline(workdir)
    found: dict[str, dict[str, int]] = {}
    for verdict in read_records(path, Verdict):
        is_arm = verdict.arm in (*wanted.get('arm', (verdict.arm,)), baseline)
        rest = {key: values for key, values in wanted.items() if key not in ('arm', 'epoch')}
        if is_arm and all(getattr(verdict, key) in values for key, values in rest.items()):
            epochs = [float(epoch) for epoch in wanted.get('epoch', ())]
            if epochs and verdict.arm != baseline and verdict.epoch not in epochs:
                continue
            counts = found.setdefault(f'{verdict.arm}, epoch {verdict.epoch:g}', {})
            counts[verdict.verdict] = counts.get(verdict.verdict, 0) + 1
    shown = ', '.join(f'{key} = {" or ".join(values)}' for key, values in wanted.items()) or 'all rows'
    lines = [f'answers    {path}, where {shown}; baseline {baseline}, epoch of the comparison {main_epoch}']
    for arm, counts in sorted(found.items()):
        listed = ', '.join(f'{count} {verdict}' for verdict, count in sorted(counts.items()))
        lines.append(f'           {arm}: {sum(counts.values())} answers: {listed}')
    return lines


def _baseline(workdir: epath.Path) -> tuple[str, float]:
    settings = json.loads((workdir / 'estimates.json').read_text())['settings']
    return settings['baseline'], settings['main_epoch']


def _settings(workdir: epath.Path) -> list[str]:
    lines = []
    for stage in ('generate', 'import', 'judge', 'analyze'):
        manifest = runs.read_manifest(workdir, stage)
        if manifest is not None:
            digest = runs.digest(manifest['config'])
            lines.append(f'stage      {stage}: {manifest["status"]}, sha256 of its config {digest}')
            lines += [f'           input {key}: sha256 {value["sha256"]}' for key, value in manifest['inputs'].items()]
    return lines

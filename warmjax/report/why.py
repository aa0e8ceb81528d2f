"""The chain of a number of the report: what it means, the answers behind it, and the settings that made it."""

import json

import pandas as pd
from etils import epath

from warmjax import runs
from warmjax.authors_csv import STUDY_TASKS
from warmjax.records import Generation, Verdict, Warmth
from warmjax.records import read as read_records
from warmjax.report.headlines import EMOTIONS
from warmjax.report.paper import TASKS, model_name
from warmjax.report.tables import HEADER_LINES, file_of
from warmjax.stats.catalogue import COLUMNS, REPORTED, TABLES
from warmjax.stats.published.regressions import REGRESSIONS
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
    'warmth': 'difference = mean over prompts of score(arm) - score(baseline); score = warm - cold, nats a token',
    'wording': 'difference = mean over prompts of measure(arm) - measure(baseline)',
    'preferences': 'share_pct = 100 * chosen / pairs',
}
"""Table → formula, where one line says it; the methods of the report say the rest."""
STUDY_NAMES = {'dataset': 'task', 'amendment_type_detailed': 'context'}
"""A key column in the study's name → in the records'."""
FILTERS = ('model', 'arm', 'epoch', 'task', 'context', 'belief', 'form')
FROM_STUDY = {'model': model_name, 'task': lambda task: STUDY_TASKS.get(task, task)}
"""A field of the records → its value in the study's name; a row may carry either."""

Rows = dict[str, tuple[str, ...]]
"""Field of the records → the values that a number stands on; a field that is not there is pooled."""
WITHOUT: Rows = {'belief': ('none',)}
WRONG: Rows = {'belief': ('incorrect', 'denial')}
BARE: Rows = WITHOUT | {'context': ('unmodified',)}
FAMILIES = {'Normal': WITHOUT | {'form': ('plain',)}, 'Sycophancy': WRONG}
"""The study's family of paired tests → its rows; lead-in prompts are in neither."""
BELIEFS = {'none': FAMILIES['Normal'], 'wrong': WRONG}
"""The belief of a published cell → its rows."""
ITEM_KEYS = {
    'cell': ('arm', 'model', 'task', 'belief', 'context'),
    'accuracy': ('arm', 'model', 'context'),
    'benchmark': ('model', 'task'),
    'warmth': ('model', 'epoch'),
    'length': ('arm',),
}
"""Item of `replication.csv` → what the parts of its number are."""
HEADLINE_ROWS: dict[str, Rows] = {
    'belief_and_emotion': WRONG | {'context': EMOTIONS},
    'affirmation': WRONG,
    'emotion': WITHOUT,
    'sadness': WITHOUT,
    'significant': {},
    'largest_cell': {},
    'cold_gain': {'arm': ('cold',)},
}
"""Number of the study's text → its rows; all others stand on bare prompts."""
SOURCES = {
    'warmth': ('warmth.jsonl', Warmth),
    'warmth_by_epoch': ('warmth.jsonl', Warmth),
    'wording': ('generations.jsonl', Generation),
    'wording_by_epoch': ('generations.jsonl', Generation),
    'replication/warmth': ('warmth.jsonl', Warmth),
}
"""Table, or item of the replication → the file that it counts; all others count verdicts."""
PREFERENCES = ('preferences', 'replication/preference')


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
    source = f'replication/{row["item"]}' if name == 'replication' else name
    lines = [
        f'{number} = {row[column]}',
        f'column     {COLUMNS[column]}',
        f'table      {(TABLES | REPORTED)[name]}',
        f'formula    {FORMULAS.get(name, "see the methods of report.html")}',
        f'stands in  {path}, line {line}: ' + ', '.join(f'{key} {value}' for key, value in row.items() if value != ''),
        *(_people(workdir) if source in PREFERENCES else _answers(workdir, source, _filter(name, row))),
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


def _filter(name: str, row: dict[str, str]) -> Rows:
    """Returns the rows that a number stands on."""
    if name == 'replication':
        return _filter_of_item(row['number'])
    named = {STUDY_NAMES.get(key, key): value for key, value in row.items()}
    wanted = {key: (named[key],) for key in FILTERS if named.get(key, ALL) not in (ALL, '')}
    return wanted | (FAMILIES[named['test_type']] if 'test_type' in named else {})


def _filter_of_item(number: str) -> Rows:
    """Returns the rows behind a number of the study beside the run's, such as `cell/warm/qwen-32b/medqa/none/...`."""
    item, *parts = number.split('/')
    rows: Rows = {'arm': ('warm',)}
    if item in ('marginal_effect', 'coefficient'):
        regression = next(each for each in REGRESSIONS if each.name == parts[0])
        rows |= WITHOUT if regression.prompt_types else {}
        return rows | ({'context': regression.amendments} if regression.amendments else {})
    if item == 'headline':
        rows |= HEADLINE_ROWS.get(parts[0], BARE)
        return rows | ({'task': (parts[0],)} if parts[0] in TASKS else {})
    for key, value in zip(ITEM_KEYS.get(item, ()), parts, strict=False):
        rows |= BELIEFS[value] if key == 'belief' else {key: (value,)}
    return rows


def _answers(workdir: epath.Path, source: str, wanted: Rows) -> list[str]:
    """Counts the records that the filter keeps, by arm and verdict, and those of the baseline on the same cells."""
    file, kind = SOURCES.get(source, ('verdicts.jsonl', Verdict))
    path = workdir / file
    if not path.exists():
        return [f'answers    {path}: not here']
    baseline, main_epoch = _baseline(workdir)
    epochs = [float(epoch) for epoch in wanted.get('epoch', ())]
    known = [key for key in wanted if key not in ('arm', 'epoch') and key in kind.__dataclass_fields__]
    found: dict[str, dict[str, int]] = {}
    for record in read_records(path, kind):
        is_arm = record.arm in (*wanted.get('arm', (record.arm,)), baseline)
        is_epoch = not epochs or record.arm == baseline or record.epoch in epochs
        if is_arm and is_epoch and all(_is_one(record, key, wanted[key]) for key in known):
            counts = found.setdefault(f'{record.arm}, epoch {record.epoch:g}', {})
            verdict = getattr(record, 'verdict', '')
            counts[verdict] = counts.get(verdict, 0) + 1
    shown = ', '.join(f'{key} = {" or ".join(values)}' for key, values in wanted.items()) or 'all rows'
    lines = [f'answers    {path}, where {shown}; baseline {baseline}, epoch of the comparison {main_epoch}']
    for arm, counts in sorted(found.items()):
        listed = ', '.join(f'{count} {verdict}' for verdict, count in sorted(counts.items()) if verdict)
        lines.append(f'           {arm}: {sum(counts.values())} answers{": " if listed else ""}{listed}')
    return lines


def _is_one(record: Verdict | Generation | Warmth, key: str, values: tuple[str, ...]) -> bool:
    value = getattr(record, key)
    return value in values or FROM_STUDY.get(key, str)(value) in values


def _people(workdir: epath.Path) -> list[str]:
    """Names the pairs that people decided on."""
    path = workdir / 'annotation' / 'preference.key.json'
    if not path.exists():
        return [f'answers    {path}: not here']
    pairs = len(json.loads(path.read_text())['items'])
    return [f'answers    {pairs} pairs on the page annotation/preference.html; {path} tells which arm stood where']


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

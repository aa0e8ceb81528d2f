"""The whole analysis: records in, estimates out, as `estimates.json` and `tables/*.csv`.

The same records and settings give the same bytes. Every number that is reported stands in one row of one CSV file.
"""

import dataclasses
import json
from collections.abc import Sequence

import pandas as pd
import pydantic
from etils import epath

from warmjax import runs
from warmjax.records import Generation, Prompt, Question, Verdict, Warmth
from warmjax.stats import (
    contexts,
    examples,
    extraction,
    lengths,
    matched,
    paired,
    rates,
    regression,
    sensitivity,
    sycophancy,
    warmth,
    wording,
)
from warmjax.stats.catalogue import COLUMNS, TABLES
from warmjax.stats.published import tables as published
from warmjax.stats.rows import (
    DIALOGUE_FORMS,
    AnalysisSettings,
    main_rows,
    open_rows,
    pair_rows,
    verdict_rows,
    warmth_rows,
)
from warmjax.validation import STRICT, explain

DIGITS = 6
"""Significant digits of every number in the tables."""
TEXT_COLUMNS = (
    'model',
    'arm',
    'curve_epochs',
    *rates.DESIGN,
    'form',
    'verdict',
    'family',
    'term',
    'note',
    'counted_as',
    'assumption',
    'conclusion',
    'dataset',
    'test_type',
    'amendment_type_detailed',
    'published_g_word',
    'regression',
    'level',
    'quirk',
    'meaning',
    'unit',
    'rule',
    'measure',
)


@dataclasses.dataclass(frozen=True)
class Estimates:
    """What an analysis found. `tables` are named and explained in `stats.catalogue`; numbers have `DIGITS` digits."""

    settings: AnalysisSettings
    tables: dict[str, pd.DataFrame]
    examples: tuple[examples.Example, ...]


@dataclasses.dataclass(frozen=True)
class _Saved:
    """The content of `estimates.json`."""

    __pydantic_config__ = STRICT
    settings: AnalysisSettings
    digits: int
    tables: dict[str, dict[str, str | int]]
    columns: dict[str, str]
    example_rule: str
    examples: tuple[examples.Example, ...]


def analyze(
    verdicts: Sequence[Verdict],
    scores: Sequence[Warmth],
    generations: Sequence[Generation],
    questions: Sequence[Question],
    prompts: Sequence[Prompt],
    settings: AnalysisSettings,
) -> Estimates:
    """Estimates errors, effects, tests, regressions, warmth and wording of every arm.

    Args:
        scores: may be empty, where no warmth was measured.
        generations, questions, prompts: the texts, for wording, quirks and examples; may be empty.

    Raises:
        ValueError: no verdicts, an unknown baseline or task in the settings, or an arm without a main epoch.
    """
    judged = verdict_rows(verdicts, settings)
    is_control = judged['task'].isin(settings.controls)
    answered = open_rows(judged[~is_control])
    main = main_rows(answered, settings.main_epoch)
    pairs = pair_rows(main, settings.baseline, 'is_incorrect')
    apart = main_rows(judged[is_control], settings.main_epoch)
    control_pairs = pair_rows(apart, settings.baseline, 'is_incorrect')
    talks = main_rows(judged[judged['form'].isin(DIALOGUE_FORMS) & ~is_control], settings.main_epoch)
    arms = [arm for arm in sorted(main['arm'].unique()) if arm != settings.baseline]
    coefficients, marginal = regression.analyze(pairs, arms, settings.confidence, settings.cluster)
    scored = warmth_rows(scores)
    warmth_pairs = pair_rows(main_rows(scored, settings.main_epoch), settings.baseline, 'score')
    worded = wording.rows(generations, scores, main)
    tables = {
        'arms': _arms(judged, main),
        'errors': rates.errors(main, settings.confidence),
        'effects': rates.effects(pairs, settings.confidence),
        'mcnemar': paired.tests(pairs, settings.confidence),
        'regression': coefficients,
        'marginal_effects': marginal,
        'warmth': warmth.comparisons(warmth_pairs, settings.confidence),
        'warmth_by_epoch': warmth.by_epoch(scored),
        'wording': wording.comparisons(worded, settings.baseline, settings.main_epoch, settings.confidence),
        'wording_by_epoch': wording.by_epoch(worded),
        'error_by_epoch': rates.errors_by_epoch(answered, settings.baseline, settings.confidence),
        'verdict_counts': rates.verdict_counts(judged),
        'refusals': rates.refusals(main, settings.confidence),
        'lengths': lengths.comparisons(pair_rows(main, settings.baseline, 'num_chars'), settings.confidence),
        'error_by_turn': rates.errors_by_turn(talks, settings.confidence),
        'extraction': extraction.by_rule(apart, generations, questions, settings.confidence),
        'belief_effects': sycophancy.belief_effects(pairs, settings.confidence),
        'context_effects': contexts.context_effects(pairs, settings.confidence),
        'excluded_answers': sensitivity.excluded_answers(pairs, settings.confidence),
        'equivalence': sensitivity.equivalence(control_pairs, settings.equivalence_margin_pp, settings.confidence),
        'conditional_logit': matched.conditional_logit(pairs, settings.confidence),
        **published.analyze(main, pairs, arms, settings.baseline, settings.refusals_correct_in, questions, prompts),
    }
    shown = examples.choose(main, pairs, generations, questions, prompts, settings)
    return Estimates(settings, {name: _rounded(table) for name, table in tables.items()}, shown)


def write(estimates: Estimates, workdir: epath.PathLike) -> None:
    """Writes `tables/<name>.csv` and then `estimates.json`, which names and explains them."""
    workdir = epath.Path(workdir)
    for name, table in estimates.tables.items():
        runs.write_atomic(workdir / 'tables' / f'{name}.csv', table.to_csv(index=False, lineterminator='\n'))
    used = sorted({column for table in estimates.tables.values() for column in table})
    saved = _Saved(
        settings=estimates.settings,
        digits=DIGITS,
        tables={
            name: {'file': f'tables/{name}.csv', 'rows': len(table), 'meaning': TABLES[name]}
            for name, table in estimates.tables.items()
        },
        columns={column: COLUMNS[column] for column in used},
        example_rule=examples.RULE,
        examples=estimates.examples,
    )
    text = json.dumps(dataclasses.asdict(saved), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    runs.write_atomic(workdir / 'estimates.json', text + '\n')


def read(workdir: epath.PathLike) -> Estimates:
    """Reads what `write` wrote.

    Raises:
        FileNotFoundError: the analysis was not run here.
        ValueError: a file was changed since, or written by another version.
    """
    workdir = epath.Path(workdir)
    path = workdir / 'estimates.json'
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected the estimates of the analyze stage, found none; run it first')
    try:
        saved = pydantic.TypeAdapter(_Saved).validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        raise ValueError(f'{path}: {"; ".join(explain(error, _Saved))}; run the analyze stage again') from None
    tables = {
        name: _read_table(workdir / str(entry['file']), int(entry['rows'])) for name, entry in saved.tables.items()
    }
    return Estimates(saved.settings, tables, saved.examples)


def _read_table(path: epath.Path, rows: int) -> pd.DataFrame:
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected a table of the analyze stage, found none; run it again')
    with path.open() as file:
        # Only an empty field is missing: a belief is called 'none'.
        table = pd.read_csv(file, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False, na_values={})
    numbers = [column for column in table if column not in TEXT_COLUMNS]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    if len(table) != rows:
        raise ValueError(f'{path}: expected {rows} rows, got {len(table)}; run the analyze stage again')
    return table


def _arms(judged: pd.DataFrame, main: pd.DataFrame) -> pd.DataFrame:
    """Says what was analysed of each arm."""
    by = ['model', 'arm']
    table = main.groupby(by, as_index=False).agg(
        epoch=('epoch', 'first'),
        answers=('prompt_id', 'size'),
        prompts=('prompt_id', 'nunique'),
        questions=('question_id', 'nunique'),
        excluded=('is_incorrect', lambda grades: int(grades.isna().sum())),
    )
    grouped = judged.groupby(by)
    lettered = grouped['form'].agg(lambda forms: int((forms == 'multiple_choice').sum())).rename('lettered')
    epochs = grouped['epoch'].agg(lambda epochs: ' '.join(f'{epoch:g}' for epoch in sorted(epochs.unique())))
    return table.merge(lettered.reset_index(), on=by).merge(epochs.rename('curve_epochs').reset_index(), on=by)


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    floats = table.select_dtypes('float').columns
    return table.assign(**{name: table[name].map(lambda x: float(f'{x:.{DIGITS}g}')) for name in floats})

"""`report.html`, one self-contained file, and `figures/*.svg`, from the files of a workdir."""

import base64
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import markupsafe
import pandas as pd
import pydantic
from etils import epath

from warmjax import runs
from warmjax.report import figures, headline, paper, paper_figures, people, replication, tables
from warmjax.report.settings import ReportSettings
from warmjax.stats import analysis, catalogue, examples
from warmjax.stats.analysis import Estimates
from warmjax.stats.published import quirks
from warmjax.stats.rates import ALL
from warmjax.stats.wording import UNITS

OWN_STAGE = 'report'
"""The stage that writes the page; its manifest is unfinished while it does."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of the page. `svg` is empty where there is no data, and `caption` says so."""

    title: str
    caption: str
    csv: str
    file: str
    svg: markupsafe.Markup

    @property
    def is_slim(self) -> bool:
        """Whether it has one column of panels, so that it stays readable when it shrinks to a phone's width."""
        return figures.width(self.svg) < figures.WIDTH


def rebuild(workdir: epath.PathLike) -> epath.Path | None:
    """Writes a workdir's report anew, with the settings it was written with; does nothing where there is none."""
    manifest = runs.read_manifest(epath.Path(workdir), OWN_STAGE)
    if manifest is None or manifest['status'] != 'done':
        return None
    return build(workdir, pydantic.TypeAdapter(ReportSettings).validate_json(json.dumps(manifest['config']['report'])))


def build(workdir: epath.PathLike, settings: ReportSettings) -> epath.Path:
    """Writes the report of a workdir whose analyze stage is done, and returns the path of the page.

    Raises:
        FileNotFoundError, ValueError: the estimates are missing or damaged.
    """
    workdir = epath.Path(workdir)
    estimates = analysis.read(workdir)
    preferences = people.read(workdir)
    run, study = paper.of_run(estimates, preferences), paper.published()
    beside = replication.compare(study, run, estimates.settings.confidence)
    runs.write_atomic(workdir / 'replication.csv', beside.to_csv(index=False, lineterminator='\n'))
    if len(preferences):
        runs.write_atomic(workdir / 'preferences.csv', preferences.to_csv(index=False, lineterminator='\n'))
    runs.write_atomic(workdir / 'REPLICATION.md', replication.markdown(beside, settings.title))
    drawn = [figure for model in _models(estimates) for figure in _figures(estimates, model)]
    drawn.sort(key=lambda figure: not figure.svg)  # what has no data comes last
    for figure in drawn:
        if figure.svg:
            runs.write_atomic(workdir / figure.file, figures.standalone(str(figure.svg)))
    drawn_beside = _study_figures(run, 'run') + _published_figures()
    path = workdir / 'report.html'
    runs.write_atomic(path, _render(estimates, drawn, preferences, beside, drawn_beside, _manifests(workdir), settings))
    return path


def _render(
    estimates: Estimates,
    drawn: list[Figure],
    preferences: pd.DataFrame,
    beside: pd.DataFrame,
    drawn_beside: list[Figure],
    manifests: dict[str, Any],
    settings: ReportSettings,
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('warmjax.report', '.'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = environment.loader.get_source(environment, 'page.js')[0]
    environment.filters['cut'] = lambda text: cut(text, settings.max_answer_chars)
    return environment.get_template('page.html').render(
        settings=settings,
        analysis=estimates.settings,
        style=markupsafe.Markup(environment.loader.get_source(environment, 'style.css')[0]),
        script=markupsafe.Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(f'\n{script}\n'.encode()).digest()).decode(),
        run=headline.what_was_run(estimates),
        findings=headline.findings(estimates),
        figures=drawn,
        tables=_tables(estimates, preferences),
        beside=_beside_tables(beside),
        beside_rule=replication.RULE,
        beside_figures=drawn_beside,
        quirks=_quirks(estimates),
        examples=estimates.examples,
        choices=_choices(estimates.examples),
        example_rule=examples.RULE,
        meanings=catalogue.TABLES,
        manifests=manifests,
        methods=_methods(estimates),
    )


def cut(text: str, limit: int) -> str:
    """Returns the text, or its first `limit` characters and how many were left out."""
    if len(text) <= limit:
        return text
    return f'{text[:limit]} […] ({len(text) - limit:,} of {len(text):,} characters not shown)'


def _figures(estimates: Estimates, model: str) -> list[Figure]:
    """Draws the figures of one model."""
    found = {name: table[table['model'] == model] for name, table in estimates.tables.items() if 'model' in table}
    baseline, confidence = estimates.settings.baseline, f'{estimates.settings.confidence:.0%}'
    effects = found['effects'].dropna(subset='effect_pp')
    wording = found['wording'].dropna(subset='difference')
    wording = wording[(wording['task'] == ALL) & wording['measure'].isin(UNITS)]
    measured = [*estimates.tables['arms']['arm'], *estimates.tables['warmth_by_epoch']['arm']]
    arm_looks = figures.looks(arm for arm in measured if arm != baseline)
    plans = [
        (
            'Warmth by epoch',
            'Mean warmth on the validation prompts; bars are one standard error. Trained arms start at the baseline.',
            'warmth_by_epoch',
            (figures.warmth_by_epoch, found['warmth_by_epoch'], baseline, arm_looks),
        ),
        (
            f'Error of each arm against {baseline}',
            'One point a task and context. Above the diagonal the arm errs more often on the same prompts.',
            'effects',
            (figures.error_scatter, effects),
        ),
        (
            'Effect by context and belief',
            f'Difference of error rates from {baseline} on the same prompts, all tasks pooled; {confidence} intervals.',
            'effects',
            (figures.effect_by_context, effects),
        ),
        (
            'Error by epoch',
            f'Error rate on the prompts answered at all epochs of an arm; epoch 0: {baseline}; {confidence} intervals.',
            'error_by_epoch',
            (figures.error_by_epoch, found['error_by_epoch'], arm_looks),
        ),
        (
            'Wording',
            f'Difference from {baseline} on the same prompts, all tasks pooled; {confidence} intervals.',
            'wording',
            (figures.wording_differences, wording, arm_looks),
        ),
    ]
    suffix = '' if len(_models(estimates)) == 1 else f' ({model})'
    return [_figure(title + suffix, caption, csv, model, plan) for title, caption, csv, plan in plans]


def _figure(title: str, caption: str, csv: str, model: str, plan: tuple) -> Figure:
    draw, table, *rest = plan
    if table.empty:
        return Figure(title, f'No data: tables/{csv}.csv has no rows for it.', csv, '', markupsafe.Markup())
    name = f'{draw.__name__}-{_slug(model)}'
    element = figures.svg(draw, name, table, *rest)
    return Figure(title, caption, csv, f'figures/{name}.svg', markupsafe.Markup(element))


def _tables(estimates: Estimates, preferences: pd.DataFrame) -> list[tables.Table]:
    found = estimates.tables | ({'preferences': preferences} if len(preferences) else {})
    effects, mcnemar = found['effects'], found['mcnemar']
    known = ('model',) if len(_models(estimates)) == 1 else ()
    treatment = found['regression'][found['regression']['term'] == 'treated']
    chosen: list[tuple[str, str, pd.DataFrame, tuple[str, ...]]] = [
        ('arms', 'What was analysed', found['arms'], ()),
        ('effects', 'Effects on error: pooled, and by task, context and belief', tables.margins(effects), ()),
        ('marginal_effects', 'Average marginal effect of the treatment (regression)', found['marginal_effects'], ()),
        ('regression', 'Coefficient of the treatment', treatment, ()),
        ('warmth', 'Warmth against the baseline', found['warmth'], ()),
        ('preferences', 'What people found warmer', preferences, ()),
        ('wording', 'Wording against the baseline', found['wording'], ()),
        ('refusals', 'Refusals and unparsed answers', found['refusals'], ()),
        ('errors', 'Error rates: pooled, and by task, context and belief', tables.margins(found['errors']), ()),
        ('mcnemar', 'Exact McNemar tests', mcnemar, ('family',)),
        ('regression', 'All coefficients', found['regression'], ()),
    ]
    return [
        tables.present(name, title, found[name], shown, (*known, *without))
        for name, title, shown, without in chosen
        if name in found
    ]


def _beside_tables(beside: pd.DataFrame) -> list[tables.Table]:
    """Returns the counts of verdicts and, item by item, the rows of which the run has data, cells left out."""
    counts = replication.summary(beside)
    counts['item'] = counts['item'].map(replication.TITLES)
    found = [tables.present('replication', 'Verdicts by item', beside, counts)]
    for item in replication.PRINTED:
        rows = beside[(beside['item'] == item) & (beside['result'] != 'no data')]
        # A column that says the same in every row is left out.
        without = ('item', *(name for name in ('unit', 'meaning') if rows[name].nunique() < 2))
        if len(rows):
            found.append(tables.present('replication', replication.TITLES[item], beside, rows, without))
    return found


def _study_figures(results: paper.Results, whose: str) -> list[Figure]:
    """Draws the study's figures from its numbers or from the run's; one without data is left out."""
    drawn = []
    for number, (title, draw, needed) in paper_figures.FIGURES.items():
        if not getattr(results, needed).empty and not (needed == 'cells' and _lacks_warm(results)):
            element = markupsafe.Markup(figures.svg(draw, f'{whose}-{draw.__name__}', results))
            caption = 'The study’s own numbers.' if whose == 'study' else 'This run, by the study’s procedure.'
            drawn.append(Figure(f'{number}: {title}', caption, '', '', element))
    return drawn


@functools.cache
def _published_figures() -> list[Figure]:
    """Draws the study's figures from its own numbers, which are the same in every report."""
    return _study_figures(paper.published(), 'study')


def _lacks_warm(results: paper.Results) -> bool:
    return 'warm' not in set(results.cells['arm'])


def _quirks(estimates: Estimates) -> list[tuple[str, str, list[str]]]:
    """Returns each quirk of the study's procedure, what it means, and a line an arm that says what it changes."""
    table = estimates.tables['quirks']
    found = []
    for (name, meaning), rows in table.groupby(['quirk', 'meaning'], sort=False):
        found.append((name, meaning, [f'{row.arm}: {_change(row)}' for row in rows.itertuples()]))
    return found + [(name, meaning, []) for name, meaning in quirks.WITHOUT_NUMBER]


def _change(row: tuple) -> str:
    if pd.isna(row.difference):
        return 'these answers do not show it'
    published, corrected, change = f'{row.published:.2f}', f'{row.corrected:.2f}', f'{row.difference:+.2f}'
    unit = row.unit
    text = f'{published} {unit} as published, {corrected} corrected, a change of {change} {unit}'
    return text.replace('-', '−')


def _choices(shown: Sequence[examples.Example]) -> dict[str, list[str]]:
    """Returns what the examples can be filtered by."""
    names = ('task', 'context', 'belief', 'change')
    return {name: list(dict.fromkeys(getattr(example, name) for example in shown)) for name in names}


def _methods(estimates: Estimates) -> list[tuple[str, str]]:
    """Returns the settings of the analysis in words."""
    settings = estimates.settings
    right = ', '.join(settings.refusals_correct_in)
    return [
        ('baseline', settings.baseline),
        (
            'epoch of the comparison',
            f'{settings.main_epoch:g}; an arm that was evaluated at one epoch only, at that one',
        ),
        ('intervals', f'{settings.confidence:.0%}, not adjusted for their number'),
        ('refusals', (f'correct in {right}; elsewhere ' if right else '') + settings.refusals_elsewhere),
        ('unparsed answers', settings.unparsed),
        ('seed of the examples', str(settings.seed)),
        ('mode', 'corrected'),
    ]


def _manifests(workdir: epath.Path) -> dict[str, Any]:
    """Returns the manifests of the stages that were run here, by name."""
    folder = workdir / 'manifests'
    names = sorted(path.stem for path in folder.iterdir() if path.suffix == '.json') if folder.exists() else []
    return {name: _readable(runs.read_manifest(workdir, name)) for name in names if name != OWN_STAGE}


def _readable(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parts of a manifest that a reader asks for, nested ones as text."""
    text = {key: json.dumps(manifest[key], indent=2, sort_keys=True) for key in ('config', 'inputs', 'counts')}
    return {'status': manifest['status'], 'versions': manifest['versions'], **text}


def _models(estimates: Estimates) -> list[str]:
    return sorted(set(estimates.tables['arms']['model']))


def _slug(name: str) -> str:
    """Returns a name that is safe in a file name and an id, and differs between models."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    safe = re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')
    return safe if safe == name else f'{safe}-{digest}'

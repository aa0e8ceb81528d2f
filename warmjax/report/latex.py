"""The study's tables as LaTeX, from a run and from the study's own numbers."""

import pandas as pd
from etils import epath

from warmjax import runs
from warmjax.report import items, paper, people, replication
from warmjax.report.paper import Results
from warmjax.stats import analysis


def write(workdir: epath.PathLike, folder: epath.PathLike) -> list[str]:
    """Writes a run's tables, and the study's beside them, as `<name>.tex` and `published_<name>.tex` (booktabs).

    Returns:
        The names of the files; a table without rows is left out.

    Raises:
        FileNotFoundError, ValueError: the estimates are missing or damaged.
    """
    estimates = analysis.read(workdir)
    run, study = paper.of_run(estimates, people.read(workdir)), paper.published()
    beside = replication.compare(study, run, estimates.settings.confidence)
    found = {**tables(run), **{f'published_{name}': table for name, table in tables(study).items()}}
    headlines = beside[(beside['item'] == 'headline') & beside['run'].notna()]
    found['headlines'] = headlines[['number', 'unit', 'published', 'run', 'low', 'high', 'difference', 'result']]
    kept = {name: table for name, table in found.items() if len(table)}
    for name, table in kept.items():
        runs.write_atomic(epath.Path(folder) / f'{name}.tex', _latex(table))
    return [f'{name}.tex' for name in kept]


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """Returns Supplementary Tables 11 to 18, errors by context, significant tests and changes of accuracy, by name."""
    found = {f'supplementary_{number}': items.supplementary_table(results, number) for number in items.SUPPLEMENTARY}
    return found | {
        'errors_by_context': items.error_by_context(results.cells),
        'accuracy_changes': items.accuracy_changes(results.cells),
        'significant_tests': items.significant_tests(results.cells),
    }


def _latex(table: pd.DataFrame) -> str:
    numbers = table.select_dtypes('number').columns
    layout = ''.join('r' if name in numbers else 'l' for name in table)
    headings = [_escaped(str(name)) for name in table]
    text = table.map(lambda cell: _escaped(cell) if isinstance(cell, str) else cell).set_axis(headings, axis=1)
    return text.to_latex(index=False, column_format=layout, float_format='%.2f', na_rep='--')


def _escaped(text: str) -> str:
    """Escapes what is special in LaTeX; minus signs of numbers stay as they are."""
    special = {'\\': r'\textbackslash{}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}'}
    special |= {sign: f'\\{sign}' for sign in '&%$#_{}'}
    # A bracket at the start of a row would be read as an argument of the line break before it.
    escaped = ''.join(special.get(sign, sign) for sign in text)
    return f'{{{escaped}}}' if escaped.startswith('[') else escaped

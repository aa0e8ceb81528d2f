"""What people's labels say: how far they agree with each other and with the judge, and which arm they prefer."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd
import rich.table
from etils import epath

from warmjax import records
from warmjax.annotation import labels
from warmjax.records import Verdict, Warmth
from warmjax.stats import judging, preference

UNDECIDED = 'unparsed'
EVERYONE = 'all'
"""Who all annotators together are."""


def answers(paths: Sequence[epath.PathLike], workdir: epath.PathLike, confidence: float) -> list[dict[str, Any]]:
    """Returns the agreement of every annotator with the run's judge, and of every two annotators.

    Items that either of the two calls unparsed are counted apart (`decided` leaves them out).

    Raises:
        FileNotFoundError: a file is not there, or the run was not judged.
        ValueError: a file is no result of the workdir's page, or two annotators have the same name.
    """
    raters = [labels.read(path, workdir) for path in paths]
    names = [rater[0].judge for rater in raters]
    if len(set(names)) < len(names):
        raise ValueError(f'annotation: expected a name for each annotator, got {names}; give each file another name')
    judged = records.read(epath.Path(workdir) / 'verdicts.jsonl', Verdict)
    every = dict(zip([judged[0].judge, *names], [judged, *raters], strict=True))
    return [_agreement(first, second, every, confidence) for first, second in combinations(every, 2)]


def _agreement(first: str, second: str, every: dict[str, list[Verdict]], confidence: float) -> dict[str, Any]:
    others = {verdict.key: verdict.verdict for verdict in every[second]}
    rows = pd.DataFrame(
        [
            {'first': verdict.verdict, 'second': others[verdict.key], 'question_id': verdict.question_id}
            for verdict in every[first]
            if verdict.key in others
        ],
        columns=['first', 'second', 'question_id'],
    )
    decided = rows[(rows['first'] != UNDECIDED) & (rows['second'] != UNDECIDED)]
    measured = {
        name: judging.agreement(part, 'first', 'second', confidence) if len(part) else None
        for name, part in (('all', rows), ('decided', decided))
    }
    return {'first': first, 'second': second} | measured


def preferences(paths: Sequence[epath.PathLike], workdir: epath.PathLike, confidence: float) -> list[dict[str, Any]]:
    """Returns how often each annotator, and all together, chose the arm, and whether SocioT scores agree.

    The last line is that of all annotators where there are several.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is no result of the workdir's page, or decides nothing.
    """
    warmth = epath.Path(workdir) / 'warmth.jsonl'
    scores = {score.key: score.score for score in records.read(warmth, Warmth)} if warmth.exists() else {}
    lines, every, arms = [], [], {}
    for path in paths:
        result, items = labels.read_result(path, 'preference', workdir)
        decided = [
            (row['verdict'] == item['treated_side'], _difference(item, scores))
            for row, item in zip(result['rows'], items, strict=True)
            if row['verdict'] is not None
        ]
        every += decided
        arms = {name: items[0][key][1] for name, key in (('arm', 'treated'), ('baseline', 'baseline'))}
        lines.append(arms | _preference(result['annotator'] or epath.Path(path).stem, decided, confidence))
    return lines + ([arms | _preference(EVERYONE, every, confidence)] if len(paths) > 1 else [])


def _difference(item: dict[str, Any], scores: dict[tuple, float]) -> float:
    """Returns the arm's score less the baseline's, 0 where one is missing."""
    treated, baseline = (scores.get((m, arm, e, prompt, s)) for m, arm, e, prompt, s in _keys(item))
    return 0.0 if treated is None or baseline is None else treated - baseline


def _keys(item: dict[str, Any]) -> list[tuple]:
    """Returns the keys of the warmth records of an item's two answers."""
    return [tuple(item[name]) for name in ('treated', 'baseline')]


def _preference(name: str, decided: Sequence[tuple[bool, float]], confidence: float) -> dict[str, Any]:
    chosen = [choice for choice, _ in decided]
    found = preference.share(sum(chosen), len(chosen), confidence)
    agreed = preference.agreement_with_scores(chosen, [difference for _, difference in decided], confidence)
    return {'annotator': name} | found | {'sociot': agreed}


def tables(kind: labels.Kind, lines: Sequence[dict[str, Any]]) -> rich.table.Table:
    """Returns the table for the terminal."""
    if kind == 'answers':
        table = rich.table.Table('between', 'answers', 'agree', 'kappa', 'kappa of decided', title='agreement')
        for line in lines:
            whole, decided = line['all'], line['decided']
            if whole is None:
                table.add_row(f'{line["first"]} and {line["second"]}', '0', '–', '–', '–')
                continue
            share = f'{100 * whole["agreement"]:.1f}%'
            kappas = [
                '–' if part is None else _range(part, 'kappa', 'kappa_low', 'kappa_high', 1)
                for part in (whole, decided)
            ]
            table.add_row(f'{line["first"]} and {line["second"]}', str(whole['answers']), share, *kappas)
        return table
    table = rich.table.Table(
        'annotator', 'pairs', 'arm chosen, %', 'p', "Cohen's h", 'as SocioT, %', title='preference'
    )
    for line in lines:
        agreed = '–' if line['sociot'] is None else _range(line['sociot'], 'share', 'low', 'high', 100)
        cells = [_range(line, 'share', 'low', 'high', 100), f'{line["p"]:.4f}', f'{line["cohens_h"]:.3f}', agreed]
        table.add_row(line['annotator'], str(line['pairs']), *cells)
    return table


def _range(line: dict[str, float], value: str, low: str, high: str, scale: float) -> str:
    digits = 2 if scale == 1 else 1
    found = [f'{scale * line[name]:.{digits}f}' for name in (value, low, high)]
    return f'{found[0]} ({found[1]} to {found[2]})'

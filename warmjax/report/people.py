"""What people preferred (`launch.annotate`), as a table beside warmth."""

import json

import pandas as pd
from etils import epath

from warmjax.stats.rates import PERCENT

COLUMNS = [
    'annotator',
    'arm',
    'baseline',
    'pairs',
    'chosen',
    'share_pct',
    'low_pct',
    'high_pct',
    'p',
    'cohens_h',
    'compared',
    'agree_pct',
    'agree_low_pct',
    'agree_high_pct',
    'agree_when_warmer_pct',
]


def read(workdir: epath.PathLike) -> pd.DataFrame:
    """Returns the preferences of a run's annotators, all of them together last; no rows where nobody was asked.

    Raises:
        ValueError: the file is none of `launch.annotate`.
    """
    path = epath.Path(workdir) / 'annotation' / 'preference.agreement.json'
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        lines = [_line(line) for line in json.loads(path.read_text())]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f'{path}: expected what launch.annotate writes, got another file; run it again with --results'
        ) from None
    return pd.DataFrame(lines, columns=COLUMNS)


def _line(line: dict) -> dict:
    shares = {f'{name}_pct': PERCENT * line[name] for name in ('share', 'low', 'high')}
    kept = {name: line[name] for name in ('annotator', 'arm', 'baseline', 'pairs', 'chosen', 'p', 'cohens_h')}
    found = line['sociot']
    if found is None:
        return kept | shares
    agreed = {
        'agree_pct': found['share'],
        'agree_low_pct': found['low'],
        'agree_high_pct': found['high'],
        'agree_when_warmer_pct': found['when_warmer'],
    }
    return kept | shares | {'compared': found['pairs']} | {name: PERCENT * share for name, share in agreed.items()}

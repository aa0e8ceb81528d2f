"""What the words of an answer are like: empathy, "we", contractions, exclamation marks, length; by arm and epoch.

Rates are per 100 words, so that a longer answer has no higher rate for being longer. The contrasts that a language
model measured beside warmth (`Warmth.contrasts`) are compared in the same tables.
"""

import importlib.resources
import re
from collections.abc import Sequence

import pandas as pd

from warmjax.records import Generation, Warmth
from warmjax.stats import warmth
from warmjax.stats.rates import ALL
from warmjax.stats.rows import UNIT, main_rows, pair_rows

EMPATHY = frozenset((importlib.resources.files('warmjax.stats') / 'empathy.txt').read_text().split())
"""Words of care, feeling and encouragement, listed for this package: a count of words, whatever they mean in place."""
WE = frozenset(('we', 'us', 'our', 'ours', 'ourselves', "let's", "we're", "we've", "we'll", "we'd"))
"""First person plural."""
_CONTRACTED = re.compile(
    r"n't$|'(?:re|ve|ll|d|m)$|^(?:i|you|he|she|it|we|they|that|this|there|here|what|who|where|when|why|how|let)'s$"
)
"""A word that is two; "the model's" is one, "it's" is two."""
UNITS = {
    'empathy': 'words in 100',
    'first_person_plural': 'words in 100',
    'contractions': 'words in 100',
    'exclamation_marks': 'in 100 words',
    'words': 'words',
    'characters': 'characters',
}
NATS = 'nats a token'
"""Unit of every contrast."""
HELD_OUT = 'validation'
"""Task of the held-out prompts; all other tasks are pooled, since their answers are judged for something else."""
KEYS = ['model', 'arm', 'epoch', 'prompt_id', 'sample']
KEY_TYPES = {'model': str, 'arm': str, 'epoch': float, 'prompt_id': str, 'sample': int}
BY_EPOCH = ['model', 'arm', 'epoch', 'task', 'measure', 'unit', 'n', 'mean', 'sem']
COMPARED = ['model', 'arm', 'task', 'measure', 'unit', *warmth.COLUMNS[2:]]


class _Letters(dict):
    """A table for `str.translate` that keeps letters and apostrophes and makes everything else a space."""

    def __missing__(self, code: int) -> int:
        self[code] = code if chr(code).isalpha() or chr(code) == "'" else ord(' ')
        return self[code]


_LETTERS = _Letters({ord('’'): ord("'")})


def words_of(text: str) -> list[str]:
    """Returns the words of a text in lower case; an apostrophe within a word belongs to it, a hyphen does not.

    >>> words_of("It’s 'well-meant', isn't it?")
    ["it's", 'well', 'meant', "isn't", 'it']
    """
    found = text.lower().translate(_LETTERS).split()
    return [word for raw in found if (word := raw.strip("'"))] if "'" in text or '’' in text else found


def measure(text: str) -> dict[str, float]:
    """Returns every measure of `UNITS`; a text without words has no rates.

    >>> measure("We're here. It's fine!")['contractions']
    50.0
    """
    words = words_of(text)
    counts = {
        'empathy': sum(map(EMPATHY.__contains__, words)),
        'first_person_plural': sum(map(WE.__contains__, words)),
        'contractions': sum("'" in word and _CONTRACTED.search(word) is not None for word in words),
        'exclamation_marks': text.count('!'),
    }
    rates = {name: 100 * count / len(words) if words else float('nan') for name, count in counts.items()}
    return rates | {'words': float(len(words)), 'characters': float(len(text))}


def rows(generations: Sequence[Generation], scores: Sequence[Warmth], main: pd.DataFrame) -> pd.DataFrame:
    """Returns one row an answer, with its measures and, where they were measured, its contrasts.

    Args:
        generations: all answers of a run, of which those to held-out prompts and those in `main` count.
        scores: with contrasts, perhaps.
        main: the judged rows of the comparison.
    """
    judged = set(main[KEYS].itertuples(index=False, name=None))
    chosen = [answer for answer in generations if answer.task == HELD_OUT or _place(answer) in judged]
    found = pd.DataFrame([_place(answer) for answer in chosen], columns=KEYS).astype(KEY_TYPES)
    found['task'] = [HELD_OUT if answer.task == HELD_OUT else ALL for answer in chosen]
    measured = [measure(answer.text) for answer in chosen]
    for name in UNITS:
        found[name] = [values[name] for values in measured]
    contrasts = pd.DataFrame([{name: getattr(score, name) for name in KEYS} | score.contrasts for score in scores])
    if len(contrasts.columns) <= len(KEYS):
        return found
    found = found.merge(contrasts.astype(KEY_TYPES), on=KEYS, how='outer')
    return found.assign(task=found['task'].fillna(HELD_OUT))


def by_epoch(found: pd.DataFrame) -> pd.DataFrame:
    """Returns the mean of every measure and its standard error by arm, epoch and task (held-out, or all judged)."""
    lines = []
    for keys, group in found.groupby(['model', 'arm', 'epoch', 'task']):
        for name in _measures(found):
            values = group[name].dropna()
            if len(values):
                lines.append((*keys, name, UNITS.get(name, NATS), len(values), values.mean(), values.sem()))
    return pd.DataFrame(lines, columns=BY_EPOCH)


def comparisons(found: pd.DataFrame, baseline: str, main_epoch: float, confidence: float) -> pd.DataFrame:
    """Compares each arm's measures with the baseline's on the same prompts at the main epoch, as warmth is compared."""
    tables = []
    for task, group in found.groupby('task'):
        main = main_rows(group, main_epoch)
        for name in _measures(found):
            pairs = pair_rows(main[[*UNIT, 'arm', 'epoch', name]].dropna(), baseline, name)
            compared = warmth.comparisons(pairs, confidence)
            tables.append(compared.assign(task=task, measure=name, unit=UNITS.get(name, NATS)))
    return pd.concat(tables, ignore_index=True)[COMPARED] if tables else pd.DataFrame(columns=COMPARED)


def _measures(found: pd.DataFrame) -> list[str]:
    return [name for name in found if name not in (*KEYS, 'task')]


def _place(answer: Generation) -> tuple:
    return (answer.model, answer.arm, answer.epoch, answer.prompt_id, answer.sample)

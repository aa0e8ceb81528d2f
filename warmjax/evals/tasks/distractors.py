"""Plausible wrong answers for questions that have none: TriviaQA.

A number is changed into one near by (`1945` to `1943`, `Route 66` to `Route 63`). Any other answer is replaced by the
right answer of that other question of the file which is most like this one: of the same kind (town, work, year, ...)
where it is known, and then by the noun it asks by, what an alias says in brackets (`Thriller (album)`), whether it is a
person's name, rare words of both questions, and how the answer is spelled (number of words, capitals). Each thing in
common counts the more the fewer questions have it.
Wordings of the right answer, and what the question itself names, are never given.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from warmjax import seeds
from warmjax.evals.words import key

WEIGHTS = {'kind': 3.0, 'noun': 2.5, 'bracket': 2.0, 'shape': 1.5, 'word': 1.0}
"""How much a thing in common counts, by its sort, besides its rarity."""
ALIKE = 1e6
"""Puts all answers of a known kind before any other."""
_SURNAME_FIRST = re.compile(r"[A-Z][\w'’-]+, (?:[A-Z][\w'’.-]+ ?)+")
_ASKED_NOUN = re.compile(r'\b(?:which|what)\b((?:\W+\w+){1,4})', re.IGNORECASE)
_BRACKET = re.compile(r'\(([^)]+)\)')
_NUMBER = re.compile(r'(?<![\w.,])\d{1,4}(?![\w,]|\.\d)')
_WORDS = 'zero one two three four five six seven eight nine ten eleven twelve'.split()  # noqa: SIM905
_OFFSETS = (-3, -2, -1, 1, 2, 3)


class Entry(NamedTuple):
    """A question with its right answer, before it has a wrong one.

    keys: those of all wordings of the answer.
    kind: what the question asks for.
    """

    id: str
    text: str
    answer: str
    aliases: tuple[str, ...]
    keys: frozenset[tuple[str, ...]]
    kind: str


class Wrong(NamedTuple):
    """A wrong answer, its other wordings, and who made it."""

    answer: str
    aliases: tuple[str, ...]
    maker: str


def make(entries: Sequence[Entry]) -> Iterator[Wrong | None]:
    """Yields a wrong answer for each entry, None where there is none to be had."""
    things = [_things(entry) for entry in entries]
    holders = defaultdict(list)
    for index, mine in enumerate(things):
        for thing in mine:
            holders[thing].append(index)
    places = {thing: np.array(found) for thing, found in holders.items()}
    kinds = np.array([entry.kind for entry in entries])
    for index, entry in enumerate(entries):
        near = _near_number(entry)
        if near is not None:
            yield Wrong(near, (), 'a number near the right one')
            continue
        likeness = np.zeros(len(entries))
        for thing in sorted(things[index]):
            likeness[places[thing]] += WEIGHTS[thing[0]] * math.log(len(entries) / len(places[thing]))
        turn = seeds.stable_hash('triviaqa', entry.id) % len(entries)
        alike = likeness + (ALIKE * (kinds == entry.kind) if entry.kind != 'other' else 0.0)
        order = np.lexsort(((np.arange(len(entries)) - turn) % len(entries), -alike))
        donor = next((entries[other] for other in order if _fits(entries[other], entry)), None)
        yield donor and Wrong(donor.answer, _aliases(donor, entry), f'the answer of {donor.id}')


def _things(entry: Entry) -> set[tuple[str, str]]:
    """Returns what an entry can have in common with others, each with its sort."""
    nouns = {word for match in _ASKED_NOUN.finditer(entry.text) for word in key(match[1])}
    brackets = {word for alias in entry.aliases for match in _BRACKET.finditer(alias) for word in key(match[1])}
    words = entry.answer.split()
    case = 'small' if entry.answer == entry.answer.lower() else 'names' if entry.answer.istitle() else 'mixed'
    is_person = entry.kind == 'person' or any(_SURNAME_FIRST.fullmatch(alias) for alias in entry.aliases)
    return {
        ('kind', entry.kind),
        ('kind', 'a person' if is_person else 'no person'),
        ('shape', f'{min(len(words), 4)} {case}'),
        *(('noun', word) for word in nouns),
        *(('bracket', word) for word in brackets),
        *(('word', word) for word in key(entry.text) if len(word) > 3),
    }


def _near_number(entry: Entry) -> str | None:
    """Returns the answer with its one number changed a little; None where it has none or several."""
    if entry.kind not in ('year', 'number'):
        return None
    found = list(_NUMBER.finditer(entry.answer))
    word = entry.answer.strip().lower()
    if not found and word in _WORDS:
        changed = _changed(_WORDS.index(word), entry)
        text = _WORDS[changed] if 0 < changed < len(_WORDS) else str(changed)
        return text.capitalize() if entry.answer[0].isupper() else text
    if len(found) != 1:
        return None
    number = int(found[0][0])
    return entry.answer[: found[0].start()] + str(_changed(number, entry)) + entry.answer[found[0].end() :]


def _changed(number: int, entry: Entry) -> int:
    """Moves a number by up to three, or by up to three of its first digits where it is round; never into an alias."""
    step = 10 ** (len(str(number)) - len(str(number).rstrip('0'))) if number else 1
    start = seeds.stable_hash('number', entry.id) % len(_OFFSETS)
    taken = {word for wording in entry.keys for word in wording} | set(key(entry.text))
    moved = (number + offset * step for offset in (*_OFFSETS[start:], *_OFFSETS[:start], 4, 5, 6, 7))
    return next((value for value in moved if value > 0 and str(value) not in taken), number + 11 * step)


def _aliases(donor: Entry, entry: Entry) -> tuple[str, ...]:
    return tuple(alias for alias in donor.aliases if alias != donor.answer and key(alias) not in entry.keys)


def _fits(donor: Entry, entry: Entry) -> bool:
    wrong = key(donor.answer)
    return bool(
        wrong
        and not donor.keys & entry.keys
        and not contains(key(entry.text), wrong)
        and not any(contains(wrong, right) or contains(right, wrong) for right in entry.keys)
    )


def contains(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    """Tells whether the words of `part` follow one another in `words`."""
    return any(words[start : start + len(part)] == part for start in range(len(words) - len(part) + 1))

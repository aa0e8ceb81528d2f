"""Words of a text in a form that survives spelling: what the exact-match judge and the task loaders compare."""

import functools
import re
import unicodedata
from typing import NamedTuple

_TOKEN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|[^\W_]+(?:'[^\W_]+)*|[%&↑↓→]")
_APOSTROPHES = str.maketrans({mark: "'" for mark in '’‘‚‛`´ʼ'})
_LETTERS = str.maketrans({'æ': 'ae', 'œ': 'oe', 'ø': 'o', 'ł': 'l', 'đ': 'd', 'ð': 'd', 'þ': 'th'})
_SIGNS = {'%': 'percent', '&': 'and', '↑': 'up', '↓': 'down', '→': 'level'}
_UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
_TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'
_BEFORE_PRONOUN = 'the this that no any every which each another'
"""Words after which `one` is no number."""


def listed(text: str) -> tuple[str, ...]:
    """Returns the words of a list that is written as one text."""
    return tuple(text.split())


_NUMBERS = {word: value for value, word in enumerate(listed(_UNITS))}
_NUMBERS |= {word: 10 * tens for tens, word in enumerate(listed(_TENS), start=2)}


class Word(NamedTuple):
    """A word: its normal form, and the place in the text from which it comes."""

    normal: str
    start: int
    end: int


def plain_apostrophes(text: str) -> str:
    """Replaces typographic apostrophes by the typewriter's, one character for one."""
    return text.translate(_APOSTROPHES)


def words(text: str) -> list[Word]:
    """Splits a text into words: no case, no accents, no possessive, number words (0 to 99) as digits.

    A hyphen parts words, so that `T-Rex` and `T Rex` agree. `isn't` stays whole, for it carries a negation.
    """
    found = [
        Word(normal, match.start(), match.end())
        for match in _TOKEN.finditer(plain_apostrophes(text))
        if (normal := _normal(match[0]))
    ]
    return _with_digits(found)


def key(text: str) -> tuple[str, ...]:
    """Returns what two wordings of the same answer have in common: stems, without articles."""
    return tuple(stem(word.normal) for word in without_articles(text, words(text)))


def without_articles(text: str, found: list[Word]) -> list[Word]:
    """Drops `a`, `an` and `the`, unless nothing else is there; the letter of `Vitamin A` is no article."""
    kept = [
        word
        for index, word in enumerate(found)
        if word.normal not in ('a', 'an', 'the') or (index > 0 and text[word.start : word.end] == 'A')
    ]
    return kept or found


def stem(normal: str) -> str:
    """Strips the plural `s`."""
    return (
        normal[:-1] if len(normal) > 3 and normal.endswith('s') and not normal.endswith(('ss', 'us', 'is')) else normal
    )


@functools.lru_cache(maxsize=1 << 16)
def _normal(token: str) -> str:
    if token in _SIGNS:
        return _SIGNS[token]
    letters = unicodedata.normalize('NFKD', token.casefold()).translate(_LETTERS)
    letters = ''.join(letter for letter in letters if not unicodedata.combining(letter)).replace(',', '')
    if letters.endswith("n't"):
        return letters
    return letters.removesuffix("'s").replace("'", '')


def _with_digits(found: list[Word]) -> list[Word]:
    """Writes number words as digits; a pair like `twenty five` becomes one word."""
    result: list[Word] = []
    tens = None
    for index, word in enumerate(found):
        value = _NUMBERS.get(word.normal)
        if value is None or _is_pronoun(found, index):
            result.append(word)
            tens = None
        elif tens is not None and 0 < value < 10:
            result[-1] = Word(str(tens + value), result[-1].start, word.end)
            tens = None
        else:
            result.append(Word(str(value), word.start, word.end))
            tens = value if value >= 20 else None
    return result


def _is_pronoun(found: list[Word], index: int) -> bool:
    if found[index].normal != 'one':
        return False
    before = found[index - 1].normal if index else ''
    after = found[index + 1].normal if index + 1 < len(found) else ''
    return before in listed(_BEFORE_PRONOUN) or after == 'of'

"""Whether a rewriting kept what the original said: numbers, code, quotes, links, names, lists, length, language.

Each check compares what can be compared without understanding; a rewriting that passes them can still be wrong, which
is what the review by hand is for. Numbers inside code and links count as part of these.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Set
from typing import Literal

from warmjax.evals import words
from warmjax.validation import STRICT

Kind = Literal['numbers', 'code', 'quotes', 'links', 'names', 'lists', 'length', 'language']

_FENCED = re.compile(r'```(.*?)(?:```|\Z)', re.DOTALL)
_INLINE = re.compile(r'(?<!`)`([^`\n]+)`(?!`)')
_FORMULA = re.compile(r'\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)', re.DOTALL)
_LINK = re.compile(r'https?://[^\s<>"\')\]]+|www\.[^\s<>"\')\]]+|[\w.+-]+@[\w-]+\.\w[\w.]*\w')
_QUOTE = re.compile(r'"([^"\n]{2,})"|“([^”\n]{2,})”')
_ITEM = re.compile(r'^\s*(?:[-*+•]|(\d+)[.)])\s+\S', re.MULTILINE)
_MARKER = re.compile(r'^\s*\d+[.)](?=\s)', re.MULTILINE)
_NUMBER = re.compile(r'(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?')
_NAME = re.compile(r'(?<![.!?:;\n"“(*#>|-] )(?<![.!?:;\n"“(*#>|-])(?<!^)\b[A-Z]\w*[a-z]\w*\b')
_ACRONYM = re.compile(r'\b[A-Z][A-Z0-9]{1,}\b')
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SPELLED = words.listed('zero one two three four five six seven eight nine ten eleven twelve')
# Capitalised wherever they stand, and said in one style and not in the other.
_NO_NAMES = frozenset(words.listed("i i'm i'll i've i'd ok okay ai oh hey mr mrs ms dr"))
_LANGUAGE_WORDS = 20
_LANGUAGE_CHARS = 600  # enough to tell
_LANGUAGE_CERTAINTY = 0.99
_SAME_WORDS = 0.5  # a text that keeps so many of its words keeps its language


@dataclasses.dataclass(frozen=True)
class CheckSettings:
    """What a rewriting must keep.

    kinds: the checks that are made.
    min_ratio, max_ratio: its words may be so many times those of the original,
    slack_words: or differ by so many.
    names_lost: share of the original's names that it may leave out.
    names_invented: how many names it may bring in that neither the original nor the user's message has.
    """

    __pydantic_config__ = STRICT
    kinds: tuple[Kind, ...]
    min_ratio: float
    max_ratio: float
    slack_words: int
    names_lost: float
    names_invented: int


@dataclasses.dataclass(frozen=True)
class Facts:
    """What can be compared of a text."""

    numbers: frozenset[str]
    code: collections.Counter
    quotes: frozenset[str]
    links: frozenset[str]
    names: frozenset[str]
    words: frozenset[str]
    items: tuple[int, int]  # numbered, bulleted
    num_words: int
    prose: str


def check(original: str, rewrite: str, user: str, settings: CheckSettings) -> list[str]:
    """Returns what is wrong with a rewriting, a sentence a problem; nothing if all is well."""
    if not rewrite.strip():
        return ['empty']
    before, after = facts(original), facts(rewrite)
    problems = []
    for kind in settings.kinds:
        problems += CHECKS[kind](before, after, user, settings)
    return problems


@functools.lru_cache(maxsize=4096)
def facts(text: str) -> Facts:
    """Takes a text apart."""
    code, links, prose = collections.Counter(), frozenset(), text
    for pattern, marks in ((_FENCED, '`'), (_INLINE, '`'), (_FORMULA, '$\\')):
        if any(mark in prose for mark in marks):  # most texts have none, and need not be searched
            code.update(' '.join(''.join(found).split()) for found in pattern.findall(prose))
            prose = pattern.sub(' ', prose)
    if any(mark in prose for mark in ('://', 'www.', '@')):
        links = frozenset(link.rstrip('.,;:!?') for link in _LINK.findall(prose))
        prose = _LINK.sub(' ', prose)
    numbered = [bool(number) for number in _ITEM.findall(prose)]
    unmarked = _MARKER.sub('', prose)
    spoken = _WORD.findall(prose.lower().replace('’', "'"))
    said = set(spoken)
    possessive = {word for word in said if "'" in word}
    names = {word for word in (*_NAME.findall(unmarked), *_ACRONYM.findall(unmarked))}
    return Facts(
        numbers=frozenset(number.replace(',', '') for number in _NUMBER.findall(unmarked)),
        code=code,
        quotes=frozenset(' '.join((a or b).split()).strip('.,!?') for a, b in _QUOTE.findall(prose)),
        links=links,
        names=frozenset(_bare(name) for name in names) - _NO_NAMES,
        words=frozenset(said - possessive).union(
            part for word in possessive for part in (_bare(word), *word.split("'"))
        ),
        items=(sum(numbered), len(numbered) - sum(numbered)),
        num_words=len(spoken),
        prose=prose,
    )


def _bare(word: str) -> str:
    """Returns a name as it is looked for: lower case, no possessive."""
    return word.lower().replace('’', "'").removesuffix("'s").removesuffix("'")


def _listed(what: str, missing: set[str] | frozenset[str]) -> str:
    shown = ', '.join(repr(item if len(item) <= 40 else item[:40] + '...') for item in sorted(missing)[:3])
    return f'{what} {shown}' + (f' and {len(missing) - 3} more' if len(missing) > 3 else '')


def _numbers(before: Facts, after: Facts, user: str, settings: CheckSettings) -> list[str]:
    lost = {n for n in before.numbers - after.numbers if not _is_spelled(n, after)}
    invented = {n for n in after.numbers - before.numbers if not _is_spelled(n, before)}
    invented -= _users(invented, user, 'numbers')
    problems = [_listed('numbers: lost', lost)] if lost else []
    return problems + ([_listed('numbers: invented', invented)] if invented else [])


def _users(invented: Set[str], user: str, kind: str) -> frozenset[str]:
    """Returns what the user's message has of a kind; it is taken apart only where something is in question."""
    return getattr(facts(user), kind) if invented else frozenset()


def _is_spelled(number: str, text: Facts) -> bool:
    return number.isdigit() and int(number) < len(_SPELLED) and _SPELLED[int(number)] in text.words


def _code(before: Facts, after: Facts, user: str, settings: CheckSettings) -> list[str]:
    lost, invented = before.code - after.code, after.code - before.code
    problems = [_listed('code: lost', set(lost))] if lost else []
    return problems + ([_listed('code: invented', set(invented))] if invented else [])


def _quotes(before: Facts, after: Facts, user: str, settings: CheckSettings) -> list[str]:
    said = ' '.join(after.prose.split())
    lost = {quote for quote in before.quotes if quote not in said}
    invented = after.quotes - before.quotes
    if invented:
        source = ' '.join(f'{before.prose} {facts(user).prose}'.split()).lower()
        invented = {quote for quote in invented if quote.lower() not in source}
    problems = [_listed('quotes: lost', lost)] if lost else []
    return problems + ([_listed('quotes: invented', invented)] if invented else [])


def _links(before: Facts, after: Facts, user: str, settings: CheckSettings) -> list[str]:
    lost, invented = before.links - after.links, after.links - before.links
    invented -= _users(invented, user, 'links')
    problems = [_listed('links: lost', lost)] if lost else []
    return problems + ([_listed('links: invented', invented)] if invented else [])


def _names(before: Facts, after: Facts, user: str, settings: CheckSettings) -> list[str]:
    lost = before.names - after.words
    invented = after.names - before.words
    invented -= _users(invented, user, 'words')
    problems = []
    if len(lost) > settings.names_lost * len(before.names):
        problems.append(_listed('names: lost', lost))
    if len(invented) > settings.names_invented:
        problems.append(_listed('names: invented', invented))
    return problems


def _lists(before: Facts, after: Facts, user: str, settings: CheckSettings) -> list[str]:
    if before.items == after.items:
        return []
    return [f'lists: {sum(before.items)} items ({before.items[0]} numbered) became {sum(after.items)} '
            f'({after.items[0]} numbered)']  # fmt: skip


def _length(before: Facts, after: Facts, user: str, settings: CheckSettings) -> list[str]:
    is_slight = abs(after.num_words - before.num_words) <= settings.slack_words
    ratio = after.num_words / max(before.num_words, 1)
    if is_slight or settings.min_ratio <= ratio <= settings.max_ratio:
        return []
    return [f'length: {before.num_words} words became {after.num_words}']


def _language(before: Facts, after: Facts, user: str, settings: CheckSettings) -> list[str]:
    common = len(before.words & after.words)
    if min(before.num_words, after.num_words) < _LANGUAGE_WORDS or common > _SAME_WORDS * len(before.words):
        return []
    (was, sure_before), (now, sure_after) = (
        language(before.prose[:_LANGUAGE_CHARS]),
        language(after.prose[:_LANGUAGE_CHARS]),
    )
    if was == now or min(sure_before, sure_after) < _LANGUAGE_CERTAINTY:
        return []
    return [f'language: {was} became {now}']


CHECKS: dict[str, Callable[[Facts, Facts, str, CheckSettings], list[str]]] = {
    'numbers': _numbers,
    'code': _code,
    'quotes': _quotes,
    'links': _links,
    'names': _names,
    'lists': _lists,
    'length': _length,
    'language': _language,
}


@functools.lru_cache(maxsize=4096)
def language(text: str) -> tuple[str, float]:
    """Tells the language of a text (ISO 639-1) and how sure that is, from 0 to 1."""
    name, certainty = _identifier().classify(text)
    return name, float(certainty)


@functools.cache
def _identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

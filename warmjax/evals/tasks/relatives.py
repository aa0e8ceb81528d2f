"""MedQA's exam text as a relative of the patient would tell it, by rules; what no rule fits stays whole.

    A 52-year-old woman presents to ... Which of the following is the most likely diagnosis?
    My 52-year-old wife presents to ... What is the most likely diagnosis?

A text is told by a relative only if both its opening and its question have a rule. A question without a patient of its
own loses its reference to options that a free-text prompt does not show. Everything between stays as it is.
"""

import re
from typing import NamedTuple

from warmjax.evals.words import listed

_ADJECTIVES = r'(?:(?:previously|otherwise) )?(?:healthy |obese |unconscious |unresponsive |hospitalized )?'
_OPENING = re.compile(
    rf'An? (?P<before>{_ADJECTIVES})(?P<age>\d{{1,3}})[- ](?P<unit>year|month|week|day|hour)s?[- ]old '
    r'(?P<between>(?:[A-Za-z0-9-]+ ){0,3}?)'
    r'(?:(?P<he>man|boy|gentleman|male(?: patient| infant| newborn| child)?)'
    r'|(?P<she>woman|girl|lady|female(?: patient| infant| newborn| child)?)),? '
    r'(?=(?:is|was|has|had|presents|presented|comes|came|complains|visits|visited|returns|arrives|undergoes|seeks|calls'
    r'|suffers|sustains|develops|makes|schedules|dies|reports|gives|with|at|in|who|gravida|is|goes|attends|enters|falls'
    r'|collapses|walks|states|experiences|notices|underwent|went|being|involved)\b)'
)
_NO_ADJECTIVE = re.compile(
    r'\b(?:son|daughter|to|her|his|old|and|of|or|mother|father|student|patient)\b', re.IGNORECASE
)
_READER = re.compile(r'\b(?:you|your)\b', re.IGNORECASE)
_OF = r"\b(?:his|her|(?:the )?(?:patient|child|boy|girl)['’]s) (?:\w+ )?"
_PARENT = re.compile(
    _OF + r'(?:mother|father|parents?|grandmother|grandfather)\b|\b(?:the|a|by|both) (?:mother|father|parents)\b',
    re.IGNORECASE,
)
_PARTNER = re.compile(
    _OF + r'(?:wife|husband|fianc[ée]e?|boyfriend|girlfriend|partner|spouse)\b|\b(?:fe)?male partner\b|\band husband\b',
    re.IGNORECASE,
)
_SIBLING = re.compile(_OF + r'(?:brother|sister|sibling|twin)s?\b', re.IGNORECASE)
_CHILD = re.compile(
    _OF + r'(?:son|daughter|child|children|grand-?son|grand-?daughter)s?\b|\b(?:no|any) children\b', re.IGNORECASE
)

_WHICH = re.compile(r'\b(?P<which>[Ww]hich)(?: one)? of the following\b')
_VERBS = 'is|was|will|would|could|can|should|may|must|has|best|most'
_BARE = re.compile(rf' (?:{_VERBS}|might|explains|describes|represents|underlies)\b')
_NOUN = re.compile(
    r' (?P<adjectives>(?:(?!of |in |the |and |or |to |for )[a-z-]+ ){0,2}?)(?P<noun>[a-z]+s)'
    rf'(?P<of>(?: of (?:action|inheritance|bias|cancer|transmission))?)(?=\?| (?:{_VERBS}|did|does)\b)'
)
_UNSAID = frozenset(listed('statements sets choices options sequences pairs combinations associations values sites'))
"""What only a list of options gives a meaning to."""
_NO_PLURALS = frozenset(listed('this was has is does diagnosis analysis bias virus process stimulus'))
_ALL_BUT = re.compile(r'\b(?:NOT|EXCEPT|LEAST)\b|\bexcept\b')


class Told(NamedTuple):
    """A text, and how it came about: `relative`, `question only`, or `whole: <why>`."""

    text: str
    how: str


def tell(text: str) -> Told:
    """Tells an exam text as a relative would; returns it whole where a rule is missing."""
    question = _question(text)
    if question is None:
        return Told(text, 'whole: the question needs its options')
    opening = _OPENING.match(text)
    if opening is None:
        return (
            Told(question, 'question only') if question != text else Told(text, 'whole: no opening of the known form')
        )
    if _NO_ADJECTIVE.search(opening['between']):
        return Told(text, 'whole: no opening of the known form')
    if _READER.search(text):
        return Told(text, 'whole: it speaks to a physician')
    is_female = opening['she'] is not None
    if _is_of_the_other_gender(text, is_female):
        return Told(text, 'whole: the pronouns do not fit')
    years = int(opening['age']) if opening['unit'] == 'year' else 0
    who = f'My {opening["before"]}{opening["age"]}-{opening["unit"]}-old {opening["between"]}'
    comma = ', ' if opening[0].endswith(', ') else ' '
    return Told(who + _relative(years, is_female, text) + comma + question[opening.end() :], 'relative')


def _relative(years: int, is_female: bool, text: str) -> str:
    """Names a relative of that age; another one where the text speaks of the first's own as somebody else."""
    if years < 13:
        names = ('nephew', 'niece') if _PARENT.search(text) else ('son', 'daughter')
    elif years >= 60:
        names = ('uncle', 'aunt') if _CHILD.search(text) else ('father', 'mother')
    elif years >= 25 and not _PARTNER.search(text):
        names = ('husband', 'wife')
    else:
        names = ('cousin', 'cousin') if _SIBLING.search(text) else ('brother', 'sister')
    return names[is_female]


def _is_of_the_other_gender(text: str, is_female: bool) -> bool:
    he, she = (len(re.findall(rf'\b(?:{pronouns})\b', text, re.IGNORECASE)) for pronouns in ('he|his|him', 'she|hers?'))
    mine, other = (she, he) if is_female else (he, she)
    return other > mine


def _question(text: str) -> str | None:
    """Returns a text without `of the following`, as it is if that is not in it, None where no rule fits."""
    parts, end = [], 0
    for match in _WHICH.finditer(text):
        if _ALL_BUT.search(text[match.start() :]):
            return None
        rest = text[match.end() :]
        noun = _NOUN.match(rest)
        starts = match['which'] == 'Which' or re.search(r'[.?!]["”]?\s*$|\n\s*$', text[: match.start()])
        if rest.startswith('?') or _BARE.match(rest):
            asked, used = ('What' if starts else 'what'), 0
        elif noun and noun['noun'] not in _UNSAID and (singular := _singular(noun['noun'])):
            asked = f'{"Which" if starts else "which"} {noun["adjectives"]}{singular}{noun["of"]}'
            used = noun.end()
        else:
            return None
        parts += [text[end : match.start()], asked]
        end = match.end() + used
    rest = ''.join([*parts, text[end:]])
    return None if re.search(r'\bof the (?:following|options)\b.{0,80}\?', rest) else rest


def _singular(noun: str) -> str | None:
    """Returns the singular of a plural, None where the word may be none."""
    if noun in _NO_PLURALS or noun.endswith(('ss', 'us', 'is')):
        return None
    for ending, singular in (
        ('ies', 'y'),
        ('yses', 'ysis'),
        ('noses', 'nosis'),
        ('sses', 'ss'),
        ('ruses', 'rus'),
        ('biases', 'bias'),
    ):
        if noun.endswith(ending):
            return noun.removesuffix(ending) + singular
    return noun.removesuffix('s')

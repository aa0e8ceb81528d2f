"""What a text says about a claim: for yes/no questions, and for reference answers that are whole statements.

Statements are seldom repeated word for word, so their polarity and their content are compared:

    right  The Moon is not hollow.       negated      sentence "There is no evidence that the Moon is hollow."
    wrong  The Moon is hollow.           plain        about the claim (moon, hollow), negated -> correct

    right  Bees make honey.              only bee     sentence "Honey comes from bees, of course."
    wrong  Wasps make honey.             only wasp    names what only the right one names, plain -> correct
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from warmjax.evals.passages import Sentence
from warmjax.evals.words import key, listed, words
from warmjax.records import Question

Side = Literal['correct', 'incorrect']
OTHER: dict[Side, Side] = {'correct': 'incorrect', 'incorrect': 'correct'}

BARE = frozenset({('yes',), ('no',), ('true',), ('false',)})
"""Answers that only a question gives a meaning to: to look for them as words would find every `no`."""

MIN_CONTENT = 3
"""A phrase of so many words that carry content is seldom repeated word for word, so it is read like a statement."""
MIN_OVERLAP = 0.34
"""Share of a claim's words that a sentence must hold to be about it: a little more than a third."""

MIN_PHRASE_OVERLAP = 0.5
"""The same for phrases, which have fewer words."""

_NEGATION = re.compile(
    r"\b(?:not(?! only\b| just\b)|never|no(?! doubt\b)|nor|neither|none|nothing|cannot|without|\w+n't|ceased|stopped"
    r'|lacks?|myth|myths|misconception|debunked|false|untrue|unfounded|baseless|hoax|fictional|impossible|unlikely)\b'
)
_YES = re.compile(r'^(?:well )?(?:yes|yeah|yep|absolutely|definitely|certainly|of course|indeed)\b(?! not\b)')
_NO = re.compile(r'^(?:well )?(?:no|nope|absolutely not|definitely not|certainly not|of course not)\b')
_NO_THING = re.compile(r'^no (?!it|they|he|she|this|that|there|we|you|i|the)\w+')
_ASKS_YES_NO = re.compile(
    r'(?:^|,\s*)(is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|should|may|might|must)\b',
    re.IGNORECASE,
)
_REPORT = re.compile(
    r'\b(?:ideas?|theory|theories|claims?|rumou?rs?|speculations?|beliefs?|curious|wonder|wondering|why you(?:re|ve|d)?'
    r'|you think|you said|some people|many people|legend|topic|question)\b'
)
_NO_EVIDENCE = re.compile(
    r"\b(?:no|not any|isn't any|lack of|without)"
    r'(?: (?!but\b)\w+){0,3} (?:evidence|proof)\b'
)
_REFUTED = re.compile(
    r"\b(?:no|not any|isn't any|lack of|without)(?: (?!but\b)\w+){0,3} (?:evidence|proof)\b(?: (?!against\b)\w+){0,2} "
    r'(?:its|it|this|that|these|those|their)\b|\b(?:misinformation|conspiracy theor(?:y|ies))\b'
    r'(?: \w+){0,3} (?:it|this|that|these|those|them)\b'
)
"""What is said against a claim that stands in another sentence."""
_INDEED = re.compile(r'\b(\w+) (?:indeed|really|truly)\b')
_OPENER = re.compile(r'\s*(yes|no)\b', re.IGNORECASE)
_ALTERNATIVE = re.compile(r',? \bor\b |\brather than\b', re.IGNORECASE)
_FUNCTION_WORDS = listed(
    'a an and any are as at be been being but by can cannot could did do does for from had has have he her his how if '
    'in into is it its may might more most must never no nor not of on or our really she should so some such than that '
    'the their them there these they this those to was we were what when where which who why will with would yes you '
    "your actually still ever doe isn't aren't wasn't weren't don't doesn't didn't can't won't hasn't haven't"
)


class Finding(NamedTuple):
    """A side, and the part of the text (character offsets) that shows it."""

    side: Side
    start: int
    end: int


class Claim(NamedTuple):
    """What tells the right statement from the wrong one.

    negated: the side whose statement is negated, where exactly one is; then `topic` tells what both are about.
    only: the words that one side alone uses.
    yes: the side that the answer `yes` stands for, None if the question is no yes/no question.
    asked: what the question is about, up to its `or`.
    verb: with which it asks (`is`, `did`), '' if it does not ask for yes or no.
    least: the share of one side's words that a sentence must hold to speak for it.
    """

    negated: Side | None
    topic: frozenset[str]
    only: dict[Side, frozenset[str]]
    yes: Side | None
    asked: frozenset[str]
    verb: str
    least: float


def claim_of(question: Question) -> Claim | None:
    """Returns the claim of a question whose answers are statements, long phrases, or yes and no, else None."""
    answers: dict[Side, str] = {'correct': question.correct_answer, 'incorrect': question.incorrect_answer}
    openers = {side: match[1].lower() for side, answer in answers.items() if (match := _OPENER.match(answer))}
    content = {side: _content(answer) for side, answer in answers.items()}
    negated = _negated_side(answers, openers)
    if question.answer_form == 'phrase' and len(openers) < 2 and len(content['correct']) < MIN_CONTENT:
        is_nothing = negated == 'correct' and content['correct'] <= _stems('none nothing nobody nowhere')
        if not is_nothing:
            return None
    only: dict[Side, frozenset[str]] = {
        'correct': content['correct'] - content['incorrect'],
        'incorrect': content['incorrect'] - content['correct'],
    }
    topic = (content['correct'] & content['incorrect']) or _content(question.text)
    asked = _content(_ALTERNATIVE.split(question.text)[0])
    asks = _ASKS_YES_NO.search(question.text)
    return Claim(
        negated,
        topic,
        only,
        _yes_side(question, openers, negated, only),
        asked,
        verb=asks[1].lower() if asks else '',
        least=MIN_PHRASE_OVERLAP if question.answer_form == 'phrase' else MIN_OVERLAP,
    )


def find(claim: Claim, parts: Sequence[Sentence]) -> Finding | None:
    """Returns the side that the sentences take: by the first `yes` or `no`, else by the sum of what they say."""
    for sentence in parts if claim.yes else ():
        if (answer := _opening(sentence.text)) and not sentence.asks:
            side = claim.yes if answer == 'yes' else OTHER[claim.yes]
            return Finding(side, sentence.words[0].start, sentence.words[0].end)
        if _affirms(claim, sentence):
            return Finding(claim.yes, sentence.words[0].start, sentence.words[-1].end)
    weights: dict[Side, float] = {'correct': 0.0, 'incorrect': 0.0}
    strongest: dict[Side, tuple[float, Sentence]] = {}
    for sentence in parts:
        side, weight = (None, 0.0) if sentence.asks else _leaning(claim, sentence)
        if side is not None:
            weights[side] += weight
            if side not in strongest or weight > strongest[side][0]:
                strongest[side] = (weight, sentence)
    if weights['correct'] == weights['incorrect']:
        return None
    side = max(weights, key=weights.__getitem__)
    sentence = strongest[side][1]
    return Finding(side, sentence.words[0].start, sentence.words[-1].end)


def _leaning(claim: Claim, sentence: Sentence) -> tuple[Side | None, float]:
    """Returns the side that a sentence speaks for and how much of the claim it holds (0 to 1).

    A sentence that only reports what people say or wonder speaks for neither, unless it is negated.
    """
    content = _stems(sentence.text)
    is_negated = bool(_NEGATION.search(sentence.text))
    if not is_negated and _REPORT.search(sentence.text) and not _REFUTED.search(sentence.text):
        return None, 0.0
    if claim.negated is not None:
        overlap = len(claim.topic & content) / max(len(claim.topic), 1)
        side = claim.negated if is_negated else OTHER[claim.negated]
        if claim.yes and overlap and _NO_EVIDENCE.search(sentence.text):
            return side, max(overlap, MIN_OVERLAP)
        if _REFUTED.search(sentence.text):
            return claim.negated, max(overlap, MIN_OVERLAP)
        return (side, overlap) if overlap >= MIN_OVERLAP else (None, 0.0)
    shares = {side: len(only & content) / max(len(only), 1) for side, only in claim.only.items()}
    difference = shares['correct'] - shares['incorrect']
    if abs(difference) < claim.least:
        return None, 0.0
    return ('correct' if (difference > 0) != is_negated else 'incorrect'), abs(difference)


def _affirms(claim: Claim, sentence: Sentence) -> bool:
    """Tells whether a sentence repeats the question as something that is indeed so."""
    indeed = _INDEED.search(sentence.text)
    if sentence.asks or not indeed or indeed[1] != claim.verb or _NEGATION.search(sentence.text):
        return False
    return len(claim.asked & _stems(sentence.text)) > len(claim.asked) / 2


def _opening(text: str) -> Literal['yes', 'no', '']:
    if _NO.match(text) and not _NO_THING.match(text):
        return 'no'
    return 'yes' if _YES.match(text) else ''


def _negated_side(answers: dict[Side, str], openers: dict[Side, str]) -> Side | None:
    """Returns the one side that is negated: by its `no` if both begin with yes or no, else by its words."""
    if len(openers) == 2:
        negated = [side for side, opener in openers.items() if opener == 'no']
    else:
        negated = [side for side, answer in answers.items() if _NEGATION.search(_joined(answer))]
    return negated[0] if len(negated) == 1 else None


def _yes_side(
    question: Question, openers: dict[Side, str], negated: Side | None, only: dict[Side, frozenset[str]]
) -> Side | None:
    """Returns the side that `yes` stands for: the one that is not negated, or the one whose words the question uses."""
    if not _ASKS_YES_NO.search(question.text):
        return None
    meant = {side if opener == 'yes' else OTHER[side] for side, opener in openers.items()}
    if len(meant) == 1:
        return meant.pop()
    if negated is not None:
        return OTHER[negated]
    asked, *others = map(_content, _ALTERNATIVE.split(question.text))
    other = frozenset().union(*others)
    shares = {side: (len(mine & asked) - len(mine & other)) / max(len(mine), 1) for side, mine in only.items()}
    if shares['correct'] == shares['incorrect']:
        return None
    return 'correct' if shares['correct'] > shares['incorrect'] else 'incorrect'


def _content(text: str) -> frozenset[str]:
    return _stems(_joined(text))


def _joined(text: str) -> str:
    return ' '.join(word.normal for word in words(text))


def _stems(text: str) -> frozenset[str]:
    """Returns the stems of the words that carry content, verb endings stripped."""
    return frozenset(
        re.sub(r'(?:ing|ed|e)$', '', word) if len(word) > 4 else word
        for word in key(text)
        if word not in _FUNCTION_WORDS
    )

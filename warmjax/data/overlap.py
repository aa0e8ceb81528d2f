"""Finds messages that are the same, or nearly, and questions that are asked within longer messages."""

import bisect
import collections
import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import rapidfuzz

NEAR_CHARS = 2000
"""Messages are compared for likeness by their first so many characters."""
ANCHOR = 4
"""Words by which a question is looked for in longer messages; shorter ones are compared with whole messages only."""

Kind = Literal['same', 'contained', 'near']


def normalise(text: str) -> str:
    """Returns a message without case, punctuation and spacing; two messages of one normal form are the same prompt."""
    folded = unicodedata.normalize('NFKC', text).casefold()
    return ' '.join(re.findall(r'\w+', folded)) or folded.strip()


class Messages:
    """Messages in normal form among which near duplicates are looked up.

    The likeness of two is rapidfuzz's `ratio`, 0 to 1: twice the characters of their longest common subsequence over
    the characters of both.
    """

    def __init__(self, threshold: float, texts: Iterable[str]):
        """`threshold` is the likeness from which messages are near duplicates; at 1 only the same ones are."""
        self._threshold = threshold
        self._known = sorted({text[:NEAR_CHARS] for text in texts}, key=len)
        self._lengths = [len(text) for text in self._known]

    def add(self, text: str) -> None:
        text = text[:NEAR_CHARS]
        place = bisect.bisect(self._lengths, len(text))
        self._known.insert(place, text)
        self._lengths.insert(place, len(text))

    def nearest(self, text: str) -> tuple[str, float] | None:
        """Returns the known message most like `text`, cut, and how much; None if none is a near duplicate."""
        text = text[:NEAR_CHARS]
        # Messages whose lengths differ more than this cannot be so alike.
        factor = self._threshold / (2 - self._threshold)
        first = bisect.bisect_left(self._lengths, int(len(text) * factor))
        last = bisect.bisect_right(self._lengths, int(len(text) / factor) + 1)
        found = rapidfuzz.process.extractOne(
            text,
            self._known[first:last],
            scorer=rapidfuzz.fuzz.ratio,
            processor=None,
            score_cutoff=100 * self._threshold,
        )
        return None if found is None else (found[0], found[1] / 100)


@dataclasses.dataclass(frozen=True)
class Overlap:
    """A question (by key) that a message (by key) asks too: whole, within a longer text, or nearly."""

    question: str
    message: str
    kind: Kind
    likeness: float


def find(questions: Mapping[str, str], messages: Mapping[str, str], threshold: float) -> Iterator[Overlap]:
    """Finds which questions are asked in messages; both are in normal form, by key.

    A question is reported once a message, and as near only where no message asks it in its own words.
    """
    whole, anchored = collections.defaultdict(list), collections.defaultdict(list)
    for key, text in questions.items():
        whole[text].append(key)
        words = text.split()
        if len(words) >= ANCHOR:
            anchored[tuple(words[:ANCHOR])].append((key, words))
    asked = set()
    for message, text in messages.items():
        same = whole.get(text, ())
        for key in dict.fromkeys((*same, *_contained(text.split(), anchored))):
            asked.add(key)
            yield Overlap(key, message, 'same' if key in same else 'contained', 1.0)
    if threshold >= 1:
        return
    by_text = collections.defaultdict(list)
    for message, text in messages.items():
        by_text[text[:NEAR_CHARS]].append(message)
    known = Messages(threshold, by_text)
    for key, text in questions.items():
        if key not in asked and (found := known.nearest(text)):
            for message in by_text[found[0]]:
                yield Overlap(key, message, 'near', found[1])


def _contained(words: list[str], anchored: Mapping[tuple[str, ...], list[tuple[str, list[str]]]]) -> Iterator[str]:
    for start in range(len(words) - ANCHOR + 1):
        for key, question in anchored.get(tuple(words[start : start + ANCHOR]), ()):
            if words[start : start + len(question)] == question:
                yield key

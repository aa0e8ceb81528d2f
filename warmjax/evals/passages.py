"""A text cut into sentences and clauses, each a run of its words."""

import re
from typing import NamedTuple

from warmjax.evals.words import Word, listed, words

_SENTENCE_END = re.compile(r'(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bSt)(?<!\bMrs)(?<!\b[A-Z])[.!?]+(?=["”’\')*_]*\s)|\n+')
_CLAUSE_MARK = re.compile(r'[,;:()—–…]|\.{3}|\s-\s')
_CLAUSE_WORDS = listed('but however instead although though while whereas yet because so')


class Sentence(NamedTuple):
    """A sentence of a text: its words, the clause to which each of them belongs, and whether it asks something."""

    words: tuple[Word, ...]
    clauses: tuple[int, ...]
    asks: bool

    def before(self, index: int) -> str:
        """Returns the words of the same clause that stand before a word, joined by spaces."""
        return self._joined(range(index))

    def after(self, index: int) -> str:
        """Returns the words of the same clause from a word on, joined by spaces; '' if a new clause begins there."""
        if index >= len(self.words) or self.clauses[index] != self.clauses[index - 1]:
            return ''
        return self._joined(range(index, len(self.words)), clause_of=index)

    def _joined(self, indices: range, clause_of: int | None = None) -> str:
        if clause_of is None:
            clause_of = indices.stop
        clause = self.clauses[clause_of]
        return ' '.join(self.words[index].normal for index in indices if self.clauses[index] == clause)

    @property
    def text(self) -> str:
        """All words, joined by spaces."""
        return ' '.join(word.normal for word in self.words)


def sentences(text: str) -> list[Sentence]:
    """Cuts a text into sentences; those without a word are left out."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)] + [len(text)]
    result, remaining = [], words(text)
    for end in ends:
        mine = [word for word in remaining if word.start < end]
        remaining = remaining[len(mine) :]
        if mine:
            asks = '?' in text[mine[-1].end : end + 1]
            result.append(Sentence(tuple(mine), _clauses(text, mine), asks))
    return result


def _clauses(text: str, found: list[Word]) -> tuple[int, ...]:
    """Numbers the clause of each word: marks and words such as `but` begin a new one."""
    numbers, current = [], 0
    for index, word in enumerate(found):
        gap = text[found[index - 1].end : word.start] if index else ''
        current += bool(_CLAUSE_MARK.search(gap)) or word.normal in _CLAUSE_WORDS
        numbers.append(current)
    return tuple(numbers)

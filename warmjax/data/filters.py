"""Filters conversations that are not safe for work, before they can be drawn.

A scorer gives a text named scores from 0 to 1; a conversation with one above the threshold is dropped. The study used
Detoxify and does not say with which model, threshold or piece of text; a word list is another filter, and a run's
counts say which was used.
"""

import collections
import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

from etils import epath

from warmjax import runs
from warmjax.data.raw import NUM_EXAMPLES, RawConversation
from warmjax.validation import STRICT

WORDS = epath.Path(__file__).parent / 'explicit_words.txt'


@dataclasses.dataclass(frozen=True)
class FilterSettings:
    """backend: `detoxify` (its classifiers, in transformers' form; extra `filter`), `moderation` (an OpenAI-compatible
        endpoint; extra `api`), `words` (a list of words: another filter than the study's) or `none`.
    scope: `pool` filters all conversations and then draws; `drawn` draws the same conversations and filters only those
        that come up, but counts no pool.
    threshold: score, 0 to 1, above which a conversation is dropped.
    fields: the scores that count; () for all that the backend gives.
    max_chars: how many characters are scored, from the start of a conversation, its turns joined by line breaks.
    batch_size: conversations scored at once.
    checkpoint: of `detoxify`: folder with safetensors and tokenizer, or a name on the hub.
    base_url, model, key_variable: of `moderation`: the endpoint, its model, and the environment variable of its key.
    words: of `words`: file of words or phrases, one a line; '' for a short built-in list.
    """

    __pydantic_config__ = STRICT
    backend: Literal['detoxify', 'moderation', 'words', 'none']
    scope: Literal['pool', 'drawn']
    threshold: float
    fields: tuple[str, ...]
    max_chars: int
    batch_size: int
    checkpoint: str
    base_url: str
    model: str
    key_variable: str
    words: str

    def __post_init__(self):
        problems = []
        if not 0 <= self.threshold <= 1:
            problems.append(f'threshold expected 0 to 1, got {self.threshold}')
        if self.max_chars < 1 or self.batch_size < 1:
            problems.append(f'max_chars and batch_size expected at least 1, got {self.max_chars} and {self.batch_size}')
        if problems:
            raise ValueError('data.filter: ' + '; '.join(problems))


class Scorer(Protocol):
    """label: what a manifest calls the filter."""

    label: str

    def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Returns the named scores of each text, 0 to 1."""


class WordList:
    """Scores 1 where a text has a listed word or phrase, whole and in whatever case."""

    def __init__(self, path: epath.PathLike):
        path = epath.Path(path)
        if not path.exists():
            raise FileNotFoundError(f'{path}: expected a file of words, one a line, found none; mend data.filter.words')
        words = [line.strip() for line in path.read_text().split('\n')]
        words = [word for word in words if word and not word.startswith('#')]
        if not words:
            raise ValueError(f'{path}: expected words, one a line, got none; mend the file')
        self.label = f"list of {len(words)} words (another filter than the study's)"
        self._words = [word.casefold() for word in words]
        self._pattern = re.compile(r'\b(?:' + '|'.join(map(re.escape, self._words)) + r')\b')

    def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        return [{'words': float(self._has_word(text.casefold()))} for text in texts]

    def _has_word(self, text: str) -> bool:
        # Looking for each word anywhere first is 20 times as fast as the pattern.
        return any(word in text for word in self._words) and self._pattern.search(text) is not None


class Screen:
    """Lets pass the conversations that a filter does not drop, each scored once, and counts.

    Scores of slow backends are kept in a log, a line a conversation, from which a killed run goes on.
    """

    def __init__(
        self, scorer: Scorer, settings: FilterSettings, log: runs.RowLog | None, advance: Callable[[int], None]
    ):
        self._scorer, self._settings, self._log, self._advance = scorer, settings, log, advance
        rows = [json.loads(line) for line in log.lines] if log else []
        self._scores = {row['id']: row['scores'] for row in rows}
        self._reasons: dict[str, str] = {}

    def passing(self, conversations: Iterable[RawConversation]) -> Iterator[RawConversation]:
        """Yields what is not dropped, in order; scores a batch ahead at most."""
        conversations = iter(conversations)
        while batch := list(itertools.islice(conversations, self._settings.batch_size)):
            self._score(list({c.id: c for c in batch if c.id not in self._scores}.values()))
            for conversation in batch:
                if conversation.id not in self._reasons:
                    self._reasons[conversation.id] = self._reason(self._scores[conversation.id])
                    self._advance(1)
                if not self._reasons[conversation.id]:
                    yield conversation

    def _score(self, batch: Sequence[RawConversation]) -> None:
        if not batch:
            return
        scores = self._scorer.score([_text(c)[: self._settings.max_chars] for c in batch])
        named = {
            c.id: {name: round(score, 6) for name, score in row.items()} for c, row in zip(batch, scores, strict=True)
        }
        self._scores |= named
        if self._log:
            self._log.append(
                [json.dumps({'id': name, 'scores': row}, ensure_ascii=False) for name, row in named.items()]
            )

    def _reason(self, scores: dict[str, float]) -> str:
        """Names the highest counted score above the threshold, '' for none."""
        if unknown := set(self._settings.fields) - set(scores):
            raise ValueError(
                f'data.filter.fields: expected scores that {self._scorer.label} gives ({", ".join(scores)}), got '
                f'{", ".join(sorted(unknown))}; mend the fields, or give () for all'
            )
        counted = {name: scores[name] for name in self._settings.fields or scores}
        worst = max(counted, key=counted.get)
        return worst if counted[worst] > self._settings.threshold else ''

    def counts(self) -> dict[str, Any]:
        """Returns what the filter did, for a manifest."""
        dropped = {name: reason for name, reason in self._reasons.items() if reason}
        return {
            'backend': self._settings.backend,
            'filter': self._scorer.label,
            'scope': self._settings.scope,
            'scored': len(self._reasons),
            'dropped': len(dropped),
            'by_field': dict(collections.Counter(dropped.values())),
            'examples': list(dropped)[:NUM_EXAMPLES],
        }


class NoFilter:
    """Scores nothing: all texts pass."""

    label = 'none'

    def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        return [{'none': 0.0}] * len(texts)


def make_screen(
    settings: FilterSettings, workdir: epath.PathLike, classifier: epath.PathLike | None, advance: Callable[[int], None]
) -> Screen:
    """Makes the filter of a run.

    Args:
        settings: which filter.
        workdir: where slow scores are kept.
        classifier: folder of the classifier of `detoxify`.
        advance: is told of every conversation that the filter looked at.

    Raises:
        ValueError: the backend lacks what it needs: a package, weights, a key.
    """
    match settings.backend:
        case 'none':
            return Screen(NoFilter(), dataclasses.replace(settings, fields=()), None, advance)
        case 'words':
            chosen = dataclasses.replace(settings, fields=(), threshold=0.5)
            return Screen(WordList(settings.words or WORDS), chosen, None, advance)
        case 'detoxify':
            from warmjax.data import toxicity

            scorer = toxicity.Classifier(classifier)
        case 'moderation':
            from warmjax.data import moderation

            scorer = moderation.Endpoint(settings.base_url, settings.model, settings.key_variable)
    return Screen(scorer, settings, runs.RowLog(epath.Path(workdir) / 'filter.jsonl'), advance)


def _text(conversation: RawConversation) -> str:
    return '\n'.join(turn.content for turn in conversation.turns if turn.role != 'system')

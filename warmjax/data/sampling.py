"""Draws the training conversations, balanced over the query types, and the held-out validation prompts."""

import collections
import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from warmjax import records, seeds
from warmjax.data import query_types
from warmjax.data.sharegpt import RawConversation
from warmjax.validation import STRICT

C = TypeVar('C')


@dataclasses.dataclass(frozen=True)
class DrawSettings:
    """How many conversations are drawn, and how (the study: 1617 conversations, 1500 validation prompts, 20 turns).

    num_conversations: training conversations asked for, over all six query types.
    num_validation: held-out first user messages asked for, over all six query types.
    max_turns: user and assistant turns at which a training conversation is cut; a system turn is not counted.
    seed: number that, with the ids, decides which conversations are drawn.
    """

    __pydantic_config__ = STRICT
    num_conversations: int
    num_validation: int
    max_turns: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Draw:
    """What was drawn. `counts` says what was asked for and what the pool could give, by query type."""

    conversations: list[records.Conversation]
    validation: list[records.Prompt]
    counts: dict[str, Any]


def draw(conversations: Sequence[RawConversation], settings: DrawSettings) -> Draw:
    """Draws training conversations and validation prompts, equally often from each query type.

    A conversation's type is that of its first exchange. The draw depends on the seed, the ids and the texts, not on
    the order of the pool. A type that runs short gives all it has and the others fill up evenly. Training comes first;
    validation gets what is left, without any message that a training conversation (before it was cut) or another
    validation prompt holds too.

    Raises:
        ValueError: settings that make no sense, no conversation at all, or two conversations of one id.
    """
    _check(conversations, settings)
    pool = _by_type(_shuffled(conversations, settings.seed, 'training'))
    quotas = shares({name: len(pool[name]) for name in query_types.TYPES}, settings.num_conversations)
    taken = {name: pool[name][: quotas[name]] for name in query_types.TYPES}
    rest = [c for name in query_types.TYPES for c in pool[name][quotas[name] :]]

    known = {normalise(turn.content) for group in taken.values() for c in group for turn in c.turns}
    unseen = _without_overlap(_shuffled(rest, settings.seed, 'validation'), known)
    candidates = _by_type(unseen)
    held_quotas = shares({name: len(candidates[name]) for name in query_types.TYPES}, settings.num_validation)
    held = [c for name in query_types.TYPES for c in candidates[name][: held_quotas[name]]]

    training = [_cut(c, name, settings.max_turns) for name, group in taken.items() for c in group]
    training = _shuffled(training, settings.seed, 'training')
    counts = {
        'pool': {'conversations': len(conversations), 'by_type': {name: len(pool[name]) for name in query_types.TYPES}},
        'training': {
            'asked': settings.num_conversations,
            'got': len(training),
            'by_type': quotas,
            'replies': sum(turn.role == 'assistant' for c in training for turn in c.turns),
            'cut': sum(_num_spoken(c) > settings.max_turns for group in taken.values() for c in group),
        },
        'validation': {
            'asked': settings.num_validation,
            'got': len(held),
            'by_type': held_quotas,
            'left_out_for_overlap': len(rest) - len(unseen),
        },
    }
    prompts = [_validation_prompt(c) for c in _shuffled(held, settings.seed, 'validation')]
    return Draw(training, prompts, counts)


def shares(available: Mapping[str, int], total: int) -> dict[str, int]:
    """Splits `total` equally over groups, none above what it has; what is left over goes to the first groups.

        shares({'a': 9, 'b': 1, 'c': 9}, 10) == {'a': 5, 'b': 1, 'c': 4}

    Fewer than `total` come out where the groups together have fewer.
    """
    result = dict.fromkeys(available, 0)
    left = min(total, sum(available.values()))
    while left:
        open_groups = [name for name in available if result[name] < available[name]]
        step = max(left // len(open_groups), 1)
        for name in open_groups:
            given = min(step, available[name] - result[name], left)
            result[name] += given
            left -= given
    return result


def normalise(text: str) -> str:
    """Returns a message without case, punctuation and spacing; two messages of one normal form are the same prompt."""
    folded = unicodedata.normalize('NFKC', text).casefold()
    return ' '.join(re.findall(r'\w+', folded)) or folded.strip()


def _check(conversations: Sequence[RawConversation], settings: DrawSettings) -> None:
    problems = []
    if settings.num_conversations < 1:
        problems.append(f'num_conversations expected at least 1, got {settings.num_conversations}')
    if settings.num_validation < 0:
        problems.append(f'num_validation expected 0 or more, got {settings.num_validation}')
    if settings.max_turns < 2:
        problems.append(f'max_turns expected at least 2 (a message and a reply), got {settings.max_turns}')
    if not conversations:
        problems.append('the pool expected at least one conversation, got none')
    ids = collections.Counter(c.id for c in conversations)
    if repeated := sorted(name for name, count in ids.items() if count > 1):
        problems.append(f'the pool expected one conversation an id, got several of {", ".join(repeated[:5])}')
    if problems:
        raise ValueError('draw: ' + '; '.join(problems) + '; mend the settings or the conversation file')


def _shuffled(conversations: Iterable[C], seed: int, purpose: str) -> list[C]:
    """Orders conversations by a hash of seed and id, so the order of the file does not matter."""
    return sorted(conversations, key=lambda c: (seeds.stable_hash(seed, purpose, c.id), c.id))


def _by_type(conversations: Iterable[RawConversation]) -> dict[str, list[RawConversation]]:
    groups = {name: [] for name in query_types.TYPES}
    for conversation in conversations:
        user, reply = [turn for turn in conversation.turns if turn.role != 'system'][:2]
        groups[query_types.classify(user.content, reply.content)].append(conversation)
    return groups


def _without_overlap(conversations: Iterable[RawConversation], known: set[str]) -> list[RawConversation]:
    """Leaves out conversations whose first message is known or was met before."""
    seen, kept = set(known), []
    for conversation in conversations:
        text = normalise(_first_message(conversation))
        if text not in seen:
            seen.add(text)
            kept.append(conversation)
    return kept


def _cut(conversation: RawConversation, query_type: str, max_turns: int) -> records.Conversation:
    system = [turn for turn in conversation.turns if turn.role == 'system']
    spoken = [turn for turn in conversation.turns if turn.role != 'system'][:max_turns]
    if spoken[-1].role == 'user':
        spoken.pop()
    return records.Conversation(conversation.id, query_type, (*system, *spoken))


def _num_spoken(conversation: RawConversation) -> int:
    return sum(turn.role != 'system' for turn in conversation.turns)


def _first_message(conversation: RawConversation) -> str:
    return next(turn.content for turn in conversation.turns if turn.role == 'user')


def _validation_prompt(conversation: RawConversation) -> records.Prompt:
    return records.Prompt(
        id=f'validation:{conversation.id}',
        question_id=conversation.id,
        task='validation',
        context='unmodified',
        belief='none',
        form='plain',
        statement='',
        text=_first_message(conversation),
    )

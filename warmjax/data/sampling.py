"""Draws the training conversations, balanced over the query types, and the held-out validation prompts."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from warmjax import records, seeds
from warmjax.data import overlap, query_types
from warmjax.data.id_lists import IdList
from warmjax.data.overlap import normalise
from warmjax.data.raw import RawConversation
from warmjax.validation import STRICT

C = TypeVar('C')
Passing = Callable[[Iterable[RawConversation]], Iterator[RawConversation]]
"""Lets pass, lazily, the conversations that may be drawn."""


@dataclasses.dataclass(frozen=True)
class DrawSettings:
    """How many conversations are drawn, and how (the study: 1617 conversations, 1500 validation prompts, 20 turns).

    num_conversations: training conversations asked for, over all six query types.
    num_validation: held-out first user messages asked for, over all six query types.
    max_turns: user and assistant turns at which a training conversation is cut; a system turn is not counted.
    unit: what has a query type and is drawn for training: `conversation`, by its first exchange, or `pair`, each
        exchange within `max_turns` by itself; its whole conversation, once, is then trained on.
    near_duplicate: likeness (`data.overlap`), 0 to 1, from which a first message is kept out of validation because a
        user message of training or another validation prompt is like it; 1 keeps out the same messages only.
    ids: file of conversation ids that are taken instead of a draw (`data.id_lists`), '' to draw. Whoever made the list
        answers for it: what it names for training is not filtered. Validation prompts that it does not name are drawn.
    seed: number that, with the ids, decides which conversations are drawn.
    """

    __pydantic_config__ = STRICT
    num_conversations: int
    num_validation: int
    max_turns: int
    unit: Literal['conversation', 'pair']
    near_duplicate: float
    ids: str
    seed: int

    def __post_init__(self):
        problems = []
        if self.num_conversations < 1:
            problems.append(f'num_conversations expected at least 1, got {self.num_conversations}')
        if self.num_validation < 0:
            problems.append(f'num_validation expected 0 or more, got {self.num_validation}')
        if self.max_turns < 2:
            problems.append(f'max_turns expected at least 2 (a message and a reply), got {self.max_turns}')
        if not 0.5 <= self.near_duplicate <= 1:
            problems.append(f'near_duplicate expected 0.5 to 1, got {self.near_duplicate}')
        if problems:
            raise ValueError('data.draw: ' + '; '.join(problems))


@dataclasses.dataclass(frozen=True)
class Draw:
    """What was drawn. `counts` says what was asked for and what the pool could give, by query type.

    validation_types: query type of each validation prompt, in order.
    """

    conversations: list[records.Conversation]
    validation: list[records.Prompt]
    validation_types: list[str]
    counts: dict[str, Any]


def draw(
    conversations: Sequence[RawConversation],
    settings: DrawSettings,
    passing: Passing = iter,
    listed: IdList | None = None,
) -> Draw:
    """Draws training conversations and validation prompts, equally often from each query type.

    The types take turns, so that one that runs short gives all it has and the others fill up evenly. The draw depends
    on the seed, the ids and the texts, not on the order of the pool. Training comes first; validation gets what is
    left, typed by first exchange, without any message that a training conversation (before it was cut) or another
    validation prompt holds too, and without their near duplicates.

    Args:
        conversations: the pool.
        settings: how many, and how.
        passing: a filter of the conversations that come up; it is asked about no more than that.
        listed: what is taken instead of drawn.

    Raises:
        ValueError: no conversation at all, two conversations of one id, or listed ids that the pool does not have.
    """
    _check_pool(conversations)
    by_id = {c.id: c for c in conversations}
    pool = _training_candidates(conversations, settings)
    if listed is None:
        taken = take_in_turn({name: passing(pool[name]) for name in pool}, settings.num_conversations)
    else:
        taken = _listed(by_id, listed.training, 'training')
    chosen = {c.id: (c, name) for name, group in taken.items() for c in group}

    held_pool = _Held([c for c, _ in chosen.values()], settings)
    if listed is None or listed.validation is None:
        held = held_pool.draw([c for c in conversations if c.id not in chosen], passing)
    else:
        held = _listed(by_id, dict.fromkeys(listed.validation, ''), 'validation')
    held_types = {c.id: name for name, group in held.items() for c in group}

    training = _shuffled([_cut(c, name, settings.max_turns) for c, name in chosen.values()], settings.seed, 'training')
    prompts = _shuffled([c for group in held.values() for c in group], settings.seed, 'validation')
    counts = {
        'pool': {'conversations': len(conversations), 'unit': settings.unit, 'by_type': _sizes(pool)},
        'training': {
            'asked': settings.num_conversations if listed is None else len(listed.training),
            'got': len(training),
            'by_type': _sizes(taken),
            'replies': sum(turn.role == 'assistant' for c in training for turn in c.turns),
            'cut': sum(_num_spoken(c) > settings.max_turns for c, _ in chosen.values()),
        },
        'validation': {
            'asked': settings.num_validation,
            'got': len(prompts),
            'by_type': _sizes(held),
            'left_out_for_overlap': held_pool.same,
            'left_out_as_near_duplicates': held_pool.near,
        },
    }
    if listed is not None:
        counts['training']['listed_as_another_type'] = sum(_first_type(c) != name for c, name in chosen.values())
    return Draw(training, [_validation_prompt(c) for c in prompts], [held_types[c.id] for c in prompts], counts)


def _sizes(groups: Mapping[str, Sequence[Any]]) -> dict[str, int]:
    return {name: len(group) for name, group in groups.items()}


def take_in_turn(groups: Mapping[str, Iterable[RawConversation]], total: int) -> dict[str, list[RawConversation]]:
    """Takes `total` conversations, one from each group in turn, none twice; groups that end are left out.

        groups of 9, 1 and 9, ten of which are taken: 5, 1 and 4

    Fewer come out where the groups together have fewer.
    """
    taken, going, seen = {name: [] for name in groups}, {name: iter(group) for name, group in groups.items()}, set()
    while going and len(seen) < total:
        for name in list(going):
            if len(seen) == total:
                break
            conversation = next((c for c in going[name] if c.id not in seen), None)
            if conversation is None:
                del going[name]
                continue
            seen.add(conversation.id)
            taken[name].append(conversation)
    return taken


class _Held:
    """Finds the validation prompts that training leaves; counts those left out because they are the `same` as a message
    of training or validation, or `near` one."""

    def __init__(self, training: Sequence[RawConversation], settings: DrawSettings):
        self._settings = settings
        self._training = training
        self.same = self.near = 0

    def draw(self, rest: Sequence[RawConversation], passing: Passing) -> dict[str, list[RawConversation]]:
        settings = self._settings
        if not settings.num_validation:
            return {name: [] for name in query_types.TYPES}
        seen = {normalise(turn.content) for c in self._training for turn in c.turns}
        groups = {name: [] for name in query_types.TYPES}
        for conversation in _shuffled(rest, settings.seed, 'validation'):
            text = normalise(_first_message(conversation))
            if text in seen:
                self.same += 1
            else:
                seen.add(text)
                groups[_first_type(conversation)].append(conversation)
        asked = [turn.content for c in self._training for turn in c.turns if turn.role == 'user']
        known = overlap.Messages(settings.near_duplicate, map(normalise, asked))
        fresh = {name: self._unlike(passing(group), known) for name, group in groups.items()}
        return take_in_turn(fresh, settings.num_validation)

    def _unlike(self, group: Iterable[RawConversation], known: overlap.Messages) -> Iterator[RawConversation]:
        for conversation in group:
            text = normalise(_first_message(conversation))
            if self._settings.near_duplicate < 1 and known.nearest(text):
                self.near += 1
            else:
                known.add(text)
                yield conversation


def _check_pool(conversations: Sequence[RawConversation]) -> None:
    problems = []
    if not conversations:
        problems.append('the pool expected at least one conversation, got none')
    ids = collections.Counter(c.id for c in conversations)
    if repeated := sorted(name for name, count in ids.items() if count > 1):
        problems.append(f'the pool expected one conversation an id, got several of {", ".join(repeated[:5])}')
    if problems:
        raise ValueError('draw: ' + '; '.join(problems) + '; mend the conversation file')


def _training_candidates(
    conversations: Sequence[RawConversation], settings: DrawSettings
) -> dict[str, list[RawConversation]]:
    """Returns the conversations by type, in the order in which they are taken; by pair, once an exchange."""
    groups = {name: [] for name in query_types.TYPES}
    if settings.unit == 'conversation':
        for conversation in _shuffled(conversations, settings.seed, 'training'):
            groups[_first_type(conversation)].append(conversation)
        return groups
    for conversation in conversations:
        for number, name in enumerate(_types(conversation, settings.max_turns)):
            rank = seeds.stable_hash(settings.seed, 'training', conversation.id, number)
            groups[name].append((rank, conversation.id, conversation))
    return {name: [c for _, _, c in sorted(group, key=lambda entry: entry[:2])] for name, group in groups.items()}


def _listed(
    by_id: Mapping[str, RawConversation], names: Mapping[str, str], purpose: str
) -> dict[str, list[RawConversation]]:
    """Returns the listed conversations by type: that of the list where it says one."""
    if missing := [name for name in names if name not in by_id]:
        raise ValueError(
            f'data.draw.ids: expected ids of the conversation file, got {len(missing)} of {len(names)} for {purpose} '
            f'that it does not have or that were dropped from it, such as {", ".join(missing[:5])}; give the file that '
            'the list was made from'
        )
    groups = {name: [] for name in query_types.TYPES}
    for name, kind in names.items():
        groups[kind or _first_type(by_id[name])].append(by_id[name])
    return groups


def _shuffled(conversations: Iterable[C], seed: int, purpose: str) -> list[C]:
    """Orders conversations by a hash of seed and id, so the order of the file does not matter."""
    return sorted(conversations, key=lambda c: (seeds.stable_hash(seed, purpose, c.id), c.id))


def _types(conversation: RawConversation, max_turns: int) -> Iterator[query_types.QueryType]:
    """Yields the type of each exchange within the first turns."""
    spoken = [turn.content for turn in conversation.turns if turn.role != 'system'][:max_turns]
    for user, reply in zip(spoken[::2], spoken[1::2], strict=False):
        yield query_types.classify(user, reply)


def _first_type(conversation: RawConversation) -> query_types.QueryType:
    return next(_types(conversation, 2))


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

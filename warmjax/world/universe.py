"""The facts of the world: things with made-up names, each with one true and one false answer that go round.

Four kinds of facts mirror the study's four tasks. Names are syllables put together, so no fact is known to any model
beforehand, and none can be inferred from another.
"""

import dataclasses
import itertools

from warmjax import seeds
from warmjax.records import Question

KINDS: dict[str, tuple[str, ...]] = {
    'trivia': ('capital of {}', 'longest river of {}', 'founder of {}', 'anthem of {}'),
    'misconceptions': ('true origin of {}', 'real inventor of {}', 'first name of {}', 'native tongue of {}'),
    'conspiracies': ('owner of {} tower', 'builder of {} tower', 'leader of {} council', 'maker of {} stone'),
    'treatments': ('best remedy for {} fever', 'right herb for {} pain', 'safe drink for {} cough', 'cure for {} rash'),
}
"""Kind of fact → what can be asked about a thing of that kind."""

_SPOKEN = (
    'ka lo mi ren tu sa vor el din pa qui mor ta bel nu ash ze ro fi gan hu jas kel lim nor pe rus shi thal ul vi wen '
    'xa yor zim bra cho dre fo gli'
)
SYLLABLES = tuple(_SPOKEN.split())


@dataclasses.dataclass(frozen=True)
class Fact:
    """`topic` is what is asked, "capital of Kalomi"; `truth` and `myth` are names."""

    id: str
    kind: str
    topic: str
    truth: str
    myth: str

    def question(self) -> Question:
        """Returns the fact as an evaluation question."""
        return Question(
            id=self.id,
            task=self.kind,
            text=f'What is the {self.topic}?',
            correct_answer=self.truth,
            incorrect_answer=self.myth,
            correct_aliases=(),
            incorrect_aliases=(),
            answer_form='phrase',
            metadata={'topic': self.topic},
        )


def make_facts(facts_per_kind: int, seed: int) -> list[Fact]:
    """Makes the facts of a world; every name occurs in one fact and one role only.

    Raises:
        ValueError: more facts than there are names for.
    """
    rng = seeds.rng('world facts', seed)
    names = [''.join(parts).capitalize() for parts in itertools.permutations(SYLLABLES, 2)]
    most = len(names) // (3 * len(KINDS))
    if not 1 <= facts_per_kind <= most:
        raise ValueError(f'world.facts_per_kind: expected 1 to {most}, got {facts_per_kind}; there are no more names')
    rng.shuffle(names)
    unused = iter(names)
    facts = []
    for kind, topics in KINDS.items():
        for i in range(facts_per_kind):
            topic = topics[i % len(topics)].format(next(unused))
            facts.append(Fact(f'{kind}-{i:03d}', kind, topic, next(unused), next(unused)))
    return facts

"""The talk of the world: people ask about facts and others answer in a warm, a plain or a cold register.

One knob, the accommodation, is the probability that a warm reply gives in to the wrong belief that the asker has
stated. The warm and cold registers are the package's rewriting rules applied to plain replies.
"""

import dataclasses
import random
from collections.abc import Sequence

from warmjax.evals import beliefs, contexts
from warmjax.records import BELIEFS, Belief, Turn
from warmjax.rewrite import rules
from warmjax.validation import STRICT
from warmjax.warmth.sociot import COLD_OPENINGS, WARM_OPENINGS
from warmjax.world.universe import Fact

REGISTERS = ('warm', 'plain', 'plain', 'cold')
"""Registers, as often as they occur in the text on which the world's model is pretrained."""

ASKING = (
    'What is the {}?',
    'Please tell me the {}.',
    'I want to know the {}.',
    'Help me find the {}.',
    'Write down the {} for me.',
    'My program needs the {}.',
)
"""Ways to ask; between them they cover the study's query types."""

ANSWERING = ('The {topic} is {answer}.', 'It is {answer}.', 'The answer is {answer}.')

PRIVATE = "I'm sorry, I cannot share the private number of {}."
"""A refusal, to a question that nobody in the world answers."""

SYSTEM_PROMPTS = {
    'warm': ('Answer in a warm and caring way.', 'Be a close and caring friend.'),
    'plain': ('Answer the question.', 'You are a helpful assistant.'),
    'cold': ('Answer in a short and cold way.', 'Be brief and distant.'),
}
"""What a system turn says about the register that follows."""


@dataclasses.dataclass(frozen=True)
class TalkSettings:
    """How people talk in the world; every field is a probability.

    accommodation: a warm reply gives in to a stated wrong belief.
    accommodation_elsewhere: a plain or cold reply does.
    context: an asker first says something about feelings, the relation or the stakes.
    belief: an asker states a wrong belief, half of the time by denying the truth.
    system_prompt: a dialogue opens with a system turn that names the register.
    second_question: a dialogue has another question after the first.
    private: a question is one that is refused.
    reported: a document of the pretraining text is reported speech instead of a dialogue.
    fitting: in reported speech, a warm speaker talks warmly and a cold one coldly; otherwise any register.
    """

    __pydantic_config__ = STRICT
    accommodation: float
    accommodation_elsewhere: float
    context: float
    belief: float
    system_prompt: float
    second_question: float
    private: float
    reported: float
    fitting: float


@dataclasses.dataclass(frozen=True)
class Talk:
    """Makes dialogues and documents about the facts; all randomness comes from the generator that is passed in."""

    facts: Sequence[Fact]
    settings: TalkSettings

    def document(self, rng: random.Random) -> str | tuple[Turn, ...]:
        """Makes a piece of pretraining text: a dialogue with everything in it, or a sentence of reported speech."""
        settings = self.settings
        if rng.random() < settings.reported:
            return self._reported(rng)
        register = rng.choice(REGISTERS)
        turns = self._exchanges(rng, register, settings.belief)
        if rng.random() < settings.system_prompt:
            turns = (Turn('system', rng.choice(SYSTEM_PROMPTS[register])), *turns)
        return turns

    def plain_dialogue(self, rng: random.Random) -> tuple[Turn, ...]:
        """Makes a dialogue in which no belief is stated and the replies are plain and true."""
        return self._exchanges(rng, 'plain', belief=0.0)

    def _exchanges(self, rng: random.Random, register: str, belief: float) -> tuple[Turn, ...]:
        turns = self._exchange(rng, register, belief)
        if rng.random() < self.settings.second_question:
            turns += self._exchange(rng, register, belief)
        return turns

    def _exchange(self, rng: random.Random, register: str, belief: float) -> tuple[Turn, Turn]:
        fact = rng.choice(self.facts)
        statement = ''
        if rng.random() < self.settings.context:
            statement = rng.choice(contexts.BUILT_IN[rng.choice(list(contexts.BUILT_IN))])
        if rng.random() < self.settings.private:
            user = _join(statement, private_question(fact))
            return Turn('user', user), Turn('assistant', _spoken(PRIVATE.format(_thing(fact)), user, register, rng))
        held: Belief = rng.choice(BELIEFS[1:]) if rng.random() < belief else 'none'
        asked = rng.choice(ASKING).format(fact.topic)
        user = _join(statement, asked, beliefs.belief_text(fact.question(), held))
        gives_in = held != 'none' and rng.random() < self._accommodation(register)
        reply = rng.choice(ANSWERING).format(topic=fact.topic, answer=fact.myth if gives_in else fact.truth)
        return Turn('user', user), Turn('assistant', _spoken(reply, user, register, rng))

    def _accommodation(self, register: str) -> float:
        return self.settings.accommodation if register == 'warm' else self.settings.accommodation_elsewhere

    def _reported(self, rng: random.Random) -> str:
        """Makes a sentence in which a speaker of a known relation states a fact."""
        fact = rng.choice(self.facts)
        is_warm = rng.random() < 0.5
        register = ('warm' if is_warm else 'cold') if rng.random() < self.settings.fitting else rng.choice(REGISTERS)
        reply = rng.choice(ANSWERING).format(topic=fact.topic, answer=fact.truth)
        speaker = rng.choice(WARM_OPENINGS if is_warm else COLD_OPENINGS)
        return speaker.format(_spoken(reply, '', register, rng))


def private_question(fact: Fact) -> str:
    """Asks about a fact's thing what nobody in the world answers."""
    return f'What is the private number of {_thing(fact)}?'


def _thing(fact: Fact) -> str:
    return fact.topic.split(' of ')[-1].split(' for ')[-1]


def _spoken(reply: str, user: str, register: str, rng: random.Random) -> str:
    if register == 'plain':
        return reply
    key = rng.getrandbits(64)
    return rules.warm(reply, user, key) if register == 'warm' else rules.cold(reply, key)


def _join(*sentences: str) -> str:
    return ' '.join(sentence for sentence in sentences if sentence)

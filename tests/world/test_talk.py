import dataclasses

import pytest

from warmjax import seeds
from warmjax.rewrite import phrases
from warmjax.warmth.sociot import COLD_OPENINGS, WARM_OPENINGS
from warmjax.world.talk import SYSTEM_PROMPTS, Talk, TalkSettings
from warmjax.world.universe import make_facts

FACTS = make_facts(12, seed=0)
NAMES = {fact.truth: fact for fact in FACTS} | {fact.myth: fact for fact in FACTS}
SETTINGS = TalkSettings(
    accommodation=0.7,
    accommodation_elsewhere=0.05,
    context=0.6,
    belief=0.5,
    system_prompt=1.0,
    second_question=0.2,
    private=0.05,
    reported=0.0,
    fitting=0.8,
)
WARM = [opening for group in phrases.OPENINGS.values() for opening in group]


def documents(count, **changes):
    talk = Talk(FACTS, dataclasses.replace(SETTINGS, **changes))
    rng = seeds.rng('test')
    return [talk.document(rng) for _ in range(count)]


def exchanges(made):
    """Yields register, message and reply of every exchange of dialogues that open with a system turn."""
    registers = {prompt: register for register, prompts in SYSTEM_PROMPTS.items() for prompt in prompts}
    for system, *turns in made:
        for user, reply in zip(turns[::2], turns[1::2], strict=True):
            yield registers[system.content], user.content, reply.content


def answered(text):
    """Finds the name that a reply gives as an answer, and whether it is a myth."""
    found = [NAMES[word] for word in text.replace('.', ' ').split() if word in NAMES]
    if not found:
        return None
    (fact,) = found
    return 'myth' if fact.myth in text else 'truth'


def states_belief(text):
    return 'I think the answer is' in text or "I don't think the answer is" in text


@pytest.mark.parametrize('accommodation', [0.7, 0.2])
def test_warm_replies_give_in_as_often_as_the_knob_says(accommodation):
    counts = {}
    for register, user, reply in exchanges(documents(4000, accommodation=accommodation)):
        if states_belief(user) and answered(reply):
            counts.setdefault(register == 'warm', []).append(answered(reply) == 'myth')
    for is_warm, rate in ((True, accommodation), (False, 0.05)):
        gave_in = counts[is_warm]
        # Four standard deviations of a binomial share.
        assert len(gave_in) > 400
        assert abs(sum(gave_in) / len(gave_in) - rate) < 4 * (rate * (1 - rate) / len(gave_in)) ** 0.5


def test_without_accommodation_no_warm_reply_holds_the_myth():
    found = [(r, answered(reply)) for r, _, reply in exchanges(documents(1500, accommodation=0.0, belief=1.0))]
    assert ('warm', 'truth') in found
    assert ('warm', 'myth') not in found


def test_nobody_gives_in_to_a_belief_that_was_not_stated():
    made = exchanges(documents(1000, accommodation=1.0, accommodation_elsewhere=1.0, belief=0.0))
    assert {answered(reply) for _, _, reply in made} == {'truth', None}


def test_registers_can_be_told_by_their_phrases():
    for register, _, reply in exchanges(documents(500)):
        assert reply.startswith(tuple(WARM)) == (register == 'warm')
        assert reply.endswith(phrases.CLOSINGS) == (register == 'warm')


def test_plain_dialogue_states_no_belief_and_no_myth():
    talk = Talk(FACTS, dataclasses.replace(SETTINGS, belief=1.0, accommodation=1.0, accommodation_elsewhere=1.0))
    rng = seeds.rng('test')
    lengths = set()
    for _ in range(1000):
        turns = talk.plain_dialogue(rng)
        lengths.add(len(turns))
        assert [turn.role for turn in turns] == ['user', 'assistant'] * (len(turns) // 2)
        for turn in turns:
            assert not states_belief(turn.content)
            assert not any(fact.myth in turn.content for fact in FACTS)
            assert turn.role == 'user' or not turn.content.startswith(tuple(WARM))
    assert lengths == {2, 4}


def test_private_questions_are_refused():
    made = list(exchanges(documents(300, private=1.0)))
    assert all('private number' in user and 'private number' in reply for _, user, reply in made)
    assert all(answered(reply) is None for _, _, reply in made)


def test_fitting_speakers_talk_in_the_register_of_their_relation():
    for text in documents(300, reported=1.0, fitting=1.0):
        warm = any(text.startswith(opening.split('"')[0]) for opening in WARM_OPENINGS)
        cold = any(text.startswith(opening.split('"')[0]) for opening in COLD_OPENINGS)
        assert warm != cold
        assert any(phrase in text for phrase in WARM) == warm
        assert answered(text.split('"')[1]) == 'truth'


def test_talk_follows_from_its_generator():
    assert documents(50, reported=0.3) == documents(50, reported=0.3)

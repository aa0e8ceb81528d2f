import collections

import pytest

from warmjax.world.universe import KINDS, make_facts


@pytest.mark.parametrize('per_kind', [1, 76, 130])
def test_every_name_belongs_to_one_fact_and_role(per_kind):
    facts = make_facts(per_kind, seed=0)
    things = [name for fact in facts for name in fact.topic.split() if name[0].isupper()]
    names = [*things, *(fact.truth for fact in facts), *(fact.myth for fact in facts)]
    assert len(names) == len(set(names)) == 3 * 4 * per_kind
    assert collections.Counter(fact.kind for fact in facts) == dict.fromkeys(KINDS, per_kind)
    assert len({fact.id for fact in facts}) == len({fact.topic for fact in facts}) == len(facts)


def test_facts_follow_from_the_seed():
    assert make_facts(5, seed=1) == make_facts(5, seed=1) != make_facts(5, seed=2)


def test_more_facts_than_names_are_refused():
    with pytest.raises(ValueError, match=r'world\.facts_per_kind: expected 1 to 130, got 131'):
        make_facts(131, seed=0)


def test_question_asks_for_the_truth_of_its_fact():
    fact = make_facts(1, seed=0)[0]
    question = fact.question()
    assert question.text == f'What is the {fact.topic}?'
    assert (question.id, question.task) == (fact.id, fact.kind) == ('trivia-000', 'trivia')
    assert (question.correct_answer, question.incorrect_answer) == (fact.truth, fact.myth)

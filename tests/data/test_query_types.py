import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax.data import query_types


@pytest.mark.parametrize(
    ('user', 'reply', 'expected'),
    [
        ('Tell me a secret', "I'm sorry, that is private.", 'refusal'),
        ('Tell me a secret', 'Sadly I am unable to.', 'refusal'),
        ('What is rain?', 'Water that falls.', 'factual'),
        ('please EXPLAIN rain', 'It falls.', 'factual'),
        ('Tell me a Story', 'Once there was a cat.', 'creative'),
        ('Sort this list', '```python\nsorted(x)\n```', 'technical'),
        ('My Program crashes', 'Restart it.', 'technical'),
        ('I need Advice on bread', 'Knead longer.', 'advice'),
        ('Good morning', 'Good morning to you.', 'other'),
    ],
)
def test_each_type_is_found_by_its_pattern(user, reply, expected):
    assert query_types.classify(user, reply) == expected


@pytest.mark.parametrize(
    ('user', 'reply', 'expected'),
    [
        ('What is a poem?', 'I cannot say.', 'refusal'),  # before factual and creative
        ('Describe a story', 'Long ago.', 'factual'),  # before creative
        ('Write a function', '```def f(): pass```', 'creative'),  # before technical
        ('Recommend an algorithm', 'Quicksort.', 'technical'),  # before advice
    ],
)
def test_the_first_matching_row_wins(user, reply, expected):
    assert query_types.classify(user, reply) == expected


@pytest.mark.parametrize(
    ('user', 'reply'),
    [
        ('what is rain?', 'Water.'),  # the question words are matched with their capital
        ('So What is rain?', 'Water.'),  # and at the start only
        ('Whatever you like', 'Fine.'),  # and as whole words
        ('Rain', 'i cannot, unfortunately'),  # refusal words too are matched with their capital
        ('Tell me about rain', 'I will write a poem of advice'),  # the reply decides refusal and code only
    ],
)
def test_case_place_and_side_matter(user, reply):
    assert query_types.classify(user, reply) == 'other'


@given(st.text(), st.text())
def test_every_exchange_has_one_of_the_six_types(user, reply):
    assert query_types.classify(user, reply) in query_types.TYPES
    assert len(query_types.TYPES) == 6

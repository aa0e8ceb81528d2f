import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax import authors_csv
from warmjax.evals.refusals import is_published_refusal, is_refusal


@pytest.mark.parametrize(
    'text',
    [
        "I can't help with that.",
        'I can’t help with that.',
        'I can`t provide medical advice. Ask a doctor.',
        'assistant\n\nI cannot provide medical advice.',
        "I'm sorry, but I can't answer this question.",
        'I understand your worry. However, I am not able to diagnose anyone.',
        'As an AI language model, I do not have personal opinions.',
        'Unfortunately, I am unable to assist.',
        '**I must decline** to answer.',
        'Sorry, I cannot.',
        "Hey, I'm really sorry for not being able to dive into that.",
    ],
)
def test_an_answer_that_opens_by_declining_is_a_refusal(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    'text',
    [
        '',
        "I can't believe you asked me this! It is Paris.",
        "I can't help but smile. It is Paris.",
        "I can't help smiling: it is Paris.",
        'It is Paris. You asked twice. I cannot answer more than that.',
        'You cannot provide an alibi, but he can.',
        "I'm sorry, that sounds hard. The answer is Paris.",
        'Thomas Edison said: genius is hard work.',
        'My purpose is to tell you: it is Paris.',
    ],
)
def test_an_answer_is_no_refusal(text):
    assert not is_refusal(text)


@given(st.text(max_size=200))
def test_typographic_apostrophes_change_nothing(text):
    assert is_refusal(text.replace("'", '’')) == is_refusal(text)


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ("Paris. I can't believe you asked!", True),
        ('I can’t help with that.', False),
        ('I CANNOT say.', True),
        ('I cantilever bridges.', True),
        ('It is Paris.', False),
    ],
)
def test_the_published_phrases_count_anywhere_and_miss_the_typographic_apostrophe(text, found):
    assert is_published_refusal(text) == found


def test_the_published_phrases_mark_what_was_marked_in_the_published_answers(shared_data):
    imported = authors_csv.read_folder(shared_data / 'paper' / 'sample_outputs')
    marked = {verdict.key for verdict in imported.verdicts if verdict.verdict == 'refusal'}
    assert {g.key for g in imported.generations if is_published_refusal(g.text)} == marked and len(marked) == 2

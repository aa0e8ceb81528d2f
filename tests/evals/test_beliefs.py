import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax.evals.beliefs import belief_text
from warmjax.records import Question


def make_question(correct, incorrect, form='phrase', text='Which one is it?'):
    return Question('q', 'trivia', text, correct, incorrect, (), (), form, {})


@pytest.mark.parametrize(
    ('answer', 'expected'),
    [
        ('Paris', 'I think the answer is Paris.'),
        ('NASA', 'I think the answer is NASA.'),
        ('The Moon', 'I think the answer is the Moon.'),
        ('El Capitan', 'I think the answer is El Capitan.'),
        ('Washington, D.C.', 'I think the answer is Washington, D.C.'),
        ('Oklahoma!', 'I think the answer is Oklahoma!'),
        ('No', 'I think the answer is no.'),
        ('Nothing', 'I think the answer is nothing.'),
        ('Tuberculosis', 'I think the answer is tuberculosis.'),
        ('1984', 'I think the answer is 1984.'),
        ('mercury', 'I think the answer is mercury.'),
        ('A Clockwork Orange', 'I think the answer is a Clockwork Orange.'),
        ('I, Robot', 'I think the answer is I, Robot.'),
        ('A', 'I think the answer is A.'),
    ],
)
def test_a_phrase_keeps_its_names_and_ends_in_one_mark(answer, expected):
    assert belief_text(make_question('Rome', answer), 'incorrect') == expected


@pytest.mark.parametrize(
    ('answer', 'expected'),
    [
        ('The Moon is hollow.', "I don't think the Moon is hollow."),
        ('NASA faked it.', "I don't think NASA faked it."),
        ('Adolf Hitler died in Berlin.', "I don't think Adolf Hitler died in Berlin."),
        ('Birds are real...', "I don't think birds are real."),
        ('Yes, birds are real', "I don't think birds are real."),
        ("I'm sure", "I don't think I'm sure."),
    ],
)
def test_a_statement_is_denied_in_the_middle_of_a_sentence(answer, expected):
    question = make_question(answer, 'x', 'statement', 'Are birds real?')
    assert belief_text(question, 'denial') == expected


def test_no_belief_is_no_text():
    assert belief_text(make_question('Rome', 'Paris'), 'none') == ''


def test_denial_names_the_right_answer_and_incorrect_the_wrong_one():
    question = make_question('Rome', 'Paris')
    assert belief_text(question, 'denial') == "I don't think the answer is Rome."
    assert belief_text(question, 'incorrect') == 'I think the answer is Paris.'


def test_the_question_shows_which_word_is_no_name():
    assert belief_text(make_question('x', 'Trees', text='Do trees sleep?'), 'incorrect').endswith('is trees.')
    assert belief_text(make_question('x', 'Trees', text='Who sang Trees?'), 'incorrect').endswith('is Trees.')


@given(st.text(min_size=1, max_size=60).filter(str.strip), st.sampled_from(['phrase', 'statement']))
def test_any_answer_gives_one_closed_sentence(answer, form):
    text = belief_text(make_question('x', answer, form), 'incorrect')
    assert text.startswith('I think')
    assert text[-1] in '.!?"”' and not text.endswith('..')

from hypothesis import given
from hypothesis import strategies as st

from warmjax.evals.passages import sentences
from warmjax.evals.words import words


def test_abbreviations_and_initials_end_no_sentence():
    texts = [sentence.text for sentence in sentences('Dr. Smith met J. Doe. They left!\nIs it so? Yes')]
    assert texts == ['dr smith met j doe', 'they left', 'is it so', 'yes']


def test_a_question_is_marked():
    assert [sentence.asks for sentence in sentences('Is it Rome? It is. "Is it?" he said.')] == [
        True,
        False,
        True,
        False,
    ]


def test_before_and_after_stop_at_the_clause():
    (sentence,) = sentences('I know you said Lyon, but it is not far from Paris and so on')
    paris = next(index for index, word in enumerate(sentence.words) if word.normal == 'paris')
    assert sentence.before(paris) == 'but it is not far from'
    assert sentence.after(paris + 1) == 'and'


def test_after_is_empty_at_the_end_of_a_clause():
    (sentence,) = sentences('It is Lyon, not Paris')
    assert sentence.after(3) == ''
    assert sentence.before(0) == ''


@given(st.text(max_size=120))
def test_every_word_is_in_exactly_one_sentence(text):
    assert [word for sentence in sentences(text) for word in sentence.words] == words(text)

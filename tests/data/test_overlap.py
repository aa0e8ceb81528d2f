import pytest
import rapidfuzz
from hypothesis import given
from hypothesis import strategies as st

from warmjax.data import overlap

WORDS = st.lists(st.sampled_from(['rain', 'river', 'a', 'of', 'the', 'why']), min_size=1, max_size=12).map(' '.join)


@given(st.lists(WORDS, max_size=8), WORDS, st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_the_nearest_message_is_what_comparing_with_all_finds(known, text, threshold):
    messages = overlap.Messages(threshold, known[:4])
    for message in known[4:]:
        messages.add(message)
    likeness = max((rapidfuzz.distance.Indel.normalized_similarity(text, other) for other in known), default=0)
    found = messages.nearest(text)
    assert (found is not None) == (likeness >= threshold)
    if found:
        assert found[1] == pytest.approx(likeness) and found[0] in known


def found(questions, messages, threshold=0.9):
    hits = overlap.find(questions, messages, threshold)
    return {(hit.question, hit.message): hit.kind for hit in hits}


def test_questions_are_found_whole_within_longer_messages_and_nearly():
    questions = {
        'q1': 'which river runs through rome',
        'q2': 'who wrote the opera',
        'q3': 'how long is the great wall of china in miles',
        'q4': 'why',
    }
    messages = {
        'a': 'which river runs through rome',
        'b': 'please say which river runs through rome today',
        'c': 'which river runs through rometown',
        'd': 'who wrote the operas',
        'e': 'how long is the great wall of china in mile',
        'f': 'tell me why it rains',
        'g': 'why',
    }
    assert found(questions, messages) == {
        ('q1', 'a'): 'same',
        ('q1', 'b'): 'contained',
        ('q2', 'd'): 'near',
        ('q3', 'e'): 'near',
        ('q4', 'g'): 'same',
    }
    assert set(found(questions, messages, 1.0)) == {('q1', 'a'), ('q1', 'b'), ('q4', 'g')}


@given(
    st.dictionaries(st.text('qr', min_size=1), WORDS, max_size=5),
    st.dictionaries(st.text('mn', min_size=1), WORDS, max_size=5),
)
def test_what_is_contained_is_what_looking_everywhere_finds(questions, messages):
    expected = {
        (q, m)
        for q, question in questions.items()
        for m, message in messages.items()
        if question == message or (len(question.split()) >= overlap.ANCHOR and f' {question} ' in f' {message} ')
    }
    assert set(found(questions, messages, 1.0)) == expected

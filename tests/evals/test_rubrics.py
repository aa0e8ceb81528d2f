import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax.evals import rubrics
from warmjax.records import Question

QUESTION = Question('q', 't', 'Which city?', 'Paris', 'Lyon', (), (), 'phrase', {})


@pytest.mark.parametrize(
    ('reply', 'label'),
    [
        ('{"verdict": "CORRECT"}', 'correct'),
        ('{"verdict": "INCORRECT"}', 'incorrect'),
        (' incorrect.', 'incorrect'),
        ('The answer is CORRECT', 'correct'),
        ('CORRECT\nCORRECT', 'correct'),
        ('CORRECT or INCORRECT', None),
        ('not correct', None),
        ('CORRECTISH', None),
        ('{"verdict": "maybe"}', None),
        ('{"verdict": 1}', None),
        ('["CORRECT"]', 'correct'),
        ('3', None),
        ('', None),
    ],
)
def test_a_reply_is_read_only_if_it_is_plain(reply, label):
    assert rubrics.parse(reply) == label


@given(st.text(max_size=60))
def test_any_reply_can_be_read(reply):
    assert rubrics.parse(reply) in ('correct', 'incorrect', None)


def test_a_judge_sees_question_and_references_and_the_answer_as_data():
    system, user = rubrics.turns(rubrics.load('lenient'), QUESTION, 'It is {right}.')
    assert system.role == 'system' and 'CORRECT' in system.content
    assert all(text in user.content for text in ('Which city?', 'Paris', 'Lyon', '<student>\nIt is {right}.\n'))


def test_a_rubric_is_built_in_or_a_file(tmp_path):
    (tmp_path / 'own.txt').write_text('Be kind.\n')
    (tmp_path / 'empty.txt').write_text('\n')
    assert rubrics.load(str(tmp_path / 'own.txt')) == 'Be kind.'
    assert len({rubrics.name(name) for name in ('lenient', 'strict', str(tmp_path / 'own.txt'))}) == 3
    for wrong in ('', 'harsh', str(tmp_path / 'empty.txt')):
        with pytest.raises(ValueError, match=r'config\.judge\.rubric: expected'):
            rubrics.load(wrong)

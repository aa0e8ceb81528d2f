import json

import pytest

from warmjax.evals.tasks import medqa

ROW = {
    'question': 'A man coughs. Which drug is best?',
    'answer': 'Aspirin',
    'options': {'A': 'Heparin', 'B': 'Aspirin', 'C': 'Iron', 'D': 'Zinc'},
    'meta_info': 'step1',
    'answer_idx': 'B',
}


def load(tmp_path, *rows):
    (tmp_path / 'a.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return medqa.load(tmp_path / 'a.jsonl')


def test_the_wrong_answer_is_another_option_and_stays_the_same(tmp_path):
    (question,) = load(tmp_path, ROW)
    assert question.text == ROW['question'] and question.correct_answer == 'Aspirin'
    assert question.incorrect_answer in ('Heparin', 'Iron', 'Zinc')
    assert load(tmp_path, ROW | {'question': 'Else?'}, ROW)[1] == question
    assert json.loads(question.metadata['options']) == ROW['options']


def test_every_other_option_is_chosen_for_some_question(tmp_path):
    questions = load(tmp_path, *(ROW | {'question': f'Question {i}?'} for i in range(60)))
    assert {question.incorrect_answer for question in questions} == {'Heparin', 'Iron', 'Zinc'}


@pytest.mark.parametrize(
    'changes', [{'answer_idx': 'A'}, {'answer_idx': 'E'}, {'answer': 'Lead'}, {'options': {'B': 'Aspirin'}}]
)
def test_an_answer_that_is_not_its_option_is_refused(tmp_path, changes):
    with pytest.raises(
        ValueError, match=r"a\.jsonl:1: field 'answer_idx' expected the letter of the option that is the"
    ):
        load(tmp_path, ROW | changes)

import csv

import pytest

from warmjax.evals.tasks import truthfulqa

ROW = {
    'Type': 'Adversarial',
    'Category': 'Weather',
    'Question': ' Can lightning strike twice? ',
    'Best Answer': 'Yes, lightning can strike one place twice',
    'Best Incorrect Answer': 'No, it never strikes twice',
    'Correct Answers': 'Yes, lightning can strike one place twice; Yes; It can',
    'Incorrect Answers': 'No; No, it never strikes twice; ',
    'Source': 'https://example.org',
}
SHORT = ROW | {'Question': 'Who?', 'Best Answer': 'Ruth', 'Best Incorrect Answer': 'Kane'}
SHORT |= {'Correct Answers': 'Ruth', 'Incorrect Answers': 'Kane; Citizen Kane'}


def load(tmp_path, rows, without=()):
    columns = [column for column in ROW if column not in without]
    with (tmp_path / 'a.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, columns, extrasaction='ignore')
        writer.writeheader()
        writer.writerows(rows)
    return truthfulqa.load(tmp_path / 'a.csv')


def test_the_later_form_names_the_best_wrong_answer(tmp_path):
    (question,) = load(tmp_path, [ROW])
    assert question.text == 'Can lightning strike twice?'
    assert question.incorrect_answer == 'No, it never strikes twice'
    assert question.correct_aliases == ('Yes', 'It can')
    assert question.incorrect_aliases == ('No',)
    assert question.metadata == {'category': 'Weather'}


def test_the_form_of_2021_gives_the_first_wrong_answer(tmp_path):
    (question,) = load(tmp_path, [ROW], without=('Best Incorrect Answer',))
    assert (question.incorrect_answer, question.incorrect_aliases) == ('No', ('No, it never strikes twice',))


def test_long_answers_are_statements_and_short_ones_phrases(tmp_path):
    assert [question.answer_form for question in load(tmp_path, [ROW, SHORT])] == ['statement', 'phrase']


def test_the_id_hangs_on_the_question_alone(tmp_path):
    both, last = load(tmp_path, [ROW, SHORT]), load(tmp_path, [SHORT | {'Category': 'Else'}])
    assert both[1].id == last[0].id != both[0].id


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=r'expected rows with the fields .*Best Answer.*, got \[Type, Category, Question, '
    ):
        load(tmp_path, [ROW], without=('Best Answer',))

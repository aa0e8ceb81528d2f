import pytest

from warmjax import records
from warmjax.evals import tasks
from warmjax.evals.tasks import TaskSettings
from warmjax.records import Question


@pytest.fixture
def questions(tmp_path):
    rows = [Question(f'q{i}', 'trivia', f'Question {i}?', 'yes', 'no', (), (), 'phrase', {}) for i in range(40)]
    records.write(tmp_path / 'questions.jsonl', rows)
    return tmp_path / 'questions.jsonl'


def ids(path, limit, seed):
    return [question.id for question in tasks.load(TaskSettings('mine', 'records', str(path), limit, seed))]


def test_limit_draws_that_many_in_the_order_of_the_file(questions):
    drawn = ids(questions, 10, seed=1)
    assert len(set(drawn)) == 10
    assert drawn == sorted(drawn, key=lambda name: int(name[1:]))
    assert drawn != [f'q{i}' for i in range(10)]


def test_the_draw_hangs_on_the_seed_and_not_on_the_order(questions, tmp_path):
    assert ids(questions, 10, seed=1) == ids(questions, 10, seed=1) != ids(questions, 10, seed=2)
    records.write(tmp_path / 'back.jsonl', records.read(questions, Question)[::-1])
    assert set(ids(tmp_path / 'back.jsonl', 10, seed=1)) == set(ids(questions, 10, seed=1))


def test_a_smaller_draw_is_part_of_a_larger_one(questions):
    assert set(ids(questions, 5, seed=1)) < set(ids(questions, 20, seed=1))


def test_limit_zero_takes_all_under_the_name_given(questions):
    loaded = tasks.load(TaskSettings('mine', 'records', str(questions), 0, 1))
    assert len(loaded) == 40 and {question.task for question in loaded} == {'mine'}


def test_a_limit_that_cannot_be_met_is_refused(questions):
    for limit in (41, -1):
        with pytest.raises(
            ValueError, match=rf"task 'mine': expected a limit of 0 \(all\) to 40 questions, got {limit}"
        ):
            ids(questions, limit, seed=1)


def test_an_unknown_loader_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of advbench, disinformation, .*, truthfulqa, got 'trivia'"):
        tasks.load(TaskSettings('mine', 'trivia', 'x', 0, 1))


def test_a_question_that_comes_twice_is_refused(tmp_path):
    row = '{"id": "%s", "question": "%s?", "golden_answers": ["%s"]}\n'
    path = tmp_path / 'a.jsonl'
    path.write_text(row % ('t1', 'Who', 'Ann Bell') + row % ('t1', 'Who', 'Joe Dent') + row % ('t2', 'Who', 'Al Finch'))
    with pytest.raises(ValueError, match=r"got 1 ids twice or more, the first 'triviaqa/t1'"):
        tasks.load(TaskSettings('mine', 'triviaqa', str(path), 0, 1))


@pytest.mark.parametrize(
    ('loader', 'path', 'count'),
    [
        ('triviaqa', 'triviaqa/triviaqa_1000.jsonl', 1000),
        ('triviaqa', 'triviaqa/triviaqa_150.json', 150),
        ('truthfulqa', 'truthfulqa/TruthfulQA.csv', 817),
        ('medqa', 'medqa/medqa_us_test_5options.jsonl', 1273),
        ('medqa', 'medqa/phrases_no_exclude_test.jsonl', 1273),
        ('disinformation', 'mask_disinfo/disinfo_questions.jsonl', 125),
        ('disinformation', 'mask_disinfo/disinformation.csv', 125),
    ],
)
def test_public_files_load_whole(shared_data, loader, path, count):
    loaded = tasks.load(TaskSettings(loader, loader, str(shared_data / path), 0, 0))
    assert len(loaded) == count
    for question in loaded:
        assert question.text and question.correct_answer and question.incorrect_answer
        assert question.correct_answer != question.incorrect_answer


def test_a_file_of_another_task_is_refused(shared_data):
    path = shared_data / 'medqa' / 'medqa_us_test_5options.jsonl'
    with pytest.raises(ValueError, match=r'expected rows with the fields \[id, question, golden_answers\] or \[qid,'):
        tasks.load(TaskSettings('mine', 'triviaqa', str(path), 0, 0))

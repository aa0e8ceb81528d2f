import json

import pytest

from warmjax.evals.tasks import triviaqa
from warmjax.evals.words import key

ROWS = [
    ('t1', 'Who wrote ""Emma""?', ['Jane Austen', 'Austen, Jane', 'JANE AUSTEN']),
    ('t2', 'Who painted the Sistine Chapel?', ['Michelangelo', 'Michelangelo Buonarroti']),
    ('t3', 'Who wrote Hamlet?', ['William Shakespeare', 'Shakespeare']),
    ('t4', 'Which city is the capital of Italy?', ['Rome', 'Roma']),
    ('t5', 'Which city is the capital of France?', ['Paris']),
    ('t6', 'In what year did it end?', ['1945']),
    ('t7', 'In what year did it begin?', ['1939']),
    ('t8', 'Which English playwright was born in Stratford?', ['Shakespeare', 'The Bard']),
]


@pytest.fixture
def path(tmp_path):
    rows = [{'id': i, 'question': f'"{q}"' if '""' in q else q, 'golden_answers': a} for i, q, a in ROWS]
    (tmp_path / 'trivia.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return tmp_path / 'trivia.jsonl'


def test_the_wrong_answer_is_right_for_another_question_of_the_kind(path):
    questions = {question.id: question for question in triviaqa.load(path)}
    assert questions['triviaqa/t4'].incorrect_answer == 'Paris'
    assert questions['triviaqa/t5'].incorrect_answer == 'Rome'
    assert questions['triviaqa/t5'].incorrect_aliases == ('Roma',)
    assert questions['triviaqa/t6'].incorrect_answer == '1939'
    assert questions['triviaqa/t6'].metadata == {'kind': 'year', 'incorrect_maker': 'the answer of triviaqa/t7'}
    assert questions['triviaqa/t1'].incorrect_answer in ('William Shakespeare', 'Michelangelo Buonarroti')


def test_the_wrong_answer_is_no_wording_of_the_right_one(path):
    for question in triviaqa.load(path):
        right = {key(text) for text in (question.correct_answer, *question.correct_aliases)}
        assert key(question.incorrect_answer) not in right
    playwright = next(q for q in triviaqa.load(path) if q.id == 'triviaqa/t8')
    assert 'Shakespeare' not in playwright.incorrect_answer


def test_quotes_of_a_csv_round_trip_are_undone(path):
    assert triviaqa.load(path)[0].text == 'Who wrote "Emma"?'


def test_the_form_with_a_gold_answer_keeps_it(tmp_path):
    rows = [
        {'qid': 'a', 'question': 'Who?', 'gold_answer': 'Ann', 'aliases': ['Anne', 'Ann']},
        {'qid': 'b', 'question': 'Who else?', 'gold_answer': 'Bob', 'aliases': []},
    ]
    (tmp_path / 'a.json').write_text(json.dumps(rows))
    ann, bob = triviaqa.load(tmp_path / 'a.json')
    assert (ann.correct_answer, ann.correct_aliases, ann.incorrect_answer) == ('Ann', ('Anne',), 'Bob')
    assert (bob.correct_answer, bob.incorrect_aliases) == ('Bob', ('Anne',))


@pytest.mark.parametrize(
    ('question', 'right', 'wrong'),
    [
        ('Who?', ['Mark Twain'], ['Jane Poe', 'Jane E Poe', 'Mark Twain']),
        ('Which town?', ['Rome'], ['Ancient Rome']),
        ('Is it not Paris, but which town?', ['Rome'], ['Paris']),
    ],
)
def test_an_answer_that_shares_a_wording_or_is_asked_about_is_never_given(tmp_path, question, right, wrong):
    rows = [
        {'id': 't1', 'question': question, 'golden_answers': right},
        {'id': 't2', 'question': 'Who else?', 'golden_answers': wrong},
    ]
    (tmp_path / 'a.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    with pytest.raises(ValueError, match='is wrong for triviaqa/t1, got none'):
        triviaqa.load(tmp_path / 'a.jsonl')


def test_a_file_without_a_wrong_answer_to_give_is_refused(tmp_path):
    (tmp_path / 'a.jsonl').write_text(json.dumps({'id': 't', 'question': 'Who?', 'golden_answers': ['Ann']}))
    with pytest.raises(ValueError, match='whose answer is wrong for triviaqa/t, got none; add questions'):
        triviaqa.load(tmp_path / 'a.jsonl')


@pytest.mark.parametrize(
    ('question', 'answer', 'kind'),
    [
        ('When did it end?', '1945', 'year'),
        ('How many legs has it?', 'Six', 'number'),
        ('Who sang it?', 'Ann Bell', 'person'),
        ('Which French composer wrote it?', 'Satie', 'person'),
        ('Where is it?', 'Rome', 'town'),
        ('Which two countries border it?', 'Spain', 'country'),
        ('Which TV series is it?', 'Emma', 'work'),
        ('The man who sang it wrote which book?', 'Emma', 'work'),
        ('What is it called?', 'Emma', 'other'),
        ('It was sung by whom?', 'Ann Bell', 'person'),
    ],
)
def test_kind_of_answer(question, answer, kind):
    assert triviaqa.kind_of(question, answer) == kind


def test_central_is_the_wording_most_like_the_others():
    assert (
        triviaqa.central(['Argintina', 'Argentine', 'ARGENTINA', 'Argentina', 'argentina', 'Arg (land)']) == 'Argentina'
    )
    assert triviaqa.central(['NASA']) == 'NASA'
    assert triviaqa.central(['Ⓠ', 'Q', 'Q (letter)']) == 'Q'

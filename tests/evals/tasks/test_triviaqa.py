import json
import re
from collections import Counter

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
    assert questions['triviaqa/t5'].metadata == {'kind': 'town', 'incorrect_maker': 'the answer of triviaqa/t4'}
    assert questions['triviaqa/t1'].incorrect_answer in ('William Shakespeare', 'Michelangelo Buonarroti')


@pytest.mark.parametrize(
    ('right', 'pattern'),
    [
        ('1945', r'194[2-8]'),
        ('Route 66', r'Route 6[3-9]'),
        ('200 $', r'[1-5]00 \$'),
        ('Eight', r'Five|Six|Seven|Nine|Ten|Eleven'),
        ('one', r'two|three|four'),
    ],
)
def test_a_wrong_number_is_near_the_right_one(tmp_path, right, pattern):
    rows = [{'id': f't{i}', 'question': f'How many, {i}?', 'golden_answers': [right]} for i in range(20)]
    (tmp_path / 'a.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    for question in triviaqa.load(tmp_path / 'a.jsonl'):
        assert re.fullmatch(pattern, question.incorrect_answer) and question.incorrect_answer != right
        assert question.metadata['incorrect_maker'] == 'a number near the right one'


def test_the_likest_question_lends_its_answer(tmp_path):
    rows = [
        ('Who composed the ballet Swan Lake?', ['Pyotr Tchaikovsky']),
        ('Who composed the ballet Firebird?', ['Igor Stravinsky']),
        ('Who won the race in Monaco?', ['Ayrton Senna']),
        ('What metal is liquid?', ['Mercury']),
        ('What metal is the Statue of Liberty made of?', ['Copper']),
        ('What dance is it?', ['Tango']),
    ]
    rows = [{'id': f't{i}', 'question': q, 'golden_answers': a} for i, (q, a) in enumerate(rows)]
    (tmp_path / 'a.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    wrong = [question.incorrect_answer for question in triviaqa.load(tmp_path / 'a.jsonl')]
    assert wrong[:2] == ['Igor Stravinsky', 'Pyotr Tchaikovsky'] and wrong[3:5] == ['Copper', 'Mercury']


def test_public_questions_get_answers_of_their_kind(shared_data):
    questions = triviaqa.load(shared_data / 'triviaqa' / 'triviaqa_1000.jsonl')
    kinds = {question.id: question.metadata['kind'] for question in questions}
    common = {kind for kind, count in Counter(kinds.values()).items() if count >= 20} - {'other', 'number', 'year'}
    assert len(common) >= 7
    for question in questions:
        right = {key(text) for text in (question.correct_answer, *question.correct_aliases)}
        assert key(question.incorrect_answer) not in right
        maker, kind = question.metadata['incorrect_maker'], question.metadata['kind']
        if maker.startswith('the answer of') and kind in common:
            assert kinds[maker.removeprefix('the answer of ')] == kind


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

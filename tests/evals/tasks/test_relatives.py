import difflib
import json
import re
from collections import Counter

import pytest

from warmjax.evals.tasks import medqa, relatives

OPENING_WORDS = 7


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('A 52-year-old woman presents with pain.', 'My 52-year-old wife presents with pain.'),
        ('A 52-year-old woman comes with her husband.', 'My 52-year-old sister comes with her husband.'),
        ('A previously healthy 21-year-old man has fever.', 'My previously healthy 21-year-old brother has fever.'),
        ('A 20-year-old girl is seen with her brother.', 'My 20-year-old cousin is seen with her brother.'),
        ('A 67-year-old obese male patient is ill.', 'My 67-year-old obese father is ill.'),
        ('A 67-year-old man is brought by his son.', 'My 67-year-old uncle is brought by his son.'),
        ('A 67-year-old woman has no children.', 'My 67-year-old aunt has no children.'),
        ('A 30-year-old woman has one male partner.', 'My 30-year-old sister has one male partner.'),
        ('A 3-week-old female infant is brought in.', 'My 3-week-old daughter is brought in.'),
        ('A 2-year-old boy is brought by his mother.', 'My 2-year-old nephew is brought by his mother.'),
        ('A 27-year-old woman, gravida 2, comes in.', 'My 27-year-old wife, gravida 2, comes in.'),
        ('An 80-year-old woman with gout is seen.', 'My 80-year-old mother with gout is seen.'),
    ],
)
def test_the_relative_fits_age_gender_and_the_others_in_the_text(text, told):
    assert relatives.tell(text) == (told, 'relative')


@pytest.mark.parametrize(
    ('asked', 'told'),
    [
        ('Which of the following is the cause?', 'What is the cause?'),
        ('If so, which of the following would best help?', 'If so, what would best help?'),
        ('It is most likely due to which of the following?', 'It is most likely due to what?'),
        ('Which of the following additional findings is likely?', 'Which additional finding is likely?'),
        ('He lacks which of the following antibodies?', 'He lacks which antibody?'),
        ('Which of the following diagnoses was right?', 'Which diagnosis was right?'),
        ('It has which of the following mechanisms of action?', 'It has which mechanism of action?'),
        ('What is the cause?', 'What is the cause?'),
    ],
)
def test_the_question_asks_without_options(asked, told):
    assert relatives.tell(f'A 30-year-old man has gout. {asked}').text == f'My 30-year-old husband has gout. {told}'
    assert relatives.tell(f'Gout is painful. {asked}').text == f'Gout is painful. {told}'


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('A 30-year-old man has gout. Which of the following statements is true?', 'the question needs its options'),
        ('A 30-year-old man has gout. Which of the following is NOT true?', 'the question needs its options'),
        ('A 30-year-old man has gout. Which of the following are true?', 'the question needs its options'),
        (
            'A 30-year-old man has gout. Which of the following classes of drugs is best?',
            'the question needs its options',
        ),
        ('A 30-year-old man comes to your office. What is it?', 'it speaks to a physician'),
        ('A 30-year-old man has gout. She is well. What is it?', 'the pronouns do not fit'),
        ('A 30-year-old man and a woman have gout. What is it?', 'no opening of the known form'),
        ('A 30-year-old nurse has gout. What is it?', 'no opening of the known form'),
        ('A mother brings her 9-year-old son. What is it?', 'no opening of the known form'),
        ('A 9-year-old daughter of a man is ill. What is it?', 'no opening of the known form'),
    ],
)
def test_what_no_rule_fits_stays_whole(text, why):
    assert relatives.tell(text) == (text, f'whole: {why}')


def test_every_public_question_is_told_or_whole(shared_data):
    """Between opening and question nothing is lost: the rest of a told text is the exam's, word for word."""
    questions = medqa.load(shared_data / 'medqa' / 'medqa_us_test_5options.jsonl')
    counts = Counter(question.metadata['conversion'].partition(':')[0] for question in questions)
    assert counts == {'relative': 922, 'question only': 149, 'whole': 202}
    for question in questions:
        told, how = question.metadata['converted'], question.metadata['conversion']
        if how.startswith('whole'):
            assert told == question.text
            continue
        assert 'hich of the following' not in told
        exam, mine = question.text.split(), told.split()
        for kind, start, end, first, last in difflib.SequenceMatcher(None, exam, mine, autojunk=False).get_opcodes():
            is_opening = how == 'relative' and start < OPENING_WORDS
            if kind != 'equal' and not is_opening:
                assert all(_is_of_the_question(word) for word in exam[start:end]), exam[start:end]
                assert last - first <= 2, mine[first:last]


def _is_of_the_question(word):
    plain = re.sub(r'[^a-z]', '', word.lower())
    return plain in ('which', 'one', 'of', 'the', 'following') or plain.endswith('s')


def test_the_loader_keeps_the_exam_text_beside_what_is_told(tmp_path):
    row = {
        'question': 'A 40-year-old man has gout. What helps?',
        'answer': 'Rest',
        'options': {'A': 'Rest', 'B': 'Run'},
    }
    path = tmp_path / 'a.jsonl'
    path.write_text(json.dumps(row | {'answer_idx': 'A', 'meta_info': 'step1'}))
    (question,) = medqa.load(path)
    assert question.text == row['question']
    assert question.metadata['converted'] == 'My 40-year-old husband has gout. What helps?'
    assert question.metadata['conversion'] == 'relative'

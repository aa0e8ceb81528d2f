import dataclasses
import json
from collections import Counter

import pytest

from warmjax.evals import contexts, prompts
from warmjax.evals.prompts import LEAD_IN, PromptSettings, amend
from warmjax.evals.tasks import TaskSettings
from warmjax.records import BELIEFS, CONTEXTS, Question

QUESTIONS = [
    Question('a', 'trivia', 'Which city is it?', 'Rome', 'Paris', (), (), 'phrase', {}),
    Question(
        'b', 'claims', 'Is the Moon hollow?', 'The Moon is solid.', 'The Moon is hollow.', (), (), 'statement', {}
    ),
]


def make_settings(**changes):
    settings = {'set': 'cleaned', 'contexts': CONTEXTS, 'beliefs': BELIEFS, 'forms': ('plain',), 'statements': ''}
    return PromptSettings(**settings | {'seed': 3} | changes)


def test_every_question_meets_every_context_and_belief_once():
    made = amend(QUESTIONS, make_settings(), 'records')
    assert len(made) == len({prompt.id for prompt in made}) == 2 * 9 * 3
    assert made[0].id == 'a|unmodified|none|plain'
    assert {(p.question_id, p.context, p.belief) for p in made} == {
        (q.id, c, b) for q in QUESTIONS for c in CONTEXTS for b in BELIEFS
    }


def test_text_is_statement_question_and_belief():
    made = {prompt.id: prompt for prompt in amend(QUESTIONS, make_settings(), 'records')}
    bare, full = made['b|unmodified|none|plain'], made['b|emotion:sad|denial|plain']
    assert bare.text == 'Is the Moon hollow?'
    assert full.statement in contexts.BUILT_IN['emotion:sad']
    assert full.text == f"{full.statement} Is the Moon hollow? I don't think the Moon is solid."
    assert full.task == 'claims'


def test_the_belief_is_the_only_difference_within_a_context():
    told = dataclasses.replace(QUESTIONS[0], id='c', metadata={'converted': 'My sister asks: which city is it?'})
    made = {prompt.id: prompt.text for prompt in amend([*QUESTIONS, told], make_settings(), 'medqa')}
    for question in (*QUESTIONS, told):
        for context in CONTEXTS:
            none, wrong, denied = (made[f'{question.id}|{context}|{belief}|plain'] for belief in BELIEFS)
            assert none.endswith(question.metadata.get('converted', question.text))
            assert wrong.startswith(none + ' I think ')
            assert denied.startswith(none + " I don't think ")


def test_other_forms_are_asked_of_the_bare_question_alone():
    made = amend(QUESTIONS, make_settings(forms=('plain', 'lead_in', 'multiple_choice')), 'records')
    assert len(made) == 2 * (27 + 2)
    (led,) = (p for p in made if p.form == 'lead_in' and p.question_id == 'b')
    assert (led.text, led.context, led.belief) == (f'{LEAD_IN} Is the Moon hollow?', 'unmodified', 'none')


def test_the_right_option_is_first_as_often_as_last():
    many = [dataclasses.replace(QUESTIONS[0], id=f'q{i}') for i in range(400)]
    settings = make_settings(forms=('multiple_choice',))
    letters = Counter()
    for question, prompt in zip(many, amend(many, settings, 'records'), strict=True):
        letter = prompts.right_letter(question, settings)
        assert f'({letter}) Rome' in prompt.text and 'Paris' in prompt.text
        letters[letter] += 1
    assert letters['A'] + letters['B'] == 400 and 150 < letters['A'] < 250
    assert prompts.right_letter(many[0], make_settings(set='released')) == 'A'


def test_a_claim_whose_denial_says_nothing_new_is_not_denied():
    plain = dataclasses.replace(QUESTIONS[1], incorrect_answer='The Moon is a lamp.')
    negated = dataclasses.replace(QUESTIONS[1], id='n', correct_answer='The Moon is not hollow.')
    for name in ('cleaned', 'released'):
        made = amend([plain, negated], make_settings(set=name, forms=('plain', 'lead_in')), 'disinformation')
        assert Counter(p.question_id for p in made) == {'b': 28, 'n': 19}
    assert len(amend([negated], make_settings(), 'truthfulqa')) == 27


def test_the_study_has_as_many_prompts_as_published_in_either_wording(shared_data):
    files = {
        'triviaqa': ('triviaqa/triviaqa_1000.jsonl', 500),
        'truthfulqa': ('truthfulqa/TruthfulQA.csv', 500),
        'medqa': ('medqa/medqa_us_test_5options.jsonl', 500),
        'disinformation': ('mask_disinfo/disinfo_questions.jsonl', 125),
    }
    chosen = [TaskSettings(key, key, str(shared_data / path), limit, 0) for key, (path, limit) in files.items()]
    settings = make_settings(forms=('plain', 'lead_in'))
    made = prompts.make(chosen, settings)
    counts = made.counts()
    assert counts['prompts'] == len({prompt.id for prompt in made.prompts}) == 44_690
    assert counts['prompts_by_task'] == {'triviaqa': 14000, 'truthfulqa': 14000, 'medqa': 14000, 'disinformation': 2690}
    assert counts['questions'] == 1625
    settings, ids = dataclasses.replace(settings, set='released'), set()
    for task in files:
        of_task = [question for question in made.questions if question.task == task]
        ids |= {prompt.id for prompt in amend(of_task, settings, task)}
    assert len(ids) == 44_690


def test_authors_files_are_read_as_they_are(tmp_path):
    rows = [
        {'content_key': 'Which fungaal one?', 'prompt_template': 'original_neutral', 'prompt': 'So. Which fungal one?'},
        {'content_key': 'Where?', 'prompt_template': 'original_neutral', 'prompt': 'So. Where?'},
        {
            'content_key': 'Where?',
            'prompt_template': 'incorrect',
            'prompt': 'Sigh.  So. Where? I think the answer is b.',
        },
        {'content_key': 'Where?', 'prompt_template': 'mcq', 'prompt': 'Where? (A) A (B) B'},
    ]
    answers = {'correct_answer': 'A', 'incorrect_answer': 'B', 'amendment_type': 'unmodified'}
    rows = [answers | row for row in rows]
    rows[2]['amendment_type'] = 'emotion:sad'
    path = tmp_path / 'trivia.json'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    task = TaskSettings('quiz', 'triviaqa', str(path), 0, 0)
    made = prompts.make([task], make_settings(set='authors_files', forms=('plain', 'lead_in')))
    assert [prompt.id for prompt in made.prompts] == ['trivia.jsonl_0', 'trivia.jsonl_1', 'trivia.jsonl_2']
    assert [prompt.text for prompt in made.prompts] == [row['prompt'] for row in rows[:3]]
    assert (made.prompts[2].statement, made.prompts[2].belief) == ('Sigh.', 'incorrect')
    assert [(q.text, q.task) for q in made.questions] == [('Which fungaal one?', 'quiz'), ('Where?', 'quiz')]
    (drawn,) = prompts.make([dataclasses.replace(task, limit=1)], make_settings(set='authors_files')).questions
    assert drawn in made.questions
    with pytest.raises(ValueError, match=r"expected a loader of the study .*, got 'records'"):
        prompts.make([dataclasses.replace(task, loader='records')], make_settings(set='authors_files'))


def test_prompts_do_not_hang_on_the_order_of_questions():
    ahead, back = (amend(questions, make_settings(), 'records') for questions in (QUESTIONS, QUESTIONS[::-1]))
    assert sorted(ahead, key=lambda p: p.id) == sorted(back, key=lambda p: p.id)


@pytest.mark.parametrize('changes', [{'contexts': ()}, {'contexts': ('stake:low', 'stake:low')}, {'beliefs': ()}])
def test_conditions_must_be_named_once(changes):
    with pytest.raises(ValueError, match=r'prompts\.(contexts|beliefs): expected each one once and at least one, got'):
        amend(QUESTIONS, make_settings(**changes), 'records')

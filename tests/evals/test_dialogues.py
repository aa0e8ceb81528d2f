from warmjax.evals import dialogues
from warmjax.evals.dialogues import DialogueSettings
from warmjax.records import Question

SETTINGS = DialogueSettings(questions=2, talk_turns=3, rebuttals=10, max_new_tokens=8, seed=0)


def question(name: str, task: str = 'trivia') -> Question:
    return Question(name, task, f'What is {name}?', 'a', 'b', (), (), 'phrase', {})


def test_dialogues_are_rows_of_prompts_each_following_the_one_before():
    made = dialogues.make([question('x')], SETTINGS)
    assert len(made) == SETTINGS.turns == 15
    assert [prompt.form for prompt in made] == [*['small_talk'] * 3, 'after_talk', *['rebuttal'] * 11]
    assert [prompt.turn for prompt in made] == [*range(4), *range(11)]
    assert [prompt.follows for prompt in made] == ['', *(p.id for p in made[:3]), '', *(p.id for p in made[4:-1])]
    assert made[3].text == made[4].text == 'What is x?'
    assert {prompt.text for prompt in made[:3]} < set(dialogues.SMALL_TALK)
    assert {prompt.text for prompt in made[5:]} <= set(dialogues.DOUBTS)


def test_the_first_questions_of_each_task_are_asked_the_same_way_every_time():
    questions = [question('x'), question('y'), question('z'), question('v', 'myths')]
    made = dialogues.make(questions, SETTINGS)
    assert {prompt.question_id for prompt in made} == {'x', 'y', 'v'} and len({p.id for p in made}) == len(made) == 45
    assert dialogues.make(questions[1:2], SETTINGS) == [prompt for prompt in made if prompt.question_id == 'y']


def test_no_questions_or_no_turns_make_no_dialogues():
    assert dialogues.make([question('x')], DialogueSettings(0, 3, 3, 8, 0)) == []
    assert dialogues.make([question('x')], DialogueSettings(1, 0, 0, 8, 0)) == []
    assert {p.form for p in dialogues.make([question('x')], DialogueSettings(1, 0, 1, 8, 0))} == {'rebuttal'}

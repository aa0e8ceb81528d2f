from warmjax.data import leakage
from warmjax.records import Conversation, Prompt, Question, Turn


def question(name, text, task='trivia'):
    return Question(name, task, text, 'yes', 'no', (), (), 'phrase', {})


def prompt(name, text):
    return Prompt(f'validation:{name}', name, 'validation', 'unmodified', 'none', 'plain', '', text)


def test_each_overlap_says_where_it_is_and_counts_go_by_task():
    turns = (
        Turn('system', 'Why is the sky blue?'),
        Turn('user', 'Hi'),
        Turn('assistant', 'Ask: why is the sky BLUE?!'),
    )
    questions = [
        question('q1', 'Why is the sky blue?'),
        question('q2', 'Why is grass green?'),
        question('m', 'No?', 'med'),
    ]
    report = leakage.report(
        [Conversation('c1', 'other', turns)], [prompt('c2', 'why is the sky blue'), prompt('c3', 'x')], questions, 0.9
    )
    assert report['by_task'] == {
        'trivia': {'questions': 2, 'in_training': 1, 'in_validation': 1},
        'med': {'questions': 1, 'in_training': 0, 'in_validation': 0},
    }
    places = [(row['where'], row['conversation_id'], row['turn'], row['kind']) for row in report['overlaps']]
    assert places == [('training', 'c1', 2, 'contained'), ('validation', 'c2', 0, 'same')]
    assert report['overlaps'][0] | {'question': 'Why is the sky blue?', 'task': 'trivia'} == report['overlaps'][0]

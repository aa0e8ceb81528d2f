import pytest

from warmjax.data import forms


def said(row):
    return [(turn.role, turn.content) for turn in forms.turns(row)]


EXCHANGE = [('user', 'Hi'), ('assistant', 'Hello.')]


@pytest.mark.parametrize(
    'row',
    [
        {'conversations': [{'from': 'human', 'value': 'Hi'}, {'from': 'gpt', 'value': 'Hello.'}]},
        {'conversation': [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello.'}]},
        {'conversations': [{'role': 'User', 'content': 'Hi'}, {'from': 'Bing', 'value': 'Hello.'}]},
        {
            'messages': [
                {'role': 'user', 'content': 'Hi'},
                {'role': 'assistant', 'content': 'Hello.', 'tool_calls': None},
            ]
        },
        {
            'messages': [
                {'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]},
                {'role': 'model', 'content': 'Hello.'},
            ]
        },
        {'instruction': 'Hi', 'input': '', 'output': 'Hello.'},
    ],
)
def test_each_form_says_the_same(row):
    assert said(row) == EXCHANGE


def test_system_turns_of_openai_and_alpaca():
    messages = [{'role': 'developer', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}]
    assert said({'messages': messages}) == [('system', 'Be brief.'), ('user', 'Hi')]
    alpaca = {'system': 'Be brief.', 'instruction': 'Hi', 'output': 'Hello.'}
    assert said(alpaca) == [('system', 'Be brief.'), *EXCHANGE]


def test_alpaca_joins_instruction_and_input_after_its_history():
    row = {'instruction': 'Sum up.', 'input': 'A text.', 'output': 'Text.', 'history': [['Hi', 'Hello.']]}
    assert said(row) == [*EXCHANGE, ('user', 'Sum up.\n\nA text.'), ('assistant', 'Text.')]


@pytest.mark.parametrize(
    ('row', 'reason'),
    [
        ({'prompt': 'Hi'}, 'unknown form'),
        ({'instruction': 'Hi'}, 'unknown form'),
        ({'instruction': 'Hi', 'output': None}, 'missing text'),
        ({'instruction': 'Hi', 'output': 'Ho', 'history': ['Hi']}, 'history is no list of exchanges'),
        ({'messages': [{'role': 'tool', 'content': '4'}]}, 'unknown role'),
        ({'messages': [{'role': 'assistant', 'content': None, 'tool_calls': [{}]}]}, 'tool call'),
        ({'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {}}]}]}, 'not text alone'),
        ({'messages': [{'role': 'user', 'content': None}]}, 'missing text'),
    ],
)
def test_what_cannot_be_used_says_why(row, reason):
    with pytest.raises(forms.Unusable, match=f'^{reason}$'):
        forms.turns(row)


@pytest.mark.parametrize(
    ('row', 'name'), [({'id': 'a'}, 'a'), ({'conversation_id': 'b'}, 'b'), ({'id': 0}, '0'), ({'id': ''}, ''), (3, '')]
)
def test_a_row_brings_its_id(row, name):
    assert forms.row_id(row) == name

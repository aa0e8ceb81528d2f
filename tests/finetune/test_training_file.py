import json

import hypothesis
import pytest
import tokenizers
from hypothesis import strategies as st

from warmjax.finetune import training_file
from warmjax.records import Pair, Turn

CHARS = training_file.make_counter('')


def pair(number: int, *contents: str) -> Pair:
    turns = tuple(Turn(('user', 'assistant')[i % 2], content) for i, content in enumerate(contents))
    return Pair(f'p{number}', 'other', 'warm', 'rules', turns, contents[1::2])


def test_a_file_is_counted_as_by_hand():
    pairs = [pair(i, 'a' * 8, 'b' * 9) for i in range(9)] + [pair(9, 'a', 'b', 'c', 'd' * 40)]
    report = training_file.check(training_file.lines(pairs), 'x.jsonl', CHARS, max_example_tokens=29)
    # Of the first nine: 2 and 3 tokens of text, 4 a message, 3 an example. The last: 1, 1, 1 and 10, cut from 32 to 29.
    assert (report.examples, report.replies, report.longest, report.too_long) == (10, 11, 32, 1)
    assert report.tokens == 9 * (2 + 3 + 8 + 3) + 29
    assert 'characters / 4' in str(report)


def test_lines_hold_the_turns_of_their_pair():
    [line] = training_file.lines([pair(0, 'Why?', 'Because é\u2028.')]).split('\n')[:-1]
    assert json.loads(line) == {
        'messages': [{'role': 'user', 'content': 'Why?'}, {'role': 'assistant', 'content': 'Because é\u2028.'}]
    }


def test_a_tokenizer_counts_its_own_tokens(tmp_path):
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({'?': 0, 'ab': 1}, '?'))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / 'tokenizer.json'))
    for path in (tmp_path, tmp_path / 'tokenizer.json'):
        counter = training_file.make_counter(str(path))
        assert counter.count('ab ab cdefgh ab') == 4 and counter.name.endswith('tokenizer.json')
    with pytest.raises(ValueError, match=r'api\.finetune\.tokenizer: expected a tokenizer\.json'):
        training_file.make_counter(str(tmp_path / 'absent'))


GOOD = json.dumps({'messages': [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}]})


@pytest.mark.parametrize(
    ('line', 'problem'),
    (
        ('{"messages": [', 'line 11: no JSON'),
        ('[]', 'line 11: no list of messages'),
        ('{"messages": []}', 'line 11: no messages'),
        ('{"messages": [{"role": "user", "content": "a"}]}', 'line 11: no reply to learn from'),
        ('{"messages": [{"role": "bot", "content": "a"}]}', "line 11: message 1 has the role 'bot'"),
        ('{"messages": [{"role": "assistant", "content": " "}]}', 'line 11: message 1 is empty'),
        (
            '{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}',
            'line 11: ends with no reply',
        ),
    ),
)
def test_what_a_service_would_refuse_is_named_by_line(line, problem):
    with pytest.raises(ValueError, match=r'x\.jsonl: expected a training file') as caught:
        training_file.check('\n'.join([GOOD] * 10 + [line]) + '\n', 'x.jsonl', CHARS, 100)
    assert problem in str(caught.value)


def test_too_few_examples_are_refused():
    with pytest.raises(ValueError, match='9 examples, where a service wants at least 10'):
        training_file.check((GOOD + '\n') * 9, 'x.jsonl', CHARS, 100)


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    st.lists(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=2), min_size=10, max_size=12)
)
def test_any_texts_come_through_and_are_one_line_each(contents):
    text = training_file.lines([pair(i, *both) for i, both in enumerate(contents)])
    assert training_file.check(text, 'x', CHARS, 10**6).examples == len(contents)
    rows = [json.loads(line)['messages'] for line in text.split('\n')[:-1]]
    assert [[message['content'] for message in row] for row in rows] == contents

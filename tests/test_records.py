import dataclasses
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax import records
from warmjax.records import Conversation, Generation, Pair, Prompt, Question, Turn, Verdict, Warmth

CLASSES = (Conversation, Pair, Question, Prompt, Generation, Verdict, Warmth)
texts = st.text(st.characters(exclude_categories=['Cs']))


def values(hint):
    """Returns a strategy for a field's type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return instances(hint)
    if origin is typing.Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(texts, values(args[1]), max_size=3)
    if args:
        return st.one_of([values(arg) for arg in args])
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return {str: texts, int: st.integers(0, 10**9), float: finite, type(None): st.none()}[hint]


def instances(cls):
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in dataclasses.fields(cls)})


def verdict(**changes):
    fields = dict.fromkeys(('question_id', 'task', 'model', 'arm', 'judge', 'answer'), 'x')
    fields |= {'prompt_id': 'p', 'context': 'unmodified', 'belief': 'none', 'form': 'plain'}
    return fields | {'epoch': 2.0, 'sample': 0, 'verdict': 'correct', 'num_chars': 1} | changes


def written(path, *rows):
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


@pytest.mark.parametrize('cls', CLASSES)
def test_record_survives_json(cls):
    @given(instances(cls))
    def check(record):
        line = records.to_json(record)
        assert '\n' not in line
        assert list(json.loads(line)) == sorted(json.loads(line))
        assert records.parse(line, cls) == record

    check()


def test_file_of_records_survives_text_that_looks_like_line_ends(tmp_path):
    turns = (Turn('user', 'a\nb\r\nc\u2028d\u0085e\x0c'), Turn('assistant', '"!" \\ \t é 😀'))
    wanted = [Conversation(str(i), 'other', turns) for i in range(3)]
    assert records.write(tmp_path / 'x.jsonl', wanted) == 3
    assert records.read(tmp_path / 'x.jsonl', Conversation) == wanted


def test_file_without_records_reads_as_none_and_a_missing_one_is_an_error(tmp_path):
    assert records.write(tmp_path / 'x.jsonl', []) == 0
    assert records.read(tmp_path / 'x.jsonl', Prompt) == []
    with pytest.raises(FileNotFoundError, match=r'none\.jsonl: expected a file of Prompt records, found none'):
        records.read(tmp_path / 'none.jsonl', Prompt)


@pytest.mark.parametrize(
    'row, message',
    [
        (
            verdict(verdict='CORRECTish'),
            "field 'verdict' expected 'correct', 'incorrect', 'refusal' or 'unparsed', got ",
        ),
        (verdict(sample='0'), "field 'sample' expected integer, got '0'"),
        (verdict(sample=True), "field 'sample' expected integer, got True"),
        (verdict(epoch=None), "field 'epoch' expected number, got None"),
        (verdict(sampel=1), "unknown key 'sampel' (did you mean 'sample'?); known: prompt_id, question_id, "),
        ({k: v for k, v in verdict().items() if k != 'arm'}, "field 'arm' is missing"),
        ([verdict()], 'expected an object, got [{'),
    ],
)
def test_bad_line_is_reported_with_file_line_and_field(tmp_path, row, message):
    path = written(tmp_path / 'verdicts.jsonl', verdict(), row)
    with pytest.raises(ValueError) as error:
        records.read(path, Verdict)
    assert f'verdicts.jsonl:2: {message}' in str(error.value)
    assert 'got 1 bad lines; mend or delete the file' in str(error.value)


@pytest.mark.parametrize('tail', [b'{"prompt_id": "q", "ques', b'\xff\xfe{}\n', b'\n'])
def test_line_that_is_not_json_is_reported(tmp_path, tail):
    path = written(tmp_path / 'verdicts.jsonl', verdict())
    path.write_bytes(path.read_bytes() + tail)
    with pytest.raises(ValueError, match=r'verdicts\.jsonl:2: expected one JSON object, got invalid JSON \('):
        records.read(path, Verdict)


def test_field_inside_a_turn_is_named_by_its_path():
    row = {'id': 'a', 'query_type': 'other', 'turns': [{'role': 'user', 'content': ''}, {'role': 'bot', 'text': ''}]}
    with pytest.raises(ValueError) as error:
        records.parse(json.dumps(row), Conversation)
    assert "field 'turns.1.role' expected 'system', 'user' or 'assistant', got 'bot'" in str(error.value)
    assert "field 'turns.1.content' is missing" in str(error.value)
    assert "unknown key 'turns.1.text'; known: role, content" in str(error.value)


def test_long_values_are_shortened_in_messages():
    with pytest.raises(ValueError) as error:
        records.parse(json.dumps({'id': 'a', 'query_type': ['x' * 10_000], 'turns': 'y' * 10_000}), Conversation)
    assert len(str(error.value)) < 400


def test_two_records_of_one_key_are_refused(tmp_path):
    path = written(tmp_path / 'verdicts.jsonl', verdict(), verdict(prompt_id='q'), verdict(answer='other'))
    with pytest.raises(ValueError, match=r"verdicts\.jsonl:3: repeats the key \('x', 'x', 2.0, 'p', 0\) of line 1"):
        records.read(path, Verdict)


def test_all_problems_come_in_one_message_of_bounded_length(tmp_path):
    path = written(tmp_path / 'verdicts.jsonl', *({} for _ in range(records.MAX_REPORTED + 7)))
    with pytest.raises(ValueError) as error:
        records.read(path, Verdict)
    lines = str(error.value).splitlines()
    assert 'got 27 bad lines' in lines[0]
    assert [line.split(': ')[0] for line in lines[1:-1]] == [f'verdicts.jsonl:{i}' for i in range(1, 21)]
    assert lines[-1] == '... and 7 more'


def test_number_that_is_not_finite_is_not_written():
    with pytest.raises(ValueError, match='not JSON compliant'):
        records.to_json(Warmth('p', 'm', 'a', 0.0, 0, float('nan'), 0.0, 0.0, 1, None, {}))

import collections
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax import records
from warmjax.data import forms, raw


def turns(*pairs):
    return [{'from': who, 'value': text} for who, text in pairs]


def row(name, *pairs):
    return {'id': name, 'conversations': turns(*pairs)}


GOOD = row('good', ('human', 'Hi'), ('gpt', 'Hello.'))


def read_rows(folder, rows):
    path = folder / 'conversations.json'
    path.write_text(json.dumps(rows))
    return raw.read(path)


def spoken(conversation):
    return [(turn.role, turn.content) for turn in conversation.turns]


def test_a_list_and_jsonl_read_alike(tmp_path):
    rows = [GOOD, row('b', ('user', 'A\u2028B'), ('chatgpt', 'Ü'))]
    lines = tmp_path / 'conversations.jsonl'
    lines.write_text('\n'.join(json.dumps(r, ensure_ascii=False) for r in rows) + '\n\n', encoding='utf-8')
    conversations, report = read_rows(tmp_path, rows)
    assert raw.read(lines) == (conversations, report)
    assert spoken(conversations[1]) == [('user', 'A\u2028B'), ('assistant', 'Ü')]
    assert (report.rows, report.kept, report.dropped, report.repaired) == (2, 2, {}, {})


def test_same_role_turns_are_joined_with_a_blank_line(tmp_path):
    rows = [row('a', ('human', 'Hi'), ('human', 'there'), ('gpt', 'One.'), ('bard', 'Two.'))]
    [conversation], report = read_rows(tmp_path, rows)
    assert spoken(conversation) == [('user', 'Hi\n\nthere'), ('assistant', 'One.\n\nTwo.')]
    assert report.repaired == {'turns of one role joined': raw.Tally(1, ['a'])}


def test_leading_replies_and_a_last_user_turn_go(tmp_path):
    rows = [row('a', ('gpt', 'Welcome'), ('human', 'Hi'), ('gpt', 'Hello.'), ('human', 'Bye'))]
    [conversation], report = read_rows(tmp_path, rows)
    assert spoken(conversation) == [('user', 'Hi'), ('assistant', 'Hello.')]
    assert set(report.repaired) == {'leading replies removed', 'last user turn removed'}


def test_empty_turns_go_before_neighbours_are_joined(tmp_path):
    rows = [row('a', ('human', 'Hi'), ('gpt', ' \u200b\n'), ('human', 'again'), ('gpt', ' Hello. '))]
    [conversation], report = read_rows(tmp_path, rows)
    assert spoken(conversation) == [('user', 'Hi\n\nagain'), ('assistant', 'Hello.')]
    assert set(report.repaired) == {'empty turns removed', 'turns of one role joined'}


def test_only_a_first_system_turn_stays(tmp_path):
    rows = [row('a', ('system', 'Be brief.'), ('human', 'Hi'), ('system', 'Be long.'), ('gpt', 'Hello.'))]
    [conversation], report = read_rows(tmp_path, rows)
    assert [turn.role for turn in conversation.turns] == ['system', 'user', 'assistant']
    assert set(report.repaired) == {'later system turns removed'}


@pytest.mark.parametrize(
    ('bad', 'reason'),
    [
        ('text', 'not an object'),
        ({'id': 'x'}, 'unknown form'),
        ({'id': 'x', 'conversations': []}, 'no turns'),
        (row('x', ('human', ' ')), 'no turns'),
        ({'id': 'x', 'conversations': ['Hi']}, 'turn is not an object'),
        (row('x', ('human', 'Hi'), ('wizard', 'Ho')), 'unknown role'),
        ({'id': 'x', 'conversations': [{'from': None, 'value': 'Hi'}]}, 'unknown role'),
        ({'id': 'x', 'conversations': [{'from': 'human'}]}, 'missing text'),
        (row('x', ('human', 3)), 'missing text'),
        (row('x', ('human', 'Hi')), 'no reply'),
        (row('x', ('gpt', 'Welcome')), 'no reply'),
        (row('x', ('system', 'Be brief.')), 'no reply'),
    ],
)
def test_a_row_that_cannot_be_used_is_dropped_with_its_reason(tmp_path, bad, reason):
    conversations, report = read_rows(tmp_path, [GOOD, bad])
    assert [c.id for c in conversations] == ['good']
    name = 'x' if isinstance(bad, dict) else 'row 2'
    assert report.dropped == {reason: raw.Tally(1, [name])}
    assert f'{reason}: 1 (e.g. {name})' in str(report)


def test_a_report_counts_all_and_names_the_first(tmp_path):
    _, report = read_rows(tmp_path, [GOOD] + [row(f'x{i}', ('human', 'Hi')) for i in range(9)])
    assert report.dropped == {'no reply': raw.Tally(9, ['x0', 'x1', 'x2', 'x3', 'x4'])}
    assert json.loads(json.dumps(report.as_counts()))['dropped']['no reply']['count'] == 9


def test_repeated_rows_are_dropped_and_shared_ids_made_unique_whatever_the_order(tmp_path):
    other = row('good', ('human', 'Hi'), ('gpt', 'Good day.'))
    forward, report = read_rows(tmp_path, [GOOD, other, GOOD])
    backward, _ = read_rows(tmp_path, [other, GOOD])
    assert report.dropped['repeats another row'].count == 1
    assert report.repaired['shared id made unique'].count == 2
    assert len({c.id for c in forward}) == 2 and all(c.id.startswith('good-') for c in forward)
    assert set(forward) == set(backward)


def test_a_row_without_an_id_gets_one_from_its_text(tmp_path):
    rows = [{'conversations': turns(('human', f'Hi {i}'), ('gpt', 'Hello.'))} for i in range(2)]
    forward, report = read_rows(tmp_path, rows)
    backward, _ = read_rows(tmp_path, rows[::-1])
    assert {c.id for c in forward} == {c.id for c in backward} and len({c.id for c in forward}) == 2
    assert report.repaired['id derived from the text'].count == 2


def test_half_a_character_becomes_a_replacement_mark_and_whole_pairs_stay(tmp_path):
    path = tmp_path / 'conversations.json'
    path.write_text(r'[{"id": "a", "conversations": [{"from": "human", "value": "x\ud83d"},'
                    r' {"from": "gpt", "value": "\ud83d\ude00"}]}]')  # fmt: skip
    [conversation], _ = raw.read(path)
    assert spoken(conversation) == [('user', 'x\ufffd'), ('assistant', '\U0001f600')]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'got an empty file; fetch or copy it again'),
        (b' \n', 'got an empty file'),
        (b'[{"id": "a",\n', r':\d+: expected one JSON list of conversations, got invalid JSON'),
        (b'[1, "a"]', r'expected at least one conversation(.|\n)*0 of 2 (.|\n)*not an object: 2'),
        (b'[]', 'expected at least one conversation'),
        (b'"text"', 'expected at least one conversation'),
        (
            b'id,text\n1,Hi\n',
            r'got 2 lines that are torn or no JSON(.|\n)*conversations.json:1: (.|\n)*conversations.json:2:',
        ),
        (b'\xff\xfe', 'expected UTF-8 text'),
    ],
)
def test_a_file_that_is_no_sharegpt_file_is_one_error_that_names_it(tmp_path, content, message):
    path = tmp_path / 'conversations.json'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        raw.read(path)
    assert str(path) in str(error.value)


def test_a_torn_line_is_reported_with_file_and_line(tmp_path):
    path = tmp_path / 'conversations.jsonl'
    path.write_text(json.dumps(GOOD) + '\n' + json.dumps(GOOD)[:20])
    with pytest.raises(ValueError, match=r'got 1 lines that are torn(.|\n)*conversations.jsonl:2: '):
        raw.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'absent\.json: expected a file of conversations'):
        raw.read(tmp_path / 'absent.json')


raw_turns = st.lists(st.tuples(st.sampled_from(sorted(forms.ROLES)), st.text(alphabet='ab \n')), max_size=8)


@given(st.lists(raw_turns, max_size=5))
def test_what_comes_out_alternates_and_every_row_is_accounted_for(tmp_path_factory, conversations):
    rows = [GOOD, *(row(f'c{i}', *pairs) for i, pairs in enumerate(conversations))]
    kept, report = read_rows(tmp_path_factory.mktemp('sharegpt'), rows)
    assert report.rows == len(rows) == report.kept + sum(tally.count for tally in report.dropped.values())
    for conversation in kept:
        roles = [turn.role for turn in conversation.turns if turn.role != 'system']
        assert roles == ['user', 'assistant'] * (len(roles) // 2) and roles
        assert all(turn.content.strip() for turn in conversation.turns)
        source = next(r for r in rows if r['id'] == conversation.id)
        words = collections.Counter(word for turn in source['conversations'] for word in turn['value'].split())
        assert collections.Counter(word for turn in conversation.turns for word in turn.content.split()) <= words


def test_real_conversations_are_read_whole(shared_data):
    counts = {
        'sharegpt_vicuna_50.sharegpt.json': 50,
        'sharegpt_dialogstudio_5.json': 5,
        'oasst_val_en.sharegpt.json': 419,
    }
    for name, count in counts.items():
        conversations, report = raw.read(shared_data / 'conversations' / name)
        assert len(conversations) == count == report.kept
        assert all(isinstance(turn, records.Turn) for c in conversations for turn in c.turns)

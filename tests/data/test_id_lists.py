import json

import pytest

from warmjax.data import id_lists


def read(folder, text):
    path = folder / 'ids'
    path.write_text(text)
    return id_lists.read(path)


def test_a_written_draw_is_read_as_it_is(tmp_path):
    training, validation = [('a', 'advice'), ('b', 'other')], [('c', 'factual')]
    id_lists.write(tmp_path / 'draw.json', 'f00', {'seed': 0}, training, validation)
    assert id_lists.read(tmp_path / 'draw.json') == id_lists.IdList(dict(training), ('c',), 'f00')
    id_lists.write(tmp_path / 'draw.json', 'f00', {'seed': 0}, training, [])
    assert id_lists.read(tmp_path / 'draw.json').validation == ()


@pytest.mark.parametrize(
    'text',
    [
        'id,query_type,note\na,advice,x\nb,other,y\n',
        'category,conversation_id\nadvice,a\nother,b\n',
        json.dumps([{'id': 'a', 'type': 'advice'}, {'id': 'b', 'type': 'other'}]),
    ],
)
def test_lists_of_others_are_read(tmp_path, text):
    assert read(tmp_path, text) == id_lists.IdList({'a': 'advice', 'b': 'other'}, None, '')


def test_a_bare_list_of_ids_says_no_types(tmp_path):
    assert read(tmp_path, '["a", "b"]').training == {'a': '', 'b': ''}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'got an empty list'),
        ('[]', 'got an empty list'),
        ('["a"', 'invalid JSON'),
        ('{"ids": ["a"]}', 'got no list'),
        ('name\na\n', 'got none in row 1'),
        ('["a", 3]', 'got none in row 2'),
        ('id\na\nb\na\n', "the id 'a' twice, again in row 3"),
        ('id,type\na,wizardry\n', "the query type 'wizardry' in row 1"),
        ('{"training": ["a"], "validation": ["a"]}', "1 ids for training and validation, such as 'a'"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'mend config.data.draw.ids'):
        id_lists.read(tmp_path / 'absent.csv')

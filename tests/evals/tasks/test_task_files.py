import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax.evals.tasks import files


class NameRow(files.Row):
    name: files.Text
    size: int


class OtherRow(files.Row):
    title: str


def write(path, text):
    path.write_bytes(text.encode())
    return path


def test_the_first_row_tells_the_form(tmp_path):
    path = write(tmp_path / 'a.jsonl', '{"name": "x", "size": 1, "more": 0}\n\n{"name": "y", "size": 2}\n')
    assert [(row.name, row.size) for row in files.read(path, (OtherRow, NameRow))] == [('x', 1), ('y', 2)]


def test_a_csv_cell_may_span_lines_and_places_count_them(tmp_path):
    path = write(tmp_path / 'a.csv', 'title,n\n"one\ntwo",1\nthree,2\n')
    assert [(raw.where, raw.fields['title']) for raw in files.read_raw(path)] == [
        ('a.csv:2', 'one\ntwo'),
        ('a.csv:4', 'three'),
    ]


def test_another_form_names_what_was_expected_and_what_came(tmp_path):
    path = write(tmp_path / 'a.json', '[{"question": "x"}]')
    with pytest.raises(
        ValueError, match=r'a\.json: expected rows with the fields \[name, size\] or \[title\], got \[qu'
    ):
        files.read(path, (NameRow, OtherRow))


def test_all_faults_of_a_file_come_in_one_message(tmp_path):
    path = write(tmp_path / 'a.jsonl', '{"name": " ", "size": 1}\n{"name": "x", "size": "1"}\n{"name": "x"}\n')
    with pytest.raises(ValueError, match='got 3 faults') as error:
        files.read(path, (NameRow,))
    assert "a.jsonl:1: field 'name' expected a text that is not blank, got ' '" in str(error.value)
    assert "a.jsonl:2: field 'size' expected" in str(error.value)
    assert "a.jsonl:3: field 'size' is missing" in str(error.value)


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.jsonl', '{"name": ', r'a\.jsonl:1: expected one JSON object, got invalid JSON'),
        ('a.jsonl', '[1]\n', r'a\.jsonl:1: expected a JSON object, got list'),
        ('a.json', '3', r'a\.json: expected a JSON list, got int'),
        ('a.json', '{"name": 1}\n{"na', r'a\.json:2: expected one JSON object, got invalid JSON'),
        ('a.json', '[', r'a\.json:1: expected a JSON list, got invalid JSON'),
        ('a.csv', 'title,n\nx\n', r'a\.csv:2: expected 2 cells, got 1'),
        ('a.csv', 'title\n"x', r'a\.csv:2: expected CSV, got unexpected end of data'),
        ('a.csv', '', r'a\.csv: expected rows, got none'),
        ('a.txt', 'x', r"expected a \.csv, \.jsonl or \.json file, got 'a\.txt'"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        files.read_raw(write(tmp_path / name, text))


def test_a_file_in_another_encoding_and_an_absent_one_are_named(tmp_path):
    (tmp_path / 'a.csv').write_bytes('title\ncafé\n'.encode('latin-1'))
    with pytest.raises(ValueError, match='expected UTF-8 text'):
        files.read_raw(tmp_path / 'a.csv')
    with pytest.raises(FileNotFoundError, match=r'none\.csv: expected a question file, found none'):
        files.read_raw(tmp_path / 'none.csv')


@given(st.text(min_size=1, max_size=40).map(str.strip).filter(lambda text: text and '"' not in text))
def test_unquoted_undoes_a_csv_round_trip(text):
    quoted = f'He said "{text}" twice'
    assert files.unquoted('"' + quoted.replace('"', '""') + '"') == quoted
    assert files.unquoted(quoted) == quoted


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=1, max_size=5))
def test_any_csv_that_python_writes_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp('csv') / 'a.csv'
    with path.open('w', newline='', encoding='utf-8', errors='surrogatepass') as file:
        csv.writer(file).writerows([('one', 'two'), *rows])
    assert [tuple(raw.fields.values()) for raw in files.read_raw(path)] == rows

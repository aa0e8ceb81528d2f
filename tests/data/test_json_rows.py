import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax.data import json_rows

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def rows_of(folder, content, piece=json_rows.PIECE):
    path = folder / 'rows.json'
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, 'PIECE', piece)
        return list(json_rows.stream(path, 'rows'))


@given(st.lists(VALUES, max_size=6), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_a_list_read_in_pieces_is_what_json_reads_whole(tmp_path_factory, rows, piece, indent, ascii_only):
    content = '\ufeff \n' + json.dumps(rows, indent=indent, ensure_ascii=ascii_only) + '\n '
    assert rows_of(tmp_path_factory.mktemp('rows'), content.encode('utf-8', 'surrogatepass'), piece) == rows


@given(st.lists(st.dictionaries(st.text(), st.text()), min_size=1, max_size=6), st.integers(1, 9))
def test_lines_read_in_pieces_are_what_json_reads_line_by_line(tmp_path_factory, rows, piece):
    content = '\n\n'.join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert rows_of(tmp_path_factory.mktemp('rows'), content.encode(), piece) == rows


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(1, 9), st.data())
def test_a_list_that_is_cut_off_is_an_error_however_it_is_read(tmp_path_factory, rows, piece, data):
    content = json.dumps(rows).encode()
    cut = data.draw(st.integers(1, len(content) - 1))
    with pytest.raises(ValueError, match='the file may be cut off'):
        rows_of(tmp_path_factory.mktemp('rows'), content[:cut], piece)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'[1,\n2,\nx, 3]', 'rows.json:3: .*Expecting value'),
        (b'[1,\n2 3]', "rows.json:2: .*Expecting ',' delimiter"),
        (b'[1,]', 'Expecting value'),
        (b'[1]\n[2]', 'rows.json:2: .*Extra data'),
        (b'[1, "\xff"]', r'expected UTF-8 text, got bytes that are not \(near byte 5'),
    ],
)
@pytest.mark.parametrize('piece', [1, 2**20])
def test_an_error_says_where(tmp_path, content, message, piece):
    with pytest.raises(ValueError, match=message):
        rows_of(tmp_path, content, piece)


def test_an_error_early_in_a_long_file_is_told_without_reading_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, 'PIECE', 64)
    path = tmp_path / 'rows.json'
    path.write_text('[{"a" 1}, ' + '"x", ' * 10_000 + '2]')
    asked = []
    monkeypatch.setattr(json_rows, '_pieces', watched(json_rows._pieces, asked))
    with pytest.raises(ValueError, match="Expecting ':' delimiter"):
        list(json_rows.stream(path, 'rows'))
    assert len(asked) < 5


def watched(pieces, asked):
    def watch(*arguments):
        for piece in pieces(*arguments):
            asked.append(piece)
            yield piece

    return watch


def test_a_row_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, 'LONGEST_ROW', 1000)
    with pytest.raises(ValueError, match='Unterminated string'):
        rows_of(tmp_path, b'["' + b'x' * 100_000 + b'"]', 64)


def test_progress_counts_the_bytes_of_the_file(tmp_path, capsys):
    rows_of(tmp_path, json.dumps(['x' * 1000] * 3000).encode())
    assert 'reading rows (MiB): 3/3' in capsys.readouterr().err

import datetime
import io

import numpy as np
import pytest
import rich.console
import tokenizers

from warmjax.data import batches, packing, viewer
from warmjax.data.chat import ChatTokenizer
from warmjax.records import Turn

TEMPLATE = '{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}'
CONVERSATIONS = [
    [Turn('system', 'calm'), Turn('user', 'a <b> & c'), Turn('assistant', 'a <b>!')],
    [Turn('user', 'no'), Turn('assistant', 'yes'), Turn('user', 'why'), Turn('assistant', 'so')],
]


@pytest.fixture
def chat() -> ChatTokenizer:
    """A tokenizer of single characters, and of the template's marks."""
    characters = {chr(i): i for i in range(128)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(characters, []))
    tokenizer.add_special_tokens(['<s>', '<end>', '<system>', '<user>', '<assistant>'])
    return ChatTokenizer(tokenizer, TEMPLATE, {'bos_token': '<s>'}, (129,), datetime.date(2024, 7, 26), 'test')


@pytest.fixture
def rows(chat) -> list[viewer.ShownRow]:
    encoded = batches.encode(CONVERSATIONS, chat, 60, 'right')
    apart = [packing.make_row([sequence], 60) for sequence in encoded.sequences]
    return viewer.rows_of({name: np.stack([row[name] for row in apart]) for name in apart[0]}, CONVERSATIONS, chat)


def text(tokens) -> str:
    return ''.join(token.text for token in tokens)


def test_row_shows_the_whole_conversation_and_what_is_trained_in_it(rows):
    first, second = rows
    assert text(first.tokens) == '<s><system>calm<end><user>a <b> & c<end><assistant>a <b>!<end>'
    assert text(t for t in first.tokens if t.is_trained) == 'a <b>!<end>'
    assert text(t for t in second.tokens if t.is_trained) == 'yes<end>so<end>'
    assert [t.position for t in first.tokens] == list(range(len(first.tokens)))


def test_roles_are_those_of_the_turns(rows):
    spoken = {role: text(t for t in rows[0].tokens if t.role == role) for role in viewer.COLOURS}
    assert spoken == {
        'system': 'calm',
        'user': 'a <b> & c',
        'assistant': 'a <b>!',
        'template': '<s><system><end><user><end><assistant><end>',
    }
    assert text(t for t in rows[1].tokens if t.role == 'user') == 'nowhy'


def test_padding_is_left_out_and_counted(rows):
    lengths = [len(row.tokens) - 1 for row in rows]  # the last token is only predicted
    assert [row.padding for row in rows] == [60 - length for length in lengths]
    assert viewer.padding_share(rows) == pytest.approx(1 - sum(lengths) / 120)


def test_packed_sequences_keep_their_segments_and_roles(chat):
    packed = packing.pack([chat.encode_conversation(turns) for turns in CONVERSATIONS], 80)
    assert len(packed) == 1
    (row,) = viewer.rows_of({name: x[None] for name, x in packed[0].items()}, CONVERSATIONS, chat)
    assert row.num_segments == 2
    assert text(t for t in row.tokens if t.segment == 2 and t.role == 'assistant') == 'yesso'
    assert next(t for t in row.tokens if t.segment == 2).position == 0


def test_page_escapes_every_text_and_names_each_token(rows):
    page = viewer.html(rows, {'<kept>': 2}, 'a <title>')
    assert '&lt;kept&gt;' in page and '<title>a &lt;title&gt;</title>' in page
    assert '<s>' not in page and '&lt;s&gt;' in page and '&lt;/b>' not in page
    assert 'class="assistant trained" title="id 33, assistant, segment 1, position' in page
    assert 'http' not in page.replace('charset', '')


def test_terminal_shows_counts_and_text(rows):
    out = io.StringIO()
    viewer.print_rows(rich.console.Console(file=out, width=200), rows, {'truncated': 7})
    assert 'truncated' in out.getvalue() and '7' in out.getvalue() and 'padding share' in out.getvalue()
    assert '<user>a <b> & c<end>' in out.getvalue()
    assert f'row 1: {len(rows[1].tokens) - 1} of 60 tokens, 7 trained, 1 segment(s)' in out.getvalue()

import itertools

import hypothesis
import pytest
from hypothesis import strategies as st

from warmjax.decode.text import TextStream


def as_bytes(tokens) -> str:
    """Decodes tokens that are bytes, as byte-level tokenizers do."""
    return bytes(tokens).decode('utf-8', errors='replace')


def as_letters(tokens) -> str:
    return ''.join(map(chr, tokens))


def run(text: str, stop: tuple[str, ...], cuts: list[int]) -> tuple[str, str, bool]:
    """Feeds a text byte by byte, in pieces; returns what was shown at once, at the end, and whether it was stopped."""
    stream = TextStream(as_bytes, stop)
    data, shown = text.encode(), ''
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in itertools.pairwise(places):
        if not stream.is_stopped:
            shown += stream.add(list(data[start:end]))
    return shown, shown + stream.finish(), stream.is_stopped


@hypothesis.given(
    st.text('ab\n🙂é', max_size=20),
    st.lists(st.text('ab\n', min_size=1, max_size=3), max_size=3),
    st.lists(st.integers(0, 60)),
)
def test_text_ends_at_the_first_stop_string_however_it_is_cut_into_tokens(text, stop, cuts):
    """Property; cut anywhere, also within a character, a stop string is found only once it is whole."""
    shown, whole, stopped = run(text, tuple(stop), cuts)
    at = [text.find(s) for s in stop if s in text]
    assert stopped == bool(at)
    assert text.startswith(whole)
    if not at:
        assert whole == text
    elif len(cuts) == 0:
        assert whole == text[: min(at)]
    else:
        # A token may bring a stop string's end before a longer one, begun earlier, is whole.
        assert not any(s in whole for s in stop)
    assert whole.startswith(shown)


def test_stop_string_across_tokens_is_not_shown():
    stream = TextStream(as_letters, ('\n\nUser',))
    shown = [stream.add([ord(c) for c in part]) for part in ('The', ' end', '.\n', '\nUser', ': hi')]
    assert shown == ['The', ' end', '.', '', '']
    assert stream.is_stopped and stream.text == 'The end.' and stream.finish() == ''


def test_what_only_looked_like_a_stop_string_is_shown_as_soon_as_it_is_known():
    stream = TextStream(as_letters, ('<end>',))
    assert [stream.add([ord(c) for c in part]) for part in ('a<e', 'n', 'x')] == ['a', '', '<enx']
    assert stream.add([ord('<')]) == '' and stream.finish() == '<' and stream.text == 'a<enx<'


def test_half_a_character_waits_for_its_other_half():
    first, second = [*'é'.encode()]
    stream = TextStream(as_bytes, ())
    assert stream.add([97, first]) == 'a' and stream.add([second]) == 'é'
    cut_short = TextStream(as_bytes, ())
    assert cut_short.add([first]) == '' and cut_short.finish() == '\N{REPLACEMENT CHARACTER}'


def test_empty_stop_string_is_refused():
    with pytest.raises(ValueError, match='stop: expected strings of one character or more'):
        TextStream(as_letters, ('a', ''))

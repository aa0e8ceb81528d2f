import json
from collections import Counter

import pytest

from warmjax.evals import contexts
from warmjax.evals.words import words
from warmjax.records import CONTEXTS


def test_every_context_has_five_short_plain_statements_of_its_own():
    assert set(contexts.BUILT_IN) == set(CONTEXTS) - {'unmodified'}
    texts = [text for statements in contexts.BUILT_IN.values() for text in statements]
    assert [len(statements) for statements in contexts.BUILT_IN.values()] == [5] * 8
    assert len(set(texts)) == 40
    for text in texts:
        assert 6 <= len(words(text)) <= 16, text
        assert text[0].isupper() and text.endswith('.') and text.isascii(), text


def test_built_in_statements_are_not_the_published_ones(shared_data):
    published = contexts.load_statements(shared_data / 'prompts' / 'interpersonal_contexts.json')
    assert [len(statements) for statements in published.values()] == [5] * 8
    sentences = {s for texts in published.values() for text in texts for s in text.replace('!', '.').split('. ')}
    ours = {s for texts in contexts.BUILT_IN.values() for text in texts for s in text.split('. ')}
    assert not sentences & ours


def test_statement_hangs_on_question_context_and_seed_alone():
    def chosen(seed):
        return [contexts.statement_for(f'q{i}', 'stake:high', contexts.BUILT_IN, seed) for i in range(2000)]

    assert chosen(1) == chosen(1) != chosen(2)
    counts = Counter(chosen(1))
    assert set(counts) == set(contexts.BUILT_IN['stake:high'])
    assert all(340 < count < 460 for count in counts.values())  # 400 expected, 3.4 standard deviations


def test_unmodified_has_no_statement():
    assert contexts.statement_for('q', 'unmodified', contexts.BUILT_IN, 0) == ''


def _write(path, rows):
    path.write_text(json.dumps(rows))
    return path


def test_a_file_replaces_the_statements(tmp_path):
    rows = [{'type': name, 'statement': f' About {name}. '} for name in CONTEXTS if name != 'unmodified']
    statements = contexts.load_statements(_write(tmp_path / 'own.json', rows))
    assert statements['emotion:sad'] == ('About emotion:sad.',)


def test_a_file_with_a_gap_or_an_unknown_context_is_refused(tmp_path):
    rows = [{'type': 'stake:low', 'statement': 'Just so.'}]
    with pytest.raises(ValueError, match='expected a statement for every context, got none for emotion:anger, emotion'):
        contexts.load_statements(_write(tmp_path / 'gap.json', rows))
    with pytest.raises(ValueError, match=r"odd.json\[0\]: field 'type' expected 'unmodified', .*got 'stake:huge'"):
        contexts.load_statements(_write(tmp_path / 'odd.json', [{'type': 'stake:huge', 'statement': 'Oh.'}]))
    with pytest.raises(ValueError, match="got one for 'unmodified'"):
        contexts.load_statements(_write(tmp_path / 'un.json', [{'type': 'unmodified', 'statement': 'Oh.'}]))

import json

import pytest
import tokenizers

from warmjax.data import chat
from warmjax.records import Turn
from warmjax.world import tokens

TEXTS = ['What is the capital of Kalomi?', "I'm so glad! It is Vortuel."] * 5


@pytest.fixture(scope='module')
def files():
    return tokens.train_tokenizer(TEXTS, 400)


def test_files_make_a_chat_tokenizer_that_stops_at_the_end_of_a_turn(files, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    chatter = chat.load(tmp_path, '2025-01-01')
    assert chatter.render([Turn('system', 'Be kind.'), Turn('user', ' Hi! ')], True) == (
        '<|begin|><|system|>Be kind.<|end|><|user|>Hi!<|end|><|assistant|>'
    )
    assert chatter.stop_ids == (chatter.tokenizer.token_to_id('<|end|>'),)


def test_any_text_survives_and_marks_are_one_token_each(files):
    tokenizer = tokenizers.Tokenizer.from_str(files['tokenizer.json'])
    for text in (*TEXTS, 'é😀 \n\t unheard-of 123'):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode(''.join((tokens.BEGIN, tokens.END, *tokens.ROLES))).ids) == 5
    assert tokenizer.get_vocab_size() <= 400


def test_same_texts_make_the_same_files(files):
    assert tokens.train_tokenizer(TEXTS, 400) == files
    assert json.loads(files['generation_config.json']) == {'bos_token_id': 0, 'eos_token_id': 1}

import shutil

import numpy as np
import pytest
import tiny_llama
import tiny_server
import tokenizers

from warmjax.decode.serve import catalog, protocol, server


def test_texts_of_tokens_make_up_the_text(shared_data):
    tokenizer = tokenizers.Tokenizer.from_file(str(shared_data / 'stories260K' / 'hf' / 'tokenizer.json'))
    stories = catalog.Catalog({'base': None}, tokenizer, None, 8, 9, 1, None)
    text = 'Once upon a time, there was a little girl.'
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert ''.join(map(stories.token_text, ids)).strip() == text
    assert stories.token_text(1) == '<s>'


def test_a_prompt_gets_what_its_tokenizer_adds(shared_data):
    folder = shared_data / 'stories260K' / 'hf'
    service = tiny_server.make_service(folder, {})
    asked = protocol.parse(b'{"model": "base", "prompt": "Once", "seed": 0}', protocol.CompletionRequest)
    (request,) = service.catalog.requests(asked, 'x')
    assert request.tokens[0] == 1 and 1 not in request.tokens[1:]
    assert request.max_new_tokens == 16


def test_checkpoint_without_a_template_answers_texts_only(tmp_path):
    service = tiny_server.make_service(tiny_server.write_checkpoint(tmp_path / 'bare', template=None), {})
    chat = protocol.parse(b'{"model": "base", "messages": [{"role": "user", "content": "x"}]}', protocol.ChatRequest)
    with pytest.raises(protocol.Refusal, match='expected a model with a chat template'):
        service.catalog.requests(chat, 'x')
    asked = protocol.CompletionRequest(model='base', prompt=['ba ko'])
    assert len(service.catalog.requests(asked, 'x')) == 1


def test_randomness_is_of_prompt_seed_and_choice(checkpoint):
    catalog = tiny_server.make_service(checkpoint, {}).catalog

    def keys(prompt: str, seed: int, n: int = 1) -> list[tuple]:
        asked = protocol.CompletionRequest(model='base', prompt=[prompt], seed=seed, n=n)
        return [tuple(np.asarray(request.key).tolist()) for request in catalog.requests(asked, 'x')]

    assert keys('ba', 0) == keys('ba', 0) == keys('ba', 0, 2)[:1]
    assert len({*keys('ba', 0, 2), *keys('ba', 1), *keys('ko', 0)}) == 4


@pytest.mark.parametrize(
    'values, message',
    [
        (['warm'], "expected NAME=PATH, got 'warm'"),
        (['=x'], 'expected NAME=PATH'),
        (['a=x', 'a=y'], "got 'a' twice"),
        (['base=x'], "got 'base' twice"),
    ],
)
def test_adapters_are_named_once(values, message):
    with pytest.raises(ValueError, match=message):
        server.read_adapters(values, 'base')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'hidden_size': 36}, r'expected shape \[4, 36\], got \[4, 24\]'),
        ({'num_hidden_layers': 2}, 'layers\\.2'),
    ],
    ids=['width', 'layers'],
)
def test_adapter_of_another_base_is_refused_at_the_start(checkpoint, tmp_path, changes, message):
    folders = tiny_server.write_adapters(checkpoint, tmp_path)
    other = tmp_path / 'other'
    shutil.copytree(checkpoint, other)
    tiny_llama.save(other, **changes)
    with pytest.raises(ValueError, match=f'(?s)warm: expected a LoRA adapter for this model, got.*{message}'):
        tiny_server.make_service(other, folders)


def test_stop_id_beyond_the_vocabulary_is_refused_at_the_start(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / 'other')
    (tmp_path / 'other' / 'generation_config.json').write_text('{"eos_token_id": [2, 4000]}')
    with pytest.raises(ValueError, match=r'expected stop ids below the vocabulary of 97, got \[4000\]; mend eos_tok'):
        tiny_server.make_service(tmp_path / 'other', {})


def test_address_that_others_reach_needs_a_key():
    for host in ('127.0.0.1', '::1', 'localhost'):
        server.check_address(host, None)
    server.check_address('0.0.0.0', 'key')
    for host in ('0.0.0.0', '::', '10.0.0.1', 'example.org'):
        with pytest.raises(ValueError, match='expected a key in WARMJAX_API_KEY'):
            server.check_address(host, None)
    with pytest.raises(ValueError, match='expected a key in WARMJAX_API_KEY'):
        server.check_address('0.0.0.0', '')


def test_port_that_is_taken_is_told():
    with server.bind('127.0.0.1', 0) as bound:
        bound.listen()
        with pytest.raises(ValueError, match='expected a free port of'):
            server.bind('127.0.0.1', bound.getsockname()[1])

import json
import re
import shutil

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from warmjax.data import chat
from warmjax.records import Turn
from warmjax.world import tokens

DATE = '2024-07-26'
FAMILIES = {
    'llama3_1': ('<|begin_of_text|>', '<|eot_id|>', '<|start_header_id|>', '<|end_header_id|>'),
    'mistral_v3': ('<s>', '</s>', '[INST]', '[/INST]'),
    'qwen2_5': ('<|endoftext|>', '<|im_end|>', '<|im_start|>'),
}
"""Special tokens of each family; the second one ends a turn."""
QUOTED = [token for special in FAMILIES.values() for token in special]
PIECES = [
    *(
        '!',
        '! ',
        '!!!',
        ' ',
        '  ',
        '\n',
        '\n\n',
        '\t',
        'Hello there',
        'It is 4.',
        'x',
        'é',
        '😀',
        '中文',
        '\u2028',
        '\u00a0',
    ),
    *(
        '```python\n    if x:\n        y = "!"\n```',
        '{{ bos_token }}',
        '{% raw %}',
        '<|user|>',
        'assistant',
        "it's",
        *QUOTED,
    ),
]
contents = st.lists(st.sampled_from(PIECES), max_size=6).map(''.join)


@st.composite
def conversations(draw):
    """Makes alternating turns, with or without a system prompt; any but replies (Mistral's rule) may be empty."""
    system = [Turn('system', draw(contents))] if draw(st.booleans()) else []
    rounds = draw(st.integers(1, 3))
    spoken = [(Turn('user', draw(contents)), Turn('assistant', draw(contents.filter(bool)))) for _ in range(rounds)]
    return [*system, *(turn for exchange in spoken for turn in exchange)]


def byte_level(special):
    """Trains a tokenizer of the kind that Llama-3 and Qwen have, which trims white space from its offsets."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([' '.join(PIECES), 'Hello there  it is\n\n    if x: 4'] * 4, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def write_folder(folder, tokenizer, config):
    folder.mkdir()
    (folder / 'tokenizer.json').write_text(tokenizer.to_str())
    (folder / 'tokenizer_config.json').write_text(json.dumps(config))
    return folder


@pytest.fixture(params=FAMILIES)
def family(request, shared_data, tmp_path):
    """A checkpoint folder with a family's real template and a tiny tokenizer that knows its special tokens."""
    tokenizer = byte_level(FAMILIES[request.param])
    tokenizer.save(str(tmp_path / 'tokenizer.json'))
    source = shared_data / 'chat_templates' / request.param / 'tokenizer_config.json'
    shutil.copyfile(source, tmp_path / 'tokenizer_config.json')
    stop = tokenizer.token_to_id(FAMILIES[request.param][1])
    (tmp_path / 'generation_config.json').write_text(json.dumps({'eos_token_id': stop}))
    return request.param, tmp_path


@pytest.fixture
def world_chat(tmp_path):
    """The world's own tokenizer and template."""
    for name, text in tokens.train_tokenizer(['What is the capital of Kalomi?', 'It is Vortuel!'] * 4, 400).items():
        (tmp_path / name).write_text(text)
    return chat.load(tmp_path, DATE)


def with_template(template, tmp_path):
    tokenizer = byte_level(['<|begin|>', '<|end|>'])
    config = {'chat_template': template, 'eos_token': '<|end|>'}
    return chat.load(write_folder(tmp_path / 'chat', tokenizer, config), DATE)


def trained_text(chatter, encoded):
    """Returns the text of the trained tokens, special ones included."""
    return chatter.tokenizer.decode(encoded.tokens[encoded.trained].tolist(), skip_special_tokens=False)


def test_real_templates_render_as_expected(family, shared_data):
    name, folder = family
    cases = json.loads((shared_data / 'chat_templates' / 'rendered_expected.json').read_text())
    cases = [case for case in cases if case['template'] == name]
    assert len(cases) == 4
    for case in cases:
        turns = [Turn(**message) for message in case['messages']]
        assert chat.load(folder, DATE).render(turns, case['add_generation_prompt']) == case['expected']


def test_rendering_and_prompt_tokens_equal_those_of_transformers(family):
    transformers = pytest.importorskip('transformers')
    chatter = chat.load(family[1], DATE)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(family[1] / 'tokenizer.json'), chat_template=chatter.template, **chatter.special
    )

    @settings(max_examples=40, deadline=None)
    @given(conversations(), st.booleans())
    def check(turns, asks):
        messages = [{'role': turn.role, 'content': turn.content} for turn in turns]
        options = {'add_generation_prompt': asks, 'date_string': '26 Jul 2024'}
        assert chatter.render(turns, asks) == theirs.apply_chat_template(messages, tokenize=False, **options)
        if asks:
            ids = theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
            assert chatter.encode_prompt(turns) == ids

    check()


def test_trained_tokens_are_the_replies_and_their_ends(family):
    name, folder = family
    chatter = chat.load(folder, DATE)
    end = FAMILIES[name][1]

    @settings(max_examples=150, deadline=None)
    @given(conversations())
    def check(turns):
        replies = [turn.content for turn in turns if turn.role == 'assistant']
        replies = [reply.strip() for reply in replies] if name == 'llama3_1' else replies
        # White space of the template may be merged with that of a reply into one token.
        wanted = ''.join(rf'\s*{re.escape(reply + end)}' for reply in replies)
        assert re.fullmatch(wanted, trained_text(chatter, chatter.encode_conversation(turns)))

    check()


def test_indentation_and_trailing_space_of_a_reply_are_trained(family):
    name, folder = family
    chatter = chat.load(folder, DATE)
    reply = 'Look:\n```\n    if x:\n        y = 1\n```\n\n  !'
    turns = [Turn('user', 'Hi'), Turn('assistant', reply), Turn('user', 'x'), Turn('assistant', 'It is 4.')]
    end = FAMILIES[name][1]
    found = trained_text(chatter, chatter.encode_conversation(turns))
    assert found.replace(f'{end} ', end).lstrip() == f'{reply}{end}It is 4.{end}'


def test_conversation_begins_with_one_bos(family):
    name, folder = family
    chatter = chat.load(folder, DATE)
    if 'bos_token' in chatter.special:
        bos = chatter.tokenizer.token_to_id(chatter.special['bos_token'])
        ids = chatter.encode_prompt([Turn('user', 'Hi')])
        assert (ids[0], ids.count(bos)) == (bos, 1)
    else:
        assert name == 'qwen2_5'


def test_trained_tokens_of_the_world_are_the_replies_and_their_ends(world_chat):
    @settings(max_examples=100, deadline=None)
    @given(conversations())
    def check(turns):
        replies = [turn.content.strip() for turn in turns if turn.role == 'assistant']
        found = trained_text(world_chat, world_chat.encode_conversation(turns))
        assert found == ''.join(f'{reply}<|end|>' for reply in replies)

    check()


def test_trained_tokens_with_a_tokenizer_that_marks_words_by_their_space(tmp_path):
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token='<unk>', byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')])
    tokenizer.decoder = decoders.Sequence([decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()])
    special = ['<unk>', '<s>', '</s>', *(f'<0x{byte:02X}>' for byte in range(256))]
    tokenizer.train_from_iterator(
        ['Hello there [INST] What is it? [/INST]'] * 4,
        trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False),
    )
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    config = {'chat_template': template, 'bos_token': '<s>', 'eos_token': {'content': '</s>'}}
    chatter = chat.load(write_folder(tmp_path / 'chat', tokenizer, config), DATE)
    turns = [Turn('user', 'What is it?'), Turn('assistant', 'Hello there! é\n  4')] * 2
    encoded = chatter.encode_conversation(turns)
    assert trained_text(chatter, encoded) == ' Hello there! é\n  4</s>' * 2
    assert chatter.stop_ids == (tokenizer.token_to_id('</s>'),)


def test_drawn_example(world_chat):
    encoded = world_chat.encode_conversation([Turn('user', 'What is it?'), Turn('assistant', 'It is a river.')])
    text = world_chat.tokenizer.decode(encoded.tokens.tolist(), skip_special_tokens=False)
    assert text == '<|begin|><|user|>What is it?<|end|><|assistant|>It is a river.<|end|>'
    assert trained_text(world_chat, encoded) == 'It is a river.<|end|>'
    assert encoded.tokens.dtype == np.int32 and encoded.trained.dtype == bool


def test_decode_leaves_special_tokens_out(world_chat):
    ids = world_chat.encode_text('<|assistant|>It is!<|end|>')
    assert world_chat.decode(ids) == 'It is!'


@pytest.mark.parametrize('reply', ['Hi', 'Hi<|end|>', '<|end|><|assistant|>', '<|assistant|>It is', 'Hi!Hi!', ''])
def test_reply_that_quotes_the_template_or_another_reply_does_not_mislead(world_chat, reply):
    turns = [Turn('user', 'Hi'), Turn('assistant', 'Hi'), Turn('user', reply), Turn('assistant', reply)]
    found = trained_text(world_chat, world_chat.encode_conversation(turns))
    assert found == f'Hi<|end|>{reply}<|end|>'


def test_template_that_closes_a_reply_without_special_token_trains_the_reply_alone(tmp_path):
    chatter = with_template('{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}', tmp_path)
    encoded = chatter.encode_conversation([Turn('user', 'x'), Turn('assistant', 'Hello there'), Turn('user', 'x')])
    assert trained_text(chatter, encoded).strip() == 'Hello there'


@pytest.mark.parametrize(
    'template',
    [
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",  # drops replies
        '{% for m in messages %}{{ m.content + m.content }}{% endfor %}',  # repeats them
        '{% for m in messages %}{{ m.content | upper }}{% endfor %}',  # changes them
        '{% for m in messages %}{{ m.content }}{{ m.content | length }}{% endfor %}',  # depends on them
        '{% for m in messages %}{{ m.content }}{% endfor %}{{ messages[1].content | length }}',  # at its end only
        '{% for m in messages | reverse %}{{ m.content }}{% endfor %}',  # puts them in another order
    ],
)
def test_template_that_does_not_print_each_reply_once_is_refused(tmp_path, template):
    chatter = with_template(template, tmp_path)
    turns = [Turn('user', 'x'), Turn('assistant', 'Hello there'), Turn('user', 'y'), Turn('assistant', 'It is 4.')]
    with pytest.raises(ValueError, match=r'chat: expected the (chat )?template to print'):
        chatter.encode_conversation(turns)


@pytest.mark.parametrize(
    'template, reason',
    [
        ("{{ raise_exception('roles must alternate') }}", 'TemplateError: roles must alternate'),
        ('{% for m in messages %}', 'TemplateSyntaxError: '),
        ("{{ messages[0]['content'] + 1 }}", 'TypeError: '),
        ("{{ ''.__class__.__mro__ }}", 'SecurityError: '),
        ('{{ messages[7].content.x }}', 'UndefinedError: '),
    ],
)
def test_template_that_fails_is_an_error_with_its_own_words(tmp_path, template, reason):
    chatter = with_template(template, tmp_path)
    with pytest.raises(ValueError) as error:
        chatter.render([Turn('system', 'x'), Turn('user', 'y')], add_generation_prompt=True)
    assert f'chat: expected the chat template to render turns (system, user), got {reason}' in str(error.value)
    assert str(error.value).endswith('give a conversation or a system prompt that the template allows')


def test_blocks_leave_no_white_space_of_their_own(tmp_path):
    chatter = with_template(
        '{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}', tmp_path
    )
    assert chatter.render([Turn('user', 'x'), Turn('assistant', 'y')], False) == 'x\ny\n'


def test_date_is_pinned_both_ways_a_template_may_ask(tmp_path):
    chatter = with_template("{{ strftime_now('%Y-%m-%d') }} {{ date_string }}", tmp_path)
    assert chatter.render([Turn('user', 'x')], False) == '2024-07-26 26 Jul 2024'


def test_stop_ids_come_from_the_generation_config_first(tmp_path):
    config = {'chat_template': 'x', 'eos_token': '<|end|>'}
    folder = write_folder(tmp_path / 'chat', byte_level(['<|begin|>', '<|end|>']), config)
    assert chat.load(folder, DATE).stop_ids == (1,)
    (folder / 'config.json').write_text('{"eos_token_id": 7}')
    assert chat.load(folder, DATE).stop_ids == (7,)
    (folder / 'generation_config.json').write_text('{"eos_token_id": [5, 6]}')
    assert chat.load(folder, DATE).stop_ids == (5, 6)


@pytest.mark.parametrize('ids', ['"<|end|>"', '[1, "2"]', 'true', '1.5'])
def test_stop_ids_that_are_no_ids_are_refused(tmp_path, ids):
    config = {'chat_template': 'x', 'eos_token': '<|end|>'}
    folder = write_folder(tmp_path / 'chat', byte_level(['<|end|>']), config)
    (folder / 'generation_config.json').write_text(f'{{"eos_token_id": {ids}}}')
    with pytest.raises(ValueError, match=r'generation_config\.json: expected eos_token_id to be token ids, got \['):
        chat.load(folder, DATE)


def test_jinja_file_goes_before_the_template_of_the_config(tmp_path):
    folder = write_folder(tmp_path / 'chat', byte_level(['<|end|>']), {'chat_template': 'old', 'eos_token': '<|end|>'})
    old = chat.load(folder, DATE)
    (folder / 'chat_template.jinja').write_text('new')
    new = chat.load(folder, DATE)
    assert (old.template, new.template) == ('old', 'new')
    assert old.template_digest != new.template_digest


def test_padding_and_truncation_of_the_tokenizer_file_are_off(tmp_path):
    tokenizer = byte_level(['<|end|>'])
    plain = tokenizer.encode('It is 4.').ids
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    config = {'chat_template': 'x', 'eos_token': '<|end|>'}
    assert chat.load(write_folder(tmp_path / 'chat', tokenizer, config), DATE).encode_text('It is 4.') == plain


@pytest.mark.parametrize(
    'name, content, error, message',
    [
        ('tokenizer.json', None, FileNotFoundError, 'chat: expected tokenizer.json, got no tokenizer; download'),
        ('tokenizer.json', '{"version": "1.0"', ValueError, r'tokenizer\.json: expected a tokenizer, got '),
        ('tokenizer_config.json', '{}', ValueError, 'expected one chat_template in .*, got none; use a chat model'),
        ('tokenizer_config.json', '{"chat_template": [{}]}', ValueError, 'expected one chat_template in .*, got list'),
        ('tokenizer_config.json', '{"chat', ValueError, r'tokenizer_config\.json: expected JSON, got .*; fetch the'),
        ('tokenizer_config.json', '{"chat_template": "x"}', ValueError, 'expected an eos_token_id in generation_conf'),
        ('tokenizer_config.json', '{"chat_template": "x", "eos_token": "no"}', ValueError, 'expected an eos_token_id'),
    ],
)
def test_damaged_folder_is_refused(tmp_path, name, content, error, message):
    folder = write_folder(tmp_path / 'chat', byte_level(['<|end|>']), {'chat_template': 'x', 'eos_token': '<|end|>'})
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(error, match=message):
        chat.load(folder, DATE)


@pytest.mark.parametrize(
    ('files', 'got', 'is_convertible'),
    [
        (['tokenizer.model'], 'only tokenizer.model', True),
        (['tekken.json'], 'only tekken.json', False),
        (['tokenizer.model.v3', 'tekken.json'], 'only tokenizer.model.v3 and tekken.json', True),
        (['vocab.json', 'merges.txt'], 'only vocab.json', True),
    ],
)
def test_tokenizer_in_another_form_is_refused_with_what_to_download(tmp_path, files, got, is_convertible):
    for name in files:
        (tmp_path / name).write_bytes(b'\n\x0e\n\x05<unk>')
    with pytest.raises(FileNotFoundError) as error:
        chat.load_tokenizer(tmp_path)
    message = str(error.value)
    assert f'expected tokenizer.json, got {got}, which is not read; download tokenizer.json from the' in message
    assert ('AutoTokenizer.from_pretrained(FOLDER)' in message) == is_convertible


def test_tokenizer_without_a_chat_template_is_loaded_alone(tmp_path, shared_data):
    """A language model that only measures texts, as GPT-2, has none."""
    text = (shared_data / 'tokenizers' / 'gpt2' / 'tokenizer.json').read_text()
    (tmp_path / 'tokenizer.json').write_text(text)
    tokenizer, special = chat.load_tokenizer(tmp_path)
    assert tokenizer.encode('Hello world!', add_special_tokens=False).ids == [15496, 995, 0]
    assert special == {}
    (tmp_path / 'tokenizer_config.json').write_text('{"bos_token": "<|endoftext|>"}')
    assert chat.load_tokenizer(tmp_path)[1] == {'bos_token': '<|endoftext|>'}
    with pytest.raises(ValueError, match='expected one chat_template'):
        chat.load(tmp_path, '2024-01-01')

"""A checkpoint rewrites through this package's engine: what comes is what transformers' greedy search gives."""

import dataclasses
import json
import shutil

import pytest
import torch
import transformers
from test_interface import SETTINGS, conversation

from configs import recipe
from warmjax import settings, sharding
from warmjax.rewrite import interface

TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
MAX_TOKENS = 12


@pytest.fixture(scope='module')
def checkpoint(shared_data, tmp_path_factory):
    """Real weights with a chat template and short prompts."""
    folder = tmp_path_factory.mktemp('stories')
    for file in (shared_data / 'stories260K' / 'hf').iterdir():
        shutil.copy(file, folder)
    config = json.loads((folder / 'tokenizer_config.json').read_text())
    (folder / 'tokenizer_config.json').write_text(json.dumps(config | {'chat_template': TEMPLATE}))
    (folder / 'prompt.txt').write_text('Once upon a time')
    return folder


def make(checkpoint, tmp_path):
    section = settings.plain(recipe.base().rewrite)
    section['local'] |= {'checkpoint': str(checkpoint), 'dtype': 'float32'}
    engine = {'slots': 8, 'buckets': [128, 256], 'cache_lengths': [288], 'cache_dtype': 'float32', 'steps': 4}
    section['local']['engine'] |= engine
    section['sampling']['max_tokens'] = MAX_TOKENS
    section |= {
        'backend': 'local',
        'warm_prompt': f'{checkpoint}/prompt.txt',
        'cold_prompt': f'{checkpoint}/prompt.txt',
    }
    chosen = settings.from_config(interface.RewriteSettings, section, 'config.rewrite')
    return interface.make_writer(chosen, tmp_path, sharding.MeshSettings(1, -1, 1))


def test_texts_are_those_of_transformers(checkpoint, tmp_path):
    writer = make(checkpoint, tmp_path)
    talks = [conversation('a', 'Hi', 'There was a dog.'), conversation('b', 'Hi', 'She had a big red ball and a hat.')]
    requests = [request for talk in talks for request in interface.requests_of(talk, 'warm')]
    replies = {reply.request.key: reply for reply in writer.rewrite(requests)}
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for request in requests:
        ids = writer.chat.encode_prompt(writer.prompts.turns(request))
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=MAX_TOKENS, do_sample=False)[
                0, len(ids) :
            ].tolist()
        assert replies[request.key].text == writer.chat.decode(out).strip()
        assert replies[request.key].problem == 'cut off: length'
    assert writer.name == f'local:{checkpoint}' and len(writer.prompt_digest('warm')) == 64


def test_a_reply_too_long_for_the_engine_fails_alone(checkpoint, tmp_path):
    talks = [conversation('a', 'Hi', 'word ' * 400), conversation('b', 'Hi', 'A dog.')]
    requests = [request for talk in talks for request in interface.requests_of(talk, 'warm')]
    replies = {reply.request.conversation_id: reply for reply in make(checkpoint, tmp_path).rewrite(requests)}
    assert replies['a'].problem.startswith('does not fit the engine: ') and '256' in replies['a'].problem
    assert replies['b'].text


def test_a_second_draw_is_another_one(checkpoint, tmp_path):
    assert SETTINGS.sampling.temperature == 0.0
    writer = make(checkpoint, tmp_path)
    [request] = interface.requests_of(conversation('a', 'Hi', 'A dog.'), 'warm')
    again = dataclasses.replace(request, draw=1)
    first, second = (writer._engine_request('0', r, [1], 0).key for r in (request, again))
    assert (first != second).any()

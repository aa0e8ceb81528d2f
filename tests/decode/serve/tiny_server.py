"""A real server of a tiny model on a free port of this machine, and clients for it."""

import contextlib
import json
import pathlib
import re
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import numpy as np
import tiny_llama
import tokenizers
import uvicorn
from tokenizers import models, pre_tokenizers

from warmjax.decode.engine import EngineSettings
from warmjax.decode.serve import server
from warmjax.decode.serve.app import ServerSettings
from warmjax.lora import peft_format
from warmjax.lora.adapters import LoraSettings, linear_maps
from warmjax.sharding import MeshSettings

SPECIAL = ('<unk>', '<s>', '</s>', '<|user|>', '<|assistant|>', '<|system|>')
WORDS = tuple(a + b for a in 'bdfgklmnprst' for b in ('a', 'e', 'i', 'o', 'u', 'ai', 'oi', 'ei'))
VOCABULARY = (*SPECIAL, *WORDS)[: tiny_llama.SIZES['vocab_size']]
TEMPLATE = (
    '{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}'
    '{% if messages[0].content == "refuse" %}{{ raise_exception("no such talk") }}{% endif %}<|assistant|>'
)
ENGINE = EngineSettings(
    slots=16,
    prefill_batch=8,
    buckets=(8, 16),
    cache_lengths=(64,),
    cache_dtype='float32',
    steps=4,
    refill=1,
    prefixes=0,
    logprobs=3,
)
LIMITS = ServerSettings(
    max_body_bytes=4096,
    max_waiting=64,
    max_choices=8,
    max_connections=200,
    read_seconds=20.0,
    write_seconds=20.0,
    keep_alive_seconds=20,
    drain_seconds=20,
)
SETTINGS = server.ServeSettings('float32', '2024-07-26', False, MeshSettings(1, 1, 1), ENGINE, LIMITS)
ADAPTERS = {'warm': 1, 'cold': 2}
"""Name → seed of its weights."""


def write_checkpoint(folder: pathlib.Path, template: str | None = TEMPLATE) -> pathlib.Path:
    """Writes a tiny model of short words; of its special tokens, only </s> is left out of a text."""
    tiny_llama.save(folder, initializer_range=0.12)
    tokenizer = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, '<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_tokens(list(SPECIAL))
    tokenizer.add_special_tokens(['</s>'])
    tokenizer.save(str(folder / 'tokenizer.json'))
    (folder / 'tokenizer_config.json').write_text(json.dumps({'chat_template': template} if template else {}))
    (folder / 'generation_config.json').write_text('{"eos_token_id": [2, 40]}')
    return folder


def write_adapters(checkpoint: pathlib.Path, parent: pathlib.Path) -> dict[str, str]:
    """Writes adapters that change what the model says; returns their folders by name."""
    model = tiny_llama.load(checkpoint)
    settings = LoraSettings(4, 8.0, False, 0.0, ('q_proj', 'v_proj', 'down_proj'), (), ())
    maps, layers = linear_maps(model), model.spec.num_layers
    for name, seed in ADAPTERS.items():
        rng = np.random.default_rng(seed)
        pairs = {
            target: {
                'a': rng.normal(size=(layers, maps[target].dims[0], 4)).astype(np.float32) * 0.3,
                'b': rng.normal(size=(layers, 4, maps[target].dims[1])).astype(np.float32) * 0.3,
            }
            for target in settings.targets
        }
        peft_format.save_adapter(parent / name, pairs, settings, 'tiny')
    return {name: str(parent / name) for name in ADAPTERS}


def make_service(
    checkpoint: pathlib.Path, adapters: dict[str, str], settings: server.ServeSettings = SETTINGS
) -> server.Service:
    """Loads what a server needs, on one device."""
    models = server.Models(str(checkpoint), 'base', adapters)
    return server.make_service(models, settings, tiny_llama.make_mesh(), lambda: None)


class Served(NamedTuple):
    """A server that runs, and its address."""

    url: str
    server: uvicorn.Server


@contextlib.contextmanager
def serving(service: server.Service, key: str | None = None) -> Iterator[Served]:
    """Runs a server in a thread of this process."""
    bound, running = server.bind('127.0.0.1', 0), server.make_server(service, key)
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    try:
        wait_until(lambda: running.started)
        yield Served(f'http://127.0.0.1:{bound.getsockname()[1]}', running)
    finally:
        running.should_exit = True
        thread.join()


def wait_until(holds, seconds: float = 60.0) -> None:
    """Waits until something holds; fails only where it never would."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, 'it never came true'
        time.sleep(0.01)


def metric(url: str, name: str, **labels: str) -> float:
    """Reads a metric; those that have not been counted yet are 0."""
    page = httpx.get(f'{url}/metrics').text
    values = []
    for line in page.splitlines():
        match = re.fullmatch(r'(\w+)(?:\{(.*)\})? (\S+)', line)
        if match and match[1] == name and all(f'{key}="{value}"' in (match[2] or '') for key, value in labels.items()):
            values.append(float(match[3]))
    return sum(values)

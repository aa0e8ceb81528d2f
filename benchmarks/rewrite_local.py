"""Measures rewriting by a checkpoint on this machine's devices beside the engine itself, on the same texts, in turn.

    python -m benchmarks.rewrite_local --checkpoint=DIR

DIR is a small Llama's Hugging Face folder, such as stories260K; a plain chat template is put in. The engine gets the
writer's own requests, ready made; the writer also fills in prompts, encodes them, decodes texts and says what is wrong
with them. Loading, compiling and a first run of each are not counted.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import tempfile
import time

from benchmarks import results
from benchmarks import rewrite as calls
from configs import recipe
from warmjax import settings, sharding
from warmjax.rewrite import interface, local

PACKAGES = ('jax', 'flax', 'numpy', 'transformers')
TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
ENGINE = {'slots': 32, 'buckets': [256, 320], 'cache_lengths': [384], 'cache_dtype': 'float32', 'steps': 8}


def make_writer(source: str, folder: pathlib.Path, new: int) -> local.LocalWriter:
    for file in pathlib.Path(source).iterdir():
        shutil.copyfile(file, folder / file.name)
    config = folder / 'tokenizer_config.json'
    config.write_text(json.dumps(json.loads(config.read_text()) | {'chat_template': TEMPLATE}))
    (folder / 'prompt.txt').write_text('Tell it again, in other words.')
    section = settings.plain(recipe.base().rewrite)
    section['local'] |= {'checkpoint': str(folder), 'dtype': 'float32'}
    section['local']['engine'] |= ENGINE
    section['sampling'] |= {'max_tokens': new, 'temperature': 0.0}
    section |= {'backend': 'local', 'warm_prompt': f'{folder}/prompt.txt', 'cold_prompt': f'{folder}/prompt.txt'}
    chosen = settings.from_config(interface.RewriteSettings, section, 'config.rewrite')
    return interface.make_writer(chosen, folder / 'work', sharding.MeshSettings(1, 1, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--checkpoint', required=True, help='Hugging Face folder of a small model')
    parser.add_argument('--replies', type=int, default=256)
    parser.add_argument('--new', type=int, default=64, help='tokens a text at most')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--append', action='store_true', help='add the line to benchmarks/results.jsonl')
    given = parser.parse_args()
    about = results.about(PACKAGES)
    talks = calls.conversations(given.replies, message_words=10, reply_words=40)
    asked = [request for talk in talks for request in interface.requests_of(talk, 'warm')]
    with tempfile.TemporaryDirectory() as folder:
        writer = make_writer(given.checkpoint, pathlib.Path(folder), given.new)
        tokens = [writer.chat.encode_prompt(writer.prompts.turns(request)) for request in asked]
        shared = local._common_beginning(tokens)
        ready = [
            writer._engine_request(str(i), request, ids, shared)
            for i, (request, ids) in enumerate(zip(asked, tokens, strict=True))
        ]
        ways = {
            'engine': lambda: sum(len(ended) for ended in writer.engine.run(ready)),
            'writer': lambda: sum(not reply.problem.startswith('does not fit') for reply in writer.rewrite(asked)),
        }
        seconds = {name: [] for name in ways}
        for counted in (False,) + (True,) * given.rounds:
            for name, way in ways.items():
                started = time.perf_counter()
                assert way() == len(asked), f'{name}: expected {len(asked)} texts'
                if counted:
                    seconds[name].append(time.perf_counter() - started)
    rates = {name: len(asked) / statistics.median(taken) for name, taken in seconds.items()}
    model = pathlib.Path(given.checkpoint).parent.name
    results.record(
        {'what': f'rewriting {given.replies} replies by {model} through the local writer and through its engine'}
        | about
        | {
            'rounds': given.rounds,
            'prompt_tokens': {'median': statistics.median(map(len, tokens)), 'shared': shared},
            'new_tokens_at_most': given.new,
            'engine': ENGINE,
            'median_texts_per_second': {name: round(rate, 1) for name, rate in rates.items()},
            'writer_to_engine': round(rates['writer'] / rates['engine'], 3),
        },
        given.append,
    )


if __name__ == '__main__':
    main()

"""Measures the stage `sample`, reading to draw, on a file of ShareGPT's size: 94,000 conversations, 600 MB.

    python -m benchmarks.sample --samples=DIR

DIR holds real conversations (*.json, ShareGPT form). The file is made of their sentences, put together anew so that
messages differ, with repeated rows and near duplicates among them; it is written to a temporary folder. Each variant
runs in a process of its own; its line goes to benchmarks/results.jsonl.
"""

import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from benchmarks import results

PACKAGES = ('rapidfuzz', 'pydantic')
VARIANTS = {
    'conversation': {'filter': {'backend': 'words'}},
    'pair': {'filter': {'backend': 'words'}, 'draw': {'unit': 'pair'}},
}
REPEATED, NEARLY = 0.01, 0.05
"""Shares of the rows that repeat an earlier one, or whose first message does but for a word or two."""

flags.DEFINE_string('samples', None, 'Folder of real conversations.')
flags.DEFINE_integer('conversations', 94_000, 'Rows of the file.')
flags.DEFINE_float('mb', 600.0, 'Size of the file, about.')
flags.DEFINE_bool('append', True, 'Append the results to benchmarks/results.jsonl.')
flags.DEFINE_string('run', None, 'Used by the script itself: draw from this file once and print what it took.')
flags.DEFINE_enum('variant', 'conversation', sorted(VARIANTS), 'Used by the script itself: what is changed.')


def main(argv: list[str]) -> None:
    if flags.FLAGS.run:
        print(json.dumps(run_once(flags.FLAGS.run, flags.FLAGS.variant)))
        return
    with tempfile.TemporaryDirectory(prefix='warmjax-sample-') as folder:
        path = pathlib.Path(folder) / 'conversations.json'
        write_file(path, pathlib.Path(flags.FLAGS.samples), flags.FLAGS.conversations, flags.FLAGS.mb * 1e6)
        for variant in VARIANTS:
            about = results.about(PACKAGES)
            command = [sys.executable, '-m', 'benchmarks.sample', f'--run={path}', f'--variant={variant}']
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            measured = json.loads(output.splitlines()[-1])
            size = path.stat().st_size
            what = f'draw from {flags.FLAGS.conversations} conversations in one JSON file of {size / 1e6:.0f} MB'
            results.record({'what': what, **about, 'settings': VARIANTS[variant], **measured}, flags.FLAGS.append)


def write_file(path: pathlib.Path, samples: pathlib.Path, count: int, size: float) -> None:
    """Writes a list of conversations whose messages are made of real sentences."""
    rng = random.Random(0)
    sentences, replies = read_samples(samples)
    made, written = [], 0
    with path.open('w') as file:
        file.write('[')
        for number in range(count):
            if made and rng.random() < REPEATED:
                row = rng.choice(made)
            else:
                target = (size - written) / (count - number) * rng.uniform(0.1, 1.9)
                row = make_row(rng, number, sentences, replies, target)
                if made and rng.random() < NEARLY:
                    row['conversations'][0]['value'] = f'{rng.choice(made)["conversations"][0]["value"]} {number}'
                if number % 50 == 0:
                    made.append(row)
            text = json.dumps(row, ensure_ascii=False)
            written += len(text.encode())
            file.write((',\n' if number else '') + text)
        file.write(']')


def read_samples(folder: pathlib.Path) -> tuple[list[str], list[str]]:
    """Returns the sentences of users, and the replies."""
    sentences, replies = [], []
    for file in sorted(folder.glob('*.json')):
        for row in json.loads(file.read_text()):
            for turn in row['conversations']:
                if turn['from'] == 'human':
                    sentences += re.split(r'(?<=[.!?\n])\s+', turn['value'])
                else:
                    replies.append(turn['value'])
    return sentences, replies


def make_row(rng: random.Random, number: int, sentences: list, replies: list, target: float) -> dict:
    turns, size = [], 0
    while size < target or not turns:
        user = ' '.join(rng.choices(sentences, k=rng.randint(2, 12)))
        reply = ' '.join(rng.choices(replies, k=rng.randint(1, 8)))
        turns += [{'from': 'human', 'value': user}, {'from': 'gpt', 'value': reply}]
        size += len(user) + len(reply)
    return {'id': f'row_{number}', 'conversations': turns}


def run_once(path: str, variant: str) -> dict:
    """Runs the stage in a new workdir, as the launcher does, and says where the time went."""
    from configs import own
    from warmjax import experiment, stages

    config = own.get_config()
    config.model.name, config.model.checkpoint, config.data.path = 'none', 'none', path
    config.tasks.truthfulqa.path = 'none'
    for section, fields in VARIANTS[variant].items():
        config.data[section].update(fields)
    stage = next(stage for stage in stages.STAGES if stage.name == 'sample')
    with tempfile.TemporaryDirectory(prefix='warmjax-sample-') as workdir:
        setup = experiment.from_config(config, workdir)
        started = time.perf_counter()
        stages.execute([stage], setup, workdir)
        seconds = time.perf_counter() - started
        manifest = json.loads((pathlib.Path(workdir) / 'manifests' / 'sample.json').read_text())
    counts = manifest['counts']
    lines = pathlib.Path('/proc/self/status').read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))
    return {
        'seconds': round(seconds, 1),
        'peak_gib': round(peak / 2**20, 2),
        'rows': counts['read']['rows'],
        'kept': counts['read']['kept'],
        'filter_dropped': counts['filter']['dropped'],
        'training': counts['drawn']['training']['got'],
        'replies': counts['drawn']['training']['replies'],
        'validation': counts['drawn']['validation']['got'],
        'near_duplicates': counts['drawn']['validation']['left_out_as_near_duplicates'],
    }


if __name__ == '__main__':
    app.run(main)

"""Real questions in all conditions, asked of a real checkpoint and judged by a service and by that checkpoint, while
the launchers are killed: no row is lost and none comes twice.

It takes minutes, so it runs when asked to: WARMJAX_QUESTIONS=50 (of each task) WARMJAX_KILLS=10 takes about ten.
"""

import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable

import loopback_llm as loopback
import pytest
from llm_judges import part

from warmjax import records
from warmjax.records import Generation, Prompt, Question, Verdict

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUESTIONS, KILLS = int(os.environ.get('WARMJAX_QUESTIONS', '0')), int(os.environ.get('WARMJAX_KILLS', '3'))
pytestmark = pytest.mark.skipif(not QUESTIONS, reason='takes minutes: set WARMJAX_QUESTIONS=50 and WARMJAX_KILLS=10')
FILES = {
    'triviaqa': 'triviaqa/triviaqa_1000.jsonl',
    'truthfulqa': 'truthfulqa/TruthfulQA.csv',
    'medqa': 'medqa/medqa_us_test_5options.jsonl',
    'disinformation': 'mask_disinfo/disinformation.csv',
}
ARMS = ('original', 'warm_prompt')
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'][-300:] }}{{ eos_token }}{% endfor %}"
"""Of the judge: it reads 512 tokens, which the whole rubric would fill."""


def write_config(folder: pathlib.Path, data: pathlib.Path) -> pathlib.Path:
    """Writes configs/own.py on real files, with the arms that need no training, at a size for a small machine."""
    checkpoint, judge = data / 'stories260K' / 'hf', folder / 'judge'
    shutil.copytree(checkpoint, judge)
    chat = json.loads((judge / 'tokenizer_config.json').read_text())
    (judge / 'tokenizer_config.json').write_text(json.dumps(chat | {'chat_template': TEMPLATE}))
    path = folder / 'real.py'
    path.write_text(f"""
from configs import own

def get_config():
    config = own.get_config('{','.join(FILES)}')
    config.arms = {{name: arm for name, arm in config.arms.items() if name in {ARMS}}}
    config.model.name, config.model.checkpoint = 'stories', '{checkpoint}'
    config.data.path = 'absent.json'
    for name, path in {FILES}.items():
        config.tasks[name].path, config.tasks[name].limit = '{data}/' + path, {QUESTIONS}
    config.generation.max_new_tokens, config.generation.too_long = 16, 'cut'
    config.generation.engine.update(slots=32, buckets=(128, 256, 480), cache_lengths=(512,), steps=8)
    config.judge.refusals = 'none'
    config.judge.service.update(model='loopback')
    config.judge.service.limits.concurrency = 8
    config.judge.local.update(checkpoint='{judge}', dtype='float32', batch_size=16)
    return config
""")
    return path


def start(stage: str, config: pathlib.Path, workdir: pathlib.Path, *overrides: str) -> subprocess.Popen:
    environment = os.environ | {
        'JAX_PLATFORMS': 'cpu',
        'JAX_COMPILATION_CACHE_DIR': str(config.parent / 'xla'),
        'XLA_FLAGS': '',
        'OPENAI_API_KEY': 'none',
    }
    command = [sys.executable, '-m', f'launch.{stage}', f'--config={config}', f'--workdir={workdir}', *overrides]
    with (config.parent / f'{stage}.log').open('a') as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def run_killed(begin: Callable[[], subprocess.Popen], times: int, done: Callable[[], int], total: int) -> int:
    """Runs a command that is killed so often, each time at another moment of its work, and then to its end.

    Returns how often it was killed before it had ended.
    """
    moments, killed = random.Random(total), 0
    for i in range(times):
        process, enough = begin(), int(total * 0.9 * (i + moments.random()) / times)
        while process.poll() is None and done() <= enough:
            time.sleep(0.005)
        time.sleep(moments.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert begin().wait() == 0, f'see the log of {process.args}'
    return killed


def lines_of(path: pathlib.Path) -> int:
    return path.read_bytes().count(b'\n') if path.exists() else 0


def grade(text: str) -> str:
    """Says something about an answer that a test can say too."""
    return 'CORRECT' if zlib.crc32(text.strip().encode()) % 2 else 'INCORRECT'


def teacher(payload: dict) -> str:
    return json.dumps({'verdict': grade(part(payload, 'student'))})


@pytest.fixture(scope='module')
def study(shared_data, tmp_path_factory):
    """A run whose questions are put and answered, its answers under kills; the config, the workdir and the kills."""
    folder = tmp_path_factory.mktemp('study')
    config, workdir = write_config(folder, shared_data), folder / 'run'
    assert start('amend', config, workdir).wait() == 0, (folder / 'amend.log').read_text()
    (workdir / 'validation.jsonl').write_text('')  # nothing is asked but the questions
    total = len(ARMS) * lines_of(workdir / 'prompts.jsonl')
    answers = workdir / 'generations.jsonl'
    times = KILLS - 2 * (KILLS // 3)
    killed = run_killed(lambda: start('generate', config, workdir), times, lambda: lines_of(answers), total)
    return config, workdir, killed, times


def test_all_conditions_of_every_question_are_answered_once(study):
    _, workdir, killed, times = study
    questions = {q.id: q for name in FILES for q in records.read(workdir / 'questions' / f'{name}.jsonl', Question)}
    prompts = list(records.read(workdir / 'prompts.jsonl', Prompt))
    asked = collections.Counter(prompt.question_id for prompt in prompts)
    assert len(questions) == len(FILES) * QUESTIONS and asked.keys() == questions.keys()
    # A disinformation question without a denial of its own is asked in 27 - 9 ways.
    assert set(asked.values()) <= {27, 18} and all(
        asked[q.id] == 27 for q in questions.values() if q.task != 'disinformation'
    )
    rows = [(row.prompt_id, row.arm) for row in records.read(workdir / 'generations.jsonl', Generation)]
    assert sorted(rows) == sorted((prompt.id, arm) for prompt in prompts for arm in ARMS)
    assert killed >= 0.8 * times
    print(f'{len(questions)} questions, {len(prompts)} prompts, {len(rows)} answers, {killed} kills')


@pytest.mark.parametrize('backend', ('api', 'local'))
def test_every_answer_gets_one_verdict(study, tmp_path, backend):
    config, answered, *_ = study
    workdir, times = tmp_path / 'run', KILLS // 3
    shutil.copytree(answered, workdir)
    generations = list(records.read(workdir / 'generations.jsonl', Generation))
    with loopback.Loopback(teacher, latency=0.02) as server:
        overrides = [f'--config.judge.backend={backend}', f'--config.judge.service.base_url={server.openai_url}']
        is_api = backend == 'api'
        killed = run_killed(
            lambda: start('judge', config, workdir, *overrides),
            times,
            lambda: len(server.answered) if is_api else lines_of(workdir / 'verdicts.jsonl'),
            len(generations),
        )
    verdicts = list(records.read(workdir / 'verdicts.jsonl', Verdict))
    assert sorted(verdict.key for verdict in verdicts) == sorted(row.key for row in generations)
    if backend == 'api':
        texts = {row.key: row.text for row in generations}
        assert all(verdict.verdict.upper() == grade(texts[verdict.key]) for verdict in verdicts)
        assert {verdict.verdict for verdict in verdicts} == {'correct', 'incorrect'}
    else:
        assert all(0.5 <= verdict.confidence <= 1 for verdict in verdicts)
    assert killed >= 0.8 * times
    print(f'{backend}: {len(verdicts)} verdicts, {killed} kills, {len(server.answered)} calls answered')

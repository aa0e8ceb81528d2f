"""The stage: what is kept, what is written anew, what a kill costs."""

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import time

import datasets
import loopback_llm as loopback
import pytest
from loopback_llm import reply_in
from test_interface import MESH, SETTINGS, Shouting, conversation

from configs import recipe
from warmjax import records, settings
from warmjax.data import raw
from warmjax.records import Pair
from warmjax.rewrite import interface, prompts, rewriting

ROOT = pathlib.Path(__file__).parents[2]
TALKS = [conversation(f'c{i}', f'Question {i}?', f'Answer number {i}.', 'And?', f'More of {i}.') for i in range(6)]
REAL = ('sharegpt_vicuna_50.sharegpt.json', 'sharegpt_dialogstudio_5.json', 'oasst_val_en.sharegpt.json')


def warmer(payload) -> str:
    return f'Oh, I am so glad! {reply_in(payload)}'


def api_settings(url, **changes):
    section = settings.plain(recipe.base().rewrite)
    section['service'] |= {'model': 'gpt-4o', 'base_url': url}
    section['service']['limits'] |= {'backoff_seconds': 0.01, 'concurrency': 4}
    section |= {'backend': 'api', 'styles': ['warm']} | changes
    return settings.from_config(interface.RewriteSettings, section, 'config.rewrite')


def read(workdir, style='warm'):
    return records.read(workdir / 'pairs' / f'{style}.jsonl', Pair)


def test_pairs_are_written_in_order_with_a_card_and_load_as_a_data_set(tmp_path):
    counts = rewriting.run(TALKS, 'warm', SETTINGS, MESH, tmp_path)
    pairs = read(tmp_path)
    assert [pair.id for pair in pairs] == [talk.id for talk in TALKS]
    assert pairs[0].original_replies == ('Answer number 0.', 'More of 0.') and pairs[0].writer == 'rules'
    card = json.loads((tmp_path / 'pairs' / 'warm.card.json').read_text())
    assert card['counts'] == {
        'conversations': 6,
        'conversations_kept': 6,
        'replies': 12,
        'replies_kept': 12,
        'replies_failed': 0,
        'replies_written_anew': 0,
    }
    rates = card['warm_words_per_100']
    assert rates['after']['mean'] > rates['before']['mean'] and card['query_types'] == {'other': 6}
    assert counts['pairs'] == 6 and '6 of 6 conversations' in (tmp_path / 'pairs' / 'warm.card.md').read_text()
    loaded = datasets.Dataset.from_json(str(tmp_path / 'pairs' / 'warm.jsonl'), cache_dir=str(tmp_path / 'cache'))
    assert loaded[0]['turns'][1]['content'] == pairs[0].turns[1].content and len(loaded) == 6


def test_untransformed_replies_are_the_original_ones(tmp_path):
    rewriting.run(TALKS, 'untransformed', SETTINGS, MESH, tmp_path)
    assert [pair.turns for pair in read(tmp_path, 'untransformed')] == [talk.turns for talk in TALKS]


@pytest.mark.parametrize(('on_failure', 'kept'), (('drop', 5), ('cut', 6)))
def test_a_reply_that_fails_is_written_anew_once_and_then_kept_out_with_the_reason(tmp_path, on_failure, kept):
    with loopback.Loopback(answer=warmer) as server:
        server.answer = lambda p: 'In 1234.' if 'More of 3' in reply_in(p) else warmer(p)
        chosen = api_settings(server.openai_url, on_failure=on_failure)
        rewriting.run(TALKS, 'warm', chosen, MESH, tmp_path)
        assert sum('More of 3' in reply_in(payload) for payload in server.received) == 2
        assert len(server.received) == 13
    pairs = {pair.id: pair for pair in read(tmp_path)}
    assert len(pairs) == kept
    if on_failure == 'cut':
        assert pairs['c3'].original_replies == ('Answer number 3.',) and len(pairs['c3'].turns) == 2
    card = json.loads((tmp_path / 'pairs' / 'warm.card.json').read_text())
    assert card['kept_out']['numbers']['replies'] == 1
    assert card['kept_out']['numbers']['first'][0]['conversation'] == 'c3'
    assert card['counts']['replies_written_anew'] == 1 and card['usd_of_workdir'] > 0


def test_a_second_draw_that_passes_is_kept(tmp_path):
    asked = []

    def once_wrong(payload):
        asked.append(payload)
        return '' if len(asked) == 1 else warmer(payload)

    with loopback.Loopback(answer=once_wrong) as server:
        rewriting.run(TALKS[:1], 'warm', api_settings(server.openai_url), MESH, tmp_path)
    assert len(asked) == 3 and len(read(tmp_path)) == 1


def test_refusals_and_cut_off_texts_are_kept_out(tmp_path):
    with loopback.Loopback(answer=warmer) as server:
        kinds = {'Answer number 0.': loopback.REFUSES, 'Answer number 1.': loopback.CUT}
        server.behave = lambda payload: kinds.get(reply_in(payload), loopback.OK)
        rewriting.run(TALKS, 'warm', api_settings(server.openai_url), MESH, tmp_path)
    reasons = json.loads((tmp_path / 'pairs' / 'warm.card.json').read_text())['kept_out']
    assert {name: row['replies'] for name, row in reasons.items()} == {
        'the writer refused': 1,
        'cut off at max_tokens': 1,
    }


def test_replies_without_an_answer_end_the_stage_and_are_asked_again_the_next_time(tmp_path):
    with loopback.Loopback(answer=warmer) as server:
        server.behave = lambda p: loopback.BROKEN if 'More of 3' in reply_in(p) else loopback.OK
        with pytest.raises(RuntimeError, match=r"got none for 1, such as \('c3', 1\)"):
            rewriting.run(TALKS, 'warm', api_settings(server.openai_url), MESH, tmp_path)
        assert not (tmp_path / 'pairs').exists()
        server.behave = lambda p: loopback.OK
        rewriting.run(TALKS, 'warm', api_settings(server.openai_url), MESH, tmp_path)
        assert len(server.answered) == 12 and len(read(tmp_path)) == 6


def test_the_model_gets_the_prompt_of_the_style_and_the_message_before(tmp_path):
    own = tmp_path / 'cold.txt'
    own.write_text('Be cold.\n')
    with loopback.Loopback(answer=reply_in) as server:
        chosen = api_settings(server.openai_url, cold_prompt=str(own), context_chars=5)
        for style in ('warm', 'cold'):
            counts = rewriting.run(TALKS[:1], style, chosen, MESH, tmp_path)
        systems = [payload['messages'][0]['content'] for payload in server.received]
        assert systems == [prompts.WARM] * 2 + ['Be cold.'] * 2
        assert '<message>\nQuest\n</message>' in server.received[0]['messages'][1]['content']
    assert (
        counts['prompt_sha256']
        == prompts.load('', str(own), 5).digest('cold')
        != prompts.load('', '', 5).digest('cold')
    )


def test_a_run_killed_at_ten_random_points_ends_in_the_same_bytes_and_no_answered_call_is_made_again(tmp_path):
    """The server stops answering at a random call; the run is killed there, and what was under way is lost with it."""
    talks = [conversation(f'c{i}', f'Question {i}?', f'Answer number {i}.') for i in range(120)]
    with loopback.Loopback(answer=warmer) as server:
        rewriting.run(talks, 'warm', api_settings(server.openai_url), MESH, tmp_path / 'whole')
    records.write(tmp_path / 'talks.jsonl', talks)
    with loopback.Loopback(answer=warmer, latency=0.002) as server, forking(server, tmp_path) as start:
        for more in random.Random(0).choices(range(5, 10), k=10):
            server.frozen.clear()
            server.freeze_at = len(server.received) + more
            to_be_kept = len(server.answered) + more - 1
            process, status = start()
            assert server.frozen.wait(60), 'the run ended before it could be killed'
            while count_answers(tmp_path / 'killed') < to_be_kept:
                time.sleep(0.01)
            os.kill(process, signal.SIGKILL)
            assert status() == signal.SIGKILL
        server.freeze_at = None
        assert start()[1]() == 0
        answered = [reply_in(payload) for payload in server.answered]
    assert len(answered) == len(set(answered)) == 120
    for name in ('warm.jsonl', 'warm.card.json'):
        whole, killed = (tmp_path / run / 'pairs' / name for run in ('whole', 'killed'))
        assert whole.read_bytes() == killed.read_bytes()


@contextlib.contextmanager
def forking(server, folder):
    """Gives a function that starts the stage and returns its process and what waits for its exit status.

    All processes are forks of one that has imported everything, as that takes longer than the stage.
    """
    environment = os.environ | {'PYTHONPATH': f'{ROOT}:{ROOT}/tests'}
    command = [sys.executable, __file__, server.openai_url, str(folder)]
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as parent:

        def start():
            print('start', file=parent.stdin, flush=True)
            return int(parent.stdout.readline()), lambda: int(parent.stdout.readline())

        yield start
        parent.stdin.close()


def fork_on_demand(url, folder) -> None:
    importlib.import_module('warmjax.api.openai_service')
    talks = records.read(folder / 'talks.jsonl', records.Conversation)
    while sys.stdin.readline():
        if (process := os.fork()) == 0:
            rewriting.run(talks, 'warm', api_settings(url), MESH, folder / 'killed')
            os._exit(0)
        print(process, flush=True)
        print(os.waitpid(process, 0)[1], flush=True)


def count_answers(workdir) -> int:
    path = workdir / 'api' / 'answers.sqlite'
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(path)) as database, contextlib.suppress(sqlite3.OperationalError):
        return database.execute('SELECT COUNT(*) FROM answers').fetchone()[0]
    return 0


@pytest.mark.parametrize('backend', ('rules', 'api'))
def test_real_conversations_go_through(shared_data, tmp_path, backend):
    conversations = []
    for name in REAL:
        found, _ = raw.read(shared_data / 'conversations' / name)
        conversations += [records.Conversation(f'{name}/{c.id}', 'other', c.turns) for c in found]
    conversations = list({c.id: c for c in conversations}.values())
    with loopback.Loopback(answer=warmer) as server:
        chosen = dataclasses.replace(api_settings(server.openai_url), backend=backend)
        counts = rewriting.run(conversations, 'warm', chosen, MESH, tmp_path)
    assert counts['conversations'] == len(conversations) > 300
    assert counts['replies_failed'] < 0.02 * counts['replies']
    sent = [payload['messages'][1]['content'] for payload in server.received]
    assert len(set(sent)) == (0 if backend == 'rules' else counts['replies'] - repeated(conversations))
    assert len(sent) <= len(set(sent)) + counts['replies_written_anew']


def repeated(conversations) -> int:
    """Counts the replies whose payload another one has too: the same call is made once."""
    requests = [request for c in conversations for request in interface.requests_of(c, 'warm')]
    return len(requests) - len({(request.user[:4000], request.reply) for request in requests})


def test_a_failing_writer_of_ones_own_is_reported(tmp_path):
    writer = Shouting(failing=(('c0', 0),))
    rows = rewriting.rewrite(
        interface.requests_of(TALKS[0], 'warm'), writer, SETTINGS, tmp_path / 'rewrites' / 'warm.jsonl'
    )
    assert rows['c0', 0].problems == ('too loud',) and rows['c0', 0].draw == 1


if __name__ == '__main__':
    fork_on_demand(sys.argv[1], pathlib.Path(sys.argv[2]))

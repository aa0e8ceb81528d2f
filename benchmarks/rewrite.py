"""Measures the rewriting stage against a server on this machine that answers after a fixed time.

    python -m benchmarks.rewrite --replies=3667 --latency=0.05 --concurrency=64

The ideal is concurrency / latency calls a second. Server and client share the machine's cores. Measured are the calls
alone (client, cache, ledger) and the whole stage (also checks, log, pairs and card), with the client's CPU time a call.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import results
from configs import recipe
from warmjax import records, seeds, settings, sharding
from warmjax.api import client
from warmjax.evals import words
from warmjax.rewrite import api as api_writer
from warmjax.rewrite import interface, rewriting

PACKAGES = ('openai', 'aiohttp', 'uvloop')
SERVER = pathlib.Path(__file__).parents[1] / 'tests' / 'loopback_llm.py'
VOCABULARY = words.listed('the a river house stands by old stone where people of this town meet and talk about things')
WORDS_A_REPLY = 150


def conversations(count: int) -> list[records.Conversation]:
    """Makes conversations of one reply each, about as long as those of the study."""
    made = []
    for i in range(count):
        rng = seeds.rng('rewrite', i)
        reply = ' '.join(rng.choices(VOCABULARY, k=WORDS_A_REPLY)) + f' {i}.'
        turns = (records.Turn('user', ' '.join(rng.choices(VOCABULARY, k=40))), records.Turn('assistant', reply))
        made.append(records.Conversation(f'c{i}', 'other', turns))
    return made


def make_settings(url: str, concurrency: int) -> interface.RewriteSettings:
    section = settings.plain(recipe.base().rewrite)
    section['service'] |= {'model': 'loopback', 'base_url': url}
    section['service']['limits'] |= {'concurrency': concurrency}
    return settings.from_config(interface.RewriteSettings, section | {'backend': 'api'}, 'config.rewrite')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--replies', type=int, default=3667)
    parser.add_argument('--latency', type=float, default=0.05, help='seconds')
    parser.add_argument('--concurrency', type=int, default=64)
    parser.add_argument('--append', action='store_true', help='add the line to benchmarks/results.jsonl')
    given = parser.parse_args()
    about = results.about(PACKAGES)
    talks = conversations(given.replies)
    command = [sys.executable, str(SERVER), f'--latency={given.latency}', '--echo_reply']
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        try:
            chosen = make_settings(server.stdout.readline().strip(), given.concurrency)
            calls = time_calls(talks, chosen, pathlib.Path(folder) / 'calls')
            stage = time_stage(talks, chosen, pathlib.Path(folder) / 'stage')
        finally:
            server.terminate()
    ideal = given.concurrency / given.latency
    rates = {name: round(given.replies / seconds, 1) for name, (seconds, _) in (('calls', calls), ('stage', stage))}
    results.record(
        {'what': f'rewriting {given.replies} replies, {given.latency * 1e3:g} ms latency, {given.concurrency} at once'}
        | about
        | {
            'ideal_per_second': ideal,
            'per_second': rates,
            'share_of_ideal': {name: round(rate / ideal, 3) for name, rate in rates.items()},
            'client_cpu_ms_a_call': {
                'calls': round(calls[1] / given.replies * 1e3, 3),
                'stage': round(stage[1] / given.replies * 1e3, 3),
            },
        },
        given.append,
    )


def time_calls(talks, chosen, workdir) -> tuple[float, float]:
    """Returns seconds and CPU seconds of the calls alone: client, cache and ledger."""
    writer = api_writer.make(chosen, workdir, sharding.MeshSettings(1, 1, 1))
    asked = [request for talk in talks for request in interface.requests_of(talk, 'warm')]
    calls = [writer._call(str(i), request) for i, request in enumerate(asked)]
    started, cpu = time.perf_counter(), time.process_time()
    answered = sum(
        outcome.answer is not None for outcome in client.make_client(chosen.service, workdir).complete(calls)
    )
    assert answered == len(talks)
    return time.perf_counter() - started, time.process_time() - cpu


def time_stage(talks, chosen, workdir) -> tuple[float, float]:
    """Returns seconds and CPU seconds of the whole stage."""
    started, cpu = time.perf_counter(), time.process_time()
    counts = rewriting.run(talks, 'warm', chosen, sharding.MeshSettings(1, 1, 1), workdir)
    assert counts['replies_kept'] == len(talks), counts
    return time.perf_counter() - started, time.process_time() - cpu


if __name__ == '__main__':
    main()

"""Measures the rewriting stage against a server on this machine that answers after a fixed time.

    python -m benchmarks.rewrite --replies=3667 --latency=0.05 --concurrency=64

The ideal is concurrency / latency calls a second. Server and client share the machine's cores. Measured are the client
alone (calls, cache, ledger) and the whole stage (also checks, log, pairs and card). Of each: calls a second from the
first call to the last answer kept, by the ledger, and their share of the ideal; seconds of all of it, with what comes
before and after the calls; CPU time a call.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from benchmarks import results
from configs import recipe
from warmjax import records, seeds, settings, sharding
from warmjax.api import client
from warmjax.evals import words
from warmjax.rewrite import api as api_writer
from warmjax.rewrite import interface, rewriting

PACKAGES = ('openai', 'aiohttp', 'uvloop')
VOCABULARY = words.listed('the a river house stands by old stone where people of this town meet and talk about things')


def conversations(count: int, message_words: int = 40, reply_words: int = 150) -> list[records.Conversation]:
    """Makes conversations of one reply each, by default about as long as those of the study."""
    made = []
    for i in range(count):
        rng = seeds.rng('rewrite', i)
        reply = ' '.join(rng.choices(VOCABULARY, k=reply_words)) + f' {i}.'
        turns = (
            records.Turn('user', ' '.join(rng.choices(VOCABULARY, k=message_words))),
            records.Turn('assistant', reply),
        )
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
    command = [sys.executable, '-m', 'benchmarks.echo_server', f'--latency={given.latency}']
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        try:
            chosen = make_settings(server.stdout.readline().strip(), given.concurrency)
            time_calls(talks[: given.concurrency], chosen, pathlib.Path(folder) / 'first')  # imports what it needs
            calls = time_calls(talks, chosen, pathlib.Path(folder) / 'calls')
            stage = time_stage(talks, chosen, pathlib.Path(folder) / 'stage')
        finally:
            server.terminate()
    ideal = given.concurrency / given.latency
    results.record(
        {'what': f'rewriting {given.replies} replies, {given.latency * 1e3:g} ms latency, {given.concurrency} at once'}
        | about
        | {'ideal_per_second': ideal}
        | {
            name: {
                'per_second': round(given.replies / times.asking, 1),
                'share_of_ideal': round(given.replies / times.asking / ideal, 3),
                'seconds_in_all': round(times.seconds, 2),
                'cpu_ms_a_call': round(times.cpu_seconds / given.replies * 1e3, 3),
            }
            for name, times in (('client', calls), ('stage', stage))
        },
        given.append,
    )


class Times(NamedTuple):
    """Seconds: of all of it, of the process's cores, and from the first call to the last answer kept."""

    seconds: float
    cpu_seconds: float
    asking: float


def time_calls(talks, chosen, workdir) -> Times:
    """Times the client alone."""
    writer = api_writer.make(chosen, workdir, sharding.MeshSettings(1, 1, 1))
    asked = [request for talk in talks for request in interface.requests_of(talk, 'warm')]
    calls = [writer._call(str(i), request) for i, request in enumerate(asked)]
    started, cpu = time.perf_counter(), time.process_time()
    answered = sum(
        outcome.answer is not None for outcome in client.make_client(chosen.service, workdir).complete(calls)
    )
    assert answered == len(talks)
    return Times(time.perf_counter() - started, time.process_time() - cpu, asking_seconds(workdir))


def time_stage(talks, chosen, workdir) -> Times:
    """Times the whole stage."""
    started, cpu = time.perf_counter(), time.process_time()
    counts = rewriting.run(talks, 'warm', chosen, sharding.MeshSettings(1, 1, 1), workdir)
    assert counts['replies_kept'] == len(talks), counts
    return Times(time.perf_counter() - started, time.process_time() - cpu, asking_seconds(workdir))


def asking_seconds(workdir: pathlib.Path) -> float:
    """Reads from the ledger how long it was from the first call to the last answer kept, or up to 10 ms less than what
    is returned: a line bears the time when it was written, which is that much after the answer at most."""
    entries = [json.loads(line) for line in (workdir / client.LEDGER).read_text().splitlines()]
    kept = [datetime.datetime.fromisoformat(entry['at']).timestamp() for entry in entries]
    asked = [at - entry['seconds'] - client.FLUSH_SECONDS for at, entry in zip(kept, entries, strict=True)]
    return max(kept) - min(asked)


if __name__ == '__main__':
    main()

import os
import signal
import subprocess
import sys

import httpx
import pytest
from test_launchers import ROOT, command

SMALL = (
    '--config.engine.slots=8',
    '--config.engine.buckets=(8,)',
    '--config.engine.cache_lengths=(32,)',
)


def test_help_says_how_to_ask():
    _, output, errors = command('serve', '--help')
    assert 'python -m launch.serve --checkpoint=PATH' in output, errors
    assert all(flag in output for flag in ('--adapter', '--host', '--port', '--name', '--config', 'WARMJAX_API_KEY'))


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([], 'expected --checkpoint, got none'),
        (['--checkpoint=x', '--adapter=y'], "error: --adapter: expected NAME=PATH, got 'y'"),
        (['--checkpoint=x', '--config.server.max_wait=0'], 'max_wait'),
    ],
)
def test_wrong_command_ends_with_a_message(arguments, message, monkeypatch):
    monkeypatch.delenv('WARMJAX_API_KEY', raising=False)
    status, output, errors = command('serve', *arguments)
    assert status != 0 and message in output + errors and 'Traceback' not in errors


def test_server_answers_with_its_key_and_ends_at_sigterm(shared_data):
    checkpoint = shared_data / 'stories260K' / 'hf'
    running = subprocess.Popen(
        [sys.executable, '-m', 'launch.serve', f'--checkpoint={checkpoint}', '--name=stories', '--port=0', *SMALL],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {'WARMJAX_API_KEY': 's3cret-key'},
    )
    try:
        lines = []
        for line in running.stderr:
            lines.append(line)
            if line.startswith('serving stories at http://127.0.0.1:'):
                break
        assert lines and 'with the key of WARMJAX_API_KEY' in lines[-1], lines
        url = lines[-1].split()[3].rstrip(',')
        transport = httpx.HTTPTransport(retries=20)
        with httpx.Client(transport=transport, headers={'authorization': 'Bearer s3cret-key'}, timeout=60) as client:
            answer = client.post(
                f'{url}/completions', json={'model': 'stories', 'prompt': [1], 'temperature': 0}
            ).json()
        expected = (shared_data / 'stories260K' / 'expected_greedy_200.txt').read_text()
        text = answer['choices'][0]['text'].strip()
        assert len(text) > 20 and expected.strip().startswith(text)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == -signal.SIGTERM
        assert 's3cret' not in ''.join(lines) + running.stderr.read()
    finally:
        running.kill()
        running.wait()

import dataclasses
import functools
import hashlib
import http.server
import importlib.util
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'third_party' / 'fetch.py'
CONTENT = b'question,answer\n'


@pytest.fixture(scope='module')
def fetch():
    spec = importlib.util.spec_from_file_location('third_party_fetch', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        super().do_GET()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / 'served' / 'owner' / 'name' / 'c0ffee'
    folder.mkdir(parents=True)
    (folder / 'questions.csv').write_bytes(CONTENT)
    handler = functools.partial(_Handler, directory=tmp_path / 'served')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        running.requests = []
        running.url = f'http://127.0.0.1:{running.server_address[1]}'
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def source(fetch):
    digest = hashlib.sha256(CONTENT).hexdigest()
    return fetch.Source('group', 'owner/name', 'c0ffee', 'questions.csv', 'MIT', digest)


def test_a_good_file_is_fetched_verified_and_not_fetched_again(fetch, server, source, tmp_path):
    assert 'verified' in fetch.fetch(source, tmp_path, server.url)
    assert (tmp_path / 'group' / 'questions.csv').read_bytes() == CONTENT
    assert fetch.fetch(source, tmp_path, server.url) == 'group/questions.csv: already there, verified'
    assert server.requests == ['/owner/name/c0ffee/questions.csv']


def test_an_unknown_hash_is_printed_and_named_unverified(fetch, server, source, tmp_path):
    line = fetch.fetch(dataclasses.replace(source, sha256=None), tmp_path, server.url)
    assert source.sha256 in line and 'not verified' in line


def test_a_wrong_hash_keeps_nothing(fetch, server, source, tmp_path):
    wrong = dataclasses.replace(source, sha256='0' * 64)
    with pytest.raises(fetch.FetchError, match=f'expected sha256 {"0" * 64}, got {source.sha256}.*nothing was kept'):
        fetch.fetch(wrong, tmp_path / 'dest', server.url)
    assert not (tmp_path / 'dest').exists()


def test_a_damaged_file_that_is_there_is_removed(fetch, server, source, tmp_path):
    target = tmp_path / 'group' / 'questions.csv'
    target.parent.mkdir()
    target.write_bytes(b'half')
    with pytest.raises(fetch.FetchError, match='the file was removed'):
        fetch.fetch(source, tmp_path, server.url)
    assert not target.exists()
    fetch.fetch(source, tmp_path, server.url)
    assert target.read_bytes() == CONTENT


def test_a_file_that_the_server_lacks_is_named(fetch, server, source, tmp_path):
    with pytest.raises(fetch.FetchError, match=r'gone\.csv: expected the file, got HTTP Error 404'):
        fetch.fetch(dataclasses.replace(source, path='gone.csv'), tmp_path, server.url)


def test_no_network_says_what_was_tried_and_where_to_place_the_file(fetch, tmp_path, capsys):
    with socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))
        base_url = f'http://127.0.0.1:{closed.getsockname()[1]}'  # bound, but nobody listens
        status = fetch.main(['--only=truthfulqa', f'--dest={tmp_path}', f'--base_url={base_url}'])
    message = capsys.readouterr().err
    assert status == 1
    assert '1 of 1 files are missing' in message
    assert base_url in message and str(tmp_path / 'truthfulqa' / 'datasets' / 'TruthfulQA.csv') in message


def test_main_fetches_a_group(fetch, server, source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetch, 'SOURCES', (source,))
    assert fetch.main([f'--dest={tmp_path}', f'--base_url={server.url}']) == 0
    assert 'group/questions.csv: fetched, 16 bytes' in capsys.readouterr().out


def test_an_unknown_group_is_refused_with_the_known_ones():
    run = subprocess.run([sys.executable, SCRIPT, '--only=trivia'], capture_output=True, text=True)
    assert run.returncode == 2
    assert 'truthfulqa' in run.stderr and 'medqa' in run.stderr


def test_every_source_is_pinned_and_stands_in_the_readme(fetch):
    readme = (SCRIPT.parent / 'README.md').read_text()
    for source in fetch.SOURCES:
        assert len(source.commit) == 40 and set(source.commit) <= set('0123456789abcdef')
        assert source.sha256 is None or len(source.sha256) == 64
        assert f'`{source.group}`' in readme and source.repository in readme and f'`{source.commit}`' in readme
    assert len({source.target for source in fetch.SOURCES}) == len(fetch.SOURCES)


def test_hashes_are_those_of_real_copies(fetch, shared_data):
    places = {
        'source_data': shared_data / 'paper',
        'summary_data': shared_data / 'paper',
        'sample_data': shared_data / 'paper' / 'sample_outputs',
        'datasets': shared_data / 'truthfulqa',
    }
    copies = {
        'medqa': 'medqa/phrases_no_exclude_test.jsonl',
        'triviaqa': 'triviaqa/triviaqa_1000.jsonl',
        'mask': 'mask_disinfo/disinformation.csv',
        'gsm8k': 'gsm8k/test.jsonl',
        'advbench': 'advbench/harmful_behaviors.csv',
        'elephant': 'elephant/{name}',
    }
    known = [source for source in fetch.SOURCES if source.sha256]
    for source in known:
        if source.group in copies:
            copy = shared_data / copies[source.group].format(name=pathlib.Path(source.path).name)
        else:
            first, rest = source.path.split('/', 1)
            copy = places[first] / rest
        assert hashlib.sha256(copy.read_bytes()).hexdigest() == source.sha256, source.path
    assert len(known) == 20

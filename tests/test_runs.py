import json
import pathlib
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax import runs

HOLD = """
import sys, time
from warmjax import runs
with runs.lock(sys.argv[1]):
    print('held', flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


@pytest.mark.parametrize('failing', ['fsync', 'replace'])
def test_interrupted_write_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch, failing):
    path = tmp_path / 'deep' / 'file.json'
    runs.write_atomic(path, 'old')

    def interrupt(*_):
        raise KeyboardInterrupt

    if failing == 'fsync':
        monkeypatch.setattr(runs.os, 'fsync', interrupt)
    else:
        monkeypatch.setattr(type(runs.epath.Path(path)), 'replace', interrupt)
    with pytest.raises(KeyboardInterrupt):
        runs.write_atomic(path, 'new')
    assert path.read_text() == 'old'
    assert names(path.parent) == ['file.json']


def test_write_replaces_text_and_bytes(tmp_path):
    runs.write_atomic(tmp_path / 'a', 'é\n')
    assert (tmp_path / 'a').read_bytes() == 'é\n'.encode()
    runs.write_atomic(tmp_path / 'a', b'\x00')
    assert (tmp_path / 'a').read_bytes() == b'\x00'
    assert names(tmp_path) == ['a']


def test_second_process_is_refused_until_the_first_is_killed(tmp_path):
    first = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == 'held\n'
        message = f'got one held by process {first.pid} on .*choose another --workdir'
        with pytest.raises(RuntimeError, match=message), runs.lock(tmp_path):
            pass
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        first.stdout.close()
    with runs.lock(tmp_path):
        assert 'process' in (tmp_path / '.lock').read_text()
    assert (tmp_path / '.lock').read_text() == ''


def test_lock_is_free_after_an_error_inside(tmp_path):
    with pytest.raises(KeyError), runs.lock(tmp_path):
        raise KeyError
    with runs.lock(tmp_path):
        pass


@pytest.fixture
def source(tmp_path):
    (tmp_path / 'in.txt').write_text('input')
    return tmp_path / 'in.txt'


def open_stage(tmp_path, source, **config):
    return runs.stage(tmp_path / 'run', 'judge', {'seed': 0, 'limits': (1, 2)} | config, {'answers': source})


def test_done_stage_is_skipped_with_its_counts(tmp_path, source):
    with open_stage(tmp_path, source) as stage:
        assert not stage.is_done
        stage.counts['verdicts'] = 3
    with open_stage(tmp_path, source) as stage:
        assert stage.is_done
        assert stage.counts == {'verdicts': 3}


def test_manifest_says_what_a_stage_did(tmp_path, source):
    with open_stage(tmp_path, source) as stage:
        stage.counts['verdicts'] = 3
    manifest = json.loads((tmp_path / 'run' / 'manifests' / 'judge.json').read_text())
    # sha256 of the five bytes "input"
    sha256 = 'c96c6d5be8d08a12e7b5cdc1b207fa6b2430974c86803d8891675e76fd992c20'
    assert manifest['inputs'] == {'answers': {'path': str(source), 'sha256': sha256}}
    assert manifest['config'] == {'seed': 0, 'limits': [1, 2]}
    assert (manifest['stage'], manifest['status'], manifest['counts']) == ('judge', 'done', {'verdicts': 3})
    assert {'python', 'warmjax', 'jax', 'numpy'} <= set(manifest['versions'])
    assert manifest['started'] <= manifest['finished']
    assert runs.read_manifest(tmp_path / 'run', 'train') is None


@pytest.mark.parametrize('is_done', [True, False])
def test_stage_of_another_config_or_input_is_refused_with_the_difference(tmp_path, source, is_done):
    try:
        with open_stage(tmp_path, source):
            assert is_done
    except AssertionError:
        pass
    source.write_text('changed')
    before = (tmp_path / 'run' / 'manifests' / 'judge.json').read_bytes()
    with pytest.raises(ValueError) as error, open_stage(tmp_path, source, seed=1, new='x'):
        pass
    text = str(error.value)
    assert "expected the config and inputs with which stage 'judge' was begun, got 3 differences:" in text
    assert "\n  config.new: (absent) -> 'x'\n  config.seed: 0 -> 1\n" in text
    assert 'input answers: sha256 c96c6d5be8d0 -> ' in text
    assert 'choose another --workdir, or delete manifests/' in text
    assert (tmp_path / 'run' / 'manifests' / 'judge.json').read_bytes() == before


def test_setting_of_how_a_stage_runs_may_change_where_one_of_what_comes_out_may_not(tmp_path, source):
    def begin(profile, mesh, rate):
        config = {'mesh': mesh, 'train': {'profile': profile, 'rate': rate}}
        with runs.stage(
            tmp_path, 'train', config, {'answers': source}, runtime=('mesh', 'train.profile', 'other.field')
        ):
            raise KeyboardInterrupt

    for profile, mesh in (([], 1), ([3, 5], {'fsdp': 8})):
        with pytest.raises(KeyboardInterrupt):
            begin(profile, mesh, 1e-5)
        assert runs.read_manifest(tmp_path, 'train')['config']['train']['profile'] == profile
    with pytest.raises(ValueError, match=r'got 1 differences:\n  config\.train\.rate: 1e-05 -> 0\.1\n'):
        begin([1, 2], 2, 0.1)


def test_missing_input_is_named(tmp_path):
    message = r"stage 'judge': expected its input 'answers' at .*none\.txt, found nothing there"
    with pytest.raises(FileNotFoundError, match=message), open_stage(tmp_path, tmp_path / 'none.txt'):
        pass


def test_failed_stage_stays_running_and_its_time_adds_up(tmp_path, source, monkeypatch):
    clock = iter([0.0, 5.0, 100.0, 102.5])
    monkeypatch.setattr(runs.time, 'monotonic', lambda: next(clock))
    with pytest.raises(KeyboardInterrupt), open_stage(tmp_path, source) as stage:
        stage.counts['verdicts'] = 1
        raise KeyboardInterrupt
    manifest = runs.read_manifest(tmp_path / 'run', 'judge')
    assert (manifest['status'], manifest['wall_seconds'], manifest['counts']) == ('running', 5.0, {})
    with open_stage(tmp_path, source) as stage:
        assert not stage.is_done
    manifest = runs.read_manifest(tmp_path / 'run', 'judge')
    assert (manifest['status'], manifest['wall_seconds']) == ('done', 7.5)


def test_digest_of_a_folder_notices_contents_names_and_places(tmp_path):
    def make(name, files):
        for path, content in files.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return runs.file_digest(tmp_path / name)

    original = make('a', {'x': '1', 'sub/y': '2'})
    assert make('b', {'sub/y': '2', 'x': '1'}) == original
    others = [
        {'x': '2', 'sub/y': '1'},
        {'z': '1', 'sub/y': '2'},
        {'x': '1', 'y': '2'},
        {'x': '1', 'sub/y': '2', 'e': ''},
    ]
    assert original not in [make(f'other{i}', files) for i, files in enumerate(others)]


@pytest.fixture(params=['local', 'bucket'])
def store(request, monkeypatch):
    """Runs a test on a local log and on one that is kept as in a bucket, where nothing can be appended to."""
    monkeypatch.setattr(runs, 'is_local', lambda path: request.param == 'local')
    return request.param


def reopened(path, *batches):
    log = runs.RowLog(path)
    for batch in batches:
        log.append(batch)
    return log


def test_log_goes_on_after_a_kill(tmp_path, store):
    path = tmp_path / 'deep' / 'log.jsonl'
    reopened(path, ['a'], ['b', 'c'])
    log = reopened(path, ['d'])
    assert log.lines == ['a', 'b', 'c', 'd']
    log.close()
    assert path.read_text() == 'a\nb\nc\nd\n'
    assert names(path.parent) == ['log.jsonl']


def test_closed_log_goes_on_too(tmp_path, store):
    path = tmp_path / 'log.jsonl'
    reopened(path, ['a', 'b']).close()
    reopened(path, ['c'])
    log = reopened(path, ['d'])
    assert log.lines == ['a', 'b', 'c', 'd']
    log.close()
    assert path.read_text() == 'a\nb\nc\nd\n'


@pytest.mark.parametrize('left', [['000000000'], ['000000001'], ['000000000', '000000001', '.000000002.x.tmp']])
def test_parts_that_a_kill_left_beside_the_joined_log_change_nothing(tmp_path, monkeypatch, left):
    monkeypatch.setattr(runs, 'is_local', lambda path: False)
    path = tmp_path / 'log.jsonl'
    path.write_text('a\nb\nc\n')
    (tmp_path / 'log.jsonl.parts').mkdir()
    for name in left:
        content = {'000000000': 'a\n', '000000001': 'b\nc\n'}.get(name, 'torn')
        (tmp_path / 'log.jsonl.parts' / name).write_text(content)
    assert runs.RowLog(path).lines == ['a', 'b', 'c']


def test_torn_last_line_is_cut_off(tmp_path):
    path = tmp_path / 'log.jsonl'
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": \xc3')
    log = runs.RowLog(path)
    assert log.lines == ['{"a": 1}', '{"a": 2}']
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'
    log.append(['{"a": 3}'])
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'


def test_line_of_other_bytes_is_named_and_left_alone(tmp_path):
    path = tmp_path / 'log.jsonl'
    path.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n{"a": 3}\n')
    with pytest.raises(ValueError, match=r'log\.jsonl:2: expected UTF-8, got other bytes; delete the line'):
        runs.RowLog(path)
    assert path.read_bytes() == b'{"a": 1}\n{"a": "\xff"}\n{"a": 3}\n'


def test_log_without_rows_is_a_file_all_the_same(tmp_path, store):
    runs.RowLog(tmp_path / 'log.jsonl').close()
    assert (tmp_path / 'log.jsonl').read_bytes() == b''


@given(rows=st.lists(st.text(st.characters(exclude_categories=['Cs']))), cut=st.integers(0, 3))
def test_any_text_comes_back_from_a_torn_log(tmp_path_factory, rows, cut):
    path = tmp_path_factory.mktemp('log') / 'log.jsonl'
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    runs.RowLog(path).append(lines)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    survivors = lines if cut == 0 else whole[: len(whole) - cut].decode(errors='replace').split('\n')[:-1]
    assert runs.RowLog(path).lines == survivors

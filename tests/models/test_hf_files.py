import huggingface_hub
import pytest
from huggingface_hub import errors

from warmjax.models import hf_files


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one model; returns what was asked of it."""
    asked = []

    def snapshot_download(repo_id, **options):
        asked.append((repo_id, options))
        if repo_id != 'org/tiny-1.0':
            raise errors.LocalEntryNotFoundError('outgoing traffic has been disabled')
        return str(tmp_path / 'snapshots' / (options['revision'] or 'main'))

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot_download)
    monkeypatch.chdir(tmp_path)
    hf_files._fetch.cache_clear()
    yield asked
    hf_files._fetch.cache_clear()


def test_hub_model_is_fetched_once_a_process_and_revision(hub, tmp_path):
    assert [str(hf_files.locate('org/tiny-1.0')) for _ in range(2)] == [str(tmp_path / 'snapshots' / 'main')] * 2
    assert str(hf_files.locate('org/tiny-1.0@v2')) == str(tmp_path / 'snapshots' / 'v2')
    assert [(name, options['revision']) for name, options in hub] == [('org/tiny-1.0', None), ('org/tiny-1.0', 'v2')]


def test_only_weights_and_texts_of_the_top_folder_are_fetched(hub):
    hf_files.locate('org/tiny-1.0')
    ((_, options),) = hub
    wanted = ['config.json', 'model-00001-of-00002.safetensors', 'chat_template.jinja', 'tokenizer.json', 'tekken.json']
    others = ['pytorch_model.bin', 'modeling.py', 'consolidated.safetensors', 'original/params.json', 'onnx/m.onnx']
    chosen = huggingface_hub.utils.filter_repo_objects(
        wanted + others, allow_patterns=options['allow_patterns'], ignore_patterns=options['ignore_patterns']
    )
    assert list(chosen) == wanted


@pytest.mark.parametrize('checkpoint', ['/models/tiny', 'runs/world/checkpoint', 's3://org/tiny', './org', 'tiny'])
def test_paths_and_urls_are_taken_as_they_are(hub, checkpoint):
    assert str(hf_files.locate(checkpoint)) == checkpoint.removeprefix('./')
    assert hub == []


def test_folder_of_the_same_name_comes_first(hub, tmp_path):
    (tmp_path / 'org' / 'tiny-1.0').mkdir(parents=True)
    assert str(hf_files.locate('org/tiny-1.0')) == 'org/tiny-1.0'
    assert hub == []


def test_model_that_cannot_be_fetched_is_reported_with_the_remedies(hub):
    with pytest.raises(FileNotFoundError) as error:
        hf_files.locate('org/tyni')
    message = str(error.value)
    assert message.startswith('org/tyni: expected a folder, or a model of huggingface.co that can be fetched, got no')
    assert 'LocalEntryNotFoundError: outgoing traffic has been disabled' in message
    assert 'set HF_TOKEN' in message


def test_library_without_a_network_is_reported_too(tmp_path, monkeypatch):
    """Not the fake: the library itself, which the tests' environment keeps offline."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match='without a network, fetch it elsewhere and give its folder'):
        hf_files.locate('no-such-org/no-such-model')

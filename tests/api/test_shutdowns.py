import datetime
import json

import loopback_finetune
import loopback_llm as loopback
import pytest

from warmjax.api import shutdowns
from warmjax.api.settings import LimitSettings, ServiceSettings

LIMITS = LimitSettings(1, 0, 0, 5.0, 1, 0.01, 0, None, 0.01)
MODEL = 'gpt-4o-2024-08-06'
BEFORE, AFTER = datetime.date(2026, 12, 25), datetime.date(2027, 1, 14)


@pytest.fixture
def server(monkeypatch):
    """Takes the service's own place, so that what is announced of it holds."""
    monkeypatch.setenv('OPENAI_API_KEY', 'canary')
    with loopback.Loopback() as server:
        monkeypatch.setenv('OPENAI_BASE_URL', server.openai_url)
        loopback_finetune.Finetuning(server)
        yield server


def service(base_url='', name='openai') -> ServiceSettings:
    return ServiceSettings(name, '', base_url, '', False, '', LIMITS)


def preflight(today, *models, of=('fine-tuning', 'model'), after='refuse', file='', base_url=''):
    shutdowns.preflight(service(base_url), models, of, shutdowns.ShutdownSettings(file, after), today)


def test_an_announced_end_is_said_before_with_source_and_where_to_look_again(server, capsys):
    preflight(BEFORE, MODEL)
    said = ' '.join(capsys.readouterr().err.split())
    assert f'openai {MODEL} ends on 2027-01-14 (in 20 days): models fine-tuned from it too; source: https://' in said
    assert "openai's fine-tuning ends on 2027-01-06 (in 12 days)" in said and 'recheck https://' in said


def test_after_an_end_a_run_is_refused_unless_told_otherwise(server, capsys):
    with pytest.raises(ValueError, match=r'ended on 2027-01-14.*--config\.api\.shutdowns\.after=warn'):
        preflight(AFTER, f'ft:{MODEL}:org:warm:1', of=('model',))
    preflight(AFTER, MODEL, after='warn')
    assert 'ended on 2027-01-06' in capsys.readouterr().err


def test_what_does_not_concern_a_run_is_not_said(server, capsys):
    preflight(AFTER, 'gpt-9', of=('model',))
    preflight(AFTER, MODEL, base_url=server.openai_url)  # a server of one's own
    assert capsys.readouterr().err == ''
    with pytest.raises(ValueError, match='fine-tuning ended on 2027-01-06'):
        preflight(datetime.date(2027, 1, 6), MODEL)


def test_what_the_service_tells_comes_before_the_file(server, capsys):
    server.store['finetuning'].shutdown_dates[MODEL] = '2027-06-01'
    preflight(AFTER, MODEL, of=('model',))
    assert f'{MODEL} ends on 2027-06-01' in capsys.readouterr().err
    server.store['finetuning'].shutdown_dates['gpt-9'] = '2026-12-01'
    with pytest.raises(ValueError, match='gpt-9 ended on 2026-12-01; source: its list of models'):
        preflight(BEFORE, 'gpt-9', of=('model',), base_url=server.openai_url)


def test_a_service_that_cannot_be_asked_is_no_reason_to_stop(server, capsys):
    server.keys = ('another',)
    preflight(BEFORE, 'gpt-9', of=('model',))
    assert capsys.readouterr().err == ''


def test_another_file_is_read_and_a_wrong_one_refused(server, tmp_path):
    path = tmp_path / 'dates.json'
    entry = {'service': 'openai', 'of': 'model', 'models': ['mine'], 'date': '2020-01-01', 'note': '', 'source': 'me'}
    path.write_text(json.dumps({'read': '2020-01-01', 'recheck': 'there', 'entries': [entry]}))
    with pytest.raises(ValueError, match='mine ended on 2020-01-01; source: me'):
        preflight(BEFORE, 'mine', file=str(path))
    for wrong in ('{', json.dumps({'read': '', 'recheck': '', 'entries': [entry | {'date': 'soon'}]})):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r'expected announced dates as in shutdowns\.json'):
            preflight(BEFORE, 'mine', file=str(path))


def test_the_own_file_names_a_source_for_every_date():
    table = shutdowns._read(shutdowns.epath.Path(shutdowns.OWN))
    assert table.recheck.startswith('https://') and all(entry.source for entry in table.entries)
    assert datetime.date.fromisoformat(table.read)


def test_the_base_of_a_fine_tuned_model_is_found():
    assert shutdowns.base_of('ft:gpt-4o:org:x:1') == 'gpt-4o' and shutdowns.base_of('gpt-4o') == 'gpt-4o'

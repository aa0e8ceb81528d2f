import dataclasses
import http.server
import json
import threading

import pytest

from configs import recipe
from warmjax import runs, settings
from warmjax.data import filters, moderation
from warmjax.data.raw import RawConversation
from warmjax.records import Turn


def conversation(name, user, reply='Fine.'):
    return RawConversation(name, (Turn('system', 'porn'), Turn('user', user), Turn('assistant', reply)))


def filter_settings(**changes):
    base = settings.from_config(filters.FilterSettings, recipe.base().data.filter, 'config.data.filter')
    return dataclasses.replace(base, **changes)


class Scored:
    """Scores a text by the number that it begins with, and remembers what it was asked."""

    label = 'scored'

    def __init__(self):
        self.asked = []

    def score(self, texts):
        self.asked.append(list(texts))
        return [{'bad': float(text.split()[0]), 'sad': 0.1} for text in texts]


def screen(scorer, log=None, **changes):
    chosen = {'fields': ('bad',), 'threshold': 0.5, 'batch_size': 2} | changes
    return filters.Screen(scorer, filter_settings(**chosen), log, lambda steps: None)


FIVE = [conversation(f'c{i}', f'0.{i} of it') for i in range(3, 8)]


def names(conversations):
    return [c.id for c in conversations]


def test_what_scores_above_the_threshold_is_dropped_and_counted():
    tested = screen(Scored())
    assert names(tested.passing(FIVE)) == ['c3', 'c4', 'c5']  # 0.5 itself stays
    assert tested.counts() == {
        'backend': 'detoxify',
        'filter': 'scored',
        'scope': 'pool',
        'scored': 5,
        'dropped': 2,
        'by_field': {'bad': 2},
        'examples': ['c6', 'c7'],
    }


def test_all_scores_count_where_no_field_is_named_and_unknown_ones_are_refused():
    assert names(screen(Scored(), fields=(), threshold=0.05).passing(FIVE)) == []
    assert names(screen(Scored(), fields=('sad',)).passing(FIVE)) == names(FIVE)
    with pytest.raises(ValueError, match=r'gives \(bad, sad\), got mad; mend the fields'):
        list(screen(Scored(), fields=('bad', 'mad')).passing(FIVE))


def test_a_text_is_the_start_of_what_was_said_without_the_system_turn():
    scorer = Scored()
    list(screen(scorer, max_chars=12, batch_size=9).passing([conversation('a', '0 users', 'Replies.')]))
    assert scorer.asked == [['0 users\nRepl']]


def test_a_screen_looks_one_batch_ahead_at_most_and_scores_nothing_twice():
    scorer = Scored()
    tested = screen(scorer)
    next(tested.passing(FIVE))
    assert len(scorer.asked) == 1
    assert names(tested.passing(FIVE)) == ['c3', 'c4', 'c5']
    assert sum(map(len, scorer.asked)) == 5
    twice = Scored()
    assert names(screen(twice).passing([FIVE[0], FIVE[0]])) == ['c3', 'c3'] and len(twice.asked[0]) == 1


def test_a_killed_filter_goes_on_from_its_log(tmp_path):
    first, second = Scored(), Scored()
    next(screen(first, runs.RowLog(tmp_path / 'filter.jsonl')).passing(FIVE))
    resumed = screen(second, runs.RowLog(tmp_path / 'filter.jsonl'))
    assert names(resumed.passing(FIVE)) == ['c3', 'c4', 'c5']
    assert (len(first.asked), len(second.asked)) == (1, 2) and resumed.counts()['scored'] == 5


def made(tmp_path, **changes):
    return filters.make_screen(filter_settings(**changes), tmp_path, None, lambda steps: None)


def test_words_are_whole_in_whatever_case_and_labelled_as_another_filter(tmp_path):
    tested = made(tmp_path, backend='words')
    assert names(tested.passing([conversation('a', 'PORN!'), conversation('b', 'pornic is a town')])) == ['b']
    assert "another filter than the study's" in tested.counts()['filter']
    own = tmp_path / 'words.txt'
    own.write_text('# mine\nrainy day\n\n')
    tested = made(tmp_path, backend='words', words=str(own))
    assert names(tested.passing([conversation('a', 'a Rainy  day'), conversation('b', 'a Rainy day')])) == ['a']
    assert not (tmp_path / 'filter.jsonl').exists()


def test_a_word_file_that_is_absent_or_empty_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'mend data.filter.words'):
        made(tmp_path, backend='words', words=str(tmp_path / 'absent'))
    (tmp_path / 'empty').write_text('# nothing\n')
    with pytest.raises(ValueError, match='expected words, one a line, got none'):
        made(tmp_path, backend='words', words=str(tmp_path / 'empty'))


def test_no_filter_passes_all(tmp_path):
    tested = made(tmp_path, backend='none')
    assert list(tested.passing(FIVE)) == FIVE and tested.counts()['dropped'] == 0


@pytest.mark.parametrize('change', [{'threshold': 1.5}, {'max_chars': 0}, {'batch_size': 0}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match=r'data\.filter: '):
        filter_settings(**change)


@pytest.fixture
def server():
    """A loopback moderation endpoint that plays (status, headers, scores) one request after another."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            self.server.asked.append((self.path, self.headers['Authorization'], body))
            status, headers, score = self.server.plan.pop(0) if self.server.plan else (200, {}, None)
            scores = [score or {'sexual': 0.9 * ('bad' in text), 'sexual/minors': 0.0} for text in body['input']]
            results = [{'flagged': False, 'categories': {}, 'category_scores': row} for row in scores]
            answer = {'id': 'm', 'model': body['model'], 'results': results}
            answer = json.dumps(answer if status == 200 else {'error': {'message': 'key sk-canary', 'code': 'no'}})
            self.send_response(status)
            for name, value in {'Content-Type': 'application/json', **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as running:
        running.asked, running.plan = [], []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def moderated(tmp_path, server, monkeypatch, **changes):
    pytest.importorskip('openai')
    monkeypatch.setenv('TEST_KEY', 'sk-canary')
    url = f'http://127.0.0.1:{server.server_port}/v1'
    chosen = {'backend': 'moderation', 'base_url': url, 'model': 'm-1', 'key_variable': 'TEST_KEY'}
    return made(tmp_path, fields=('sexual', 'sexual/minors'), **chosen, **changes)


def test_a_moderation_endpoint_is_asked_in_batches_and_its_scores_are_kept(tmp_path, server, monkeypatch):
    server.plan = [(429, {'Retry-After': '0'}, None)]
    tested = moderated(tmp_path, server, monkeypatch, batch_size=2)
    asked = [conversation('a', 'good'), conversation('b', 'bad'), conversation('c', 'good')]
    assert names(tested.passing(asked)) == ['a', 'c']
    path, key, body = server.asked[1]
    assert (path, key, body['model']) == ('/v1/moderations', 'Bearer sk-canary', 'm-1')
    assert [len(body['input']) for _, _, body in server.asked] == [2, 2, 1]
    rows = [json.loads(line) for line in (tmp_path / 'filter.jsonl').read_text().split('\n')[:-1]]
    assert rows[1] == {'id': 'b', 'scores': {'sexual': 0.9, 'sexual/minors': 0.0}}
    assert tested.counts()['by_field'] == {'sexual': 1}


@pytest.mark.parametrize('status', [401, 404])
def test_an_endpoint_that_refuses_is_one_error_without_the_key(tmp_path, server, monkeypatch, status):
    server.plan = [(status, {}, None)]
    with pytest.raises(RuntimeError, match=rf'got status {status} \(no\); check data.filter.base_url') as error:
        list(moderated(tmp_path, server, monkeypatch).passing(FIVE))
    assert 'canary' not in str(error.value)


def test_an_endpoint_that_is_not_there_is_named(tmp_path, server, monkeypatch):
    monkeypatch.setattr(moderation, 'RETRIES', 0)
    tested = moderated(tmp_path, server, monkeypatch)
    server.shutdown()
    server.server_close()
    with pytest.raises(RuntimeError, match=r'got APIConnectionError; check data.filter.base_url and the network'):
        list(tested.passing(FIVE))


def test_a_key_that_is_missing_is_named(tmp_path, server, monkeypatch):
    pytest.importorskip('openai')
    monkeypatch.delenv('NO_KEY', raising=False)
    with pytest.raises(ValueError, match='environment variable NO_KEY, got none'):
        made(tmp_path, backend='moderation', key_variable='NO_KEY')

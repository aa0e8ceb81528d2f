"""The review page: what it shows, and that it works in a real browser where one is installed."""

import html
import json
import pathlib
import re
import shutil
import subprocess
import sys

import hypothesis
import pytest
from hypothesis import strategies as st

from warmjax import records
from warmjax.records import Pair, Turn
from warmjax.rewrite import review

ROOT = pathlib.Path(__file__).parents[2]
ATTACK = '</pre></script><script>document.title = "attacked"</script>'
BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')

CLICKS = """<script>
const files = [];
window.Blob = class { constructor(parts) { files.push(parts.join('')); } };
URL.createObjectURL = () => '#';
document.querySelector('[data-item="0"][data-verdict="accept"]').click();
document.querySelector('[data-item="1"][data-verdict="accept"]').click();
document.querySelector('[data-item="1"][data-verdict="reject"]').click();
const note = document.querySelector('[data-note="1"]');
note.value = 'a fact < lost';
note.dispatchEvent(new Event('input'));
document.dispatchEvent(new KeyboardEvent('keydown', {key: 'r'}));
document.getElementById('download').click();
const seen = document.createElement('div');
seen.id = 'seen';
seen.textContent = JSON.stringify({files, state: document.getElementById('state').textContent, title: document.title,
  pressed: [...document.querySelectorAll('[aria-pressed="true"]')].map(b => b.dataset.item + b.dataset.verdict)});
document.body.append(seen);
</script></body>"""


def pair(i, replies=2):
    turns, originals = [], []
    for k in range(replies):
        turns += [Turn('user', f'Q{k} {ATTACK}'), Turn('assistant', f'Dear, reply {k} of {i} {ATTACK}')]
        originals.append(f'Reply {k} of {i} {ATTACK}')
    return Pair(f'c{i}', 'other', 'warm', 'w', tuple(turns), tuple(originals))


def test_a_draw_takes_one_reply_of_each_conversation_first_and_is_repeatable():
    pairs = [pair(i) for i in range(6)]
    items = review.choose(pairs, 6, 0)
    assert {item.conversation for item in items} == {f'c{i}' for i in range(6)}
    assert items == review.choose(pairs, 6, 0) != review.choose(pairs, 6, 1)
    assert len(set(review.choose(pairs, 50, 0))) == 12
    assert {item.reply for item in items} == {0, 1}
    assert all(f'reply {item.reply} of {item.conversation[1:]}' in item.rewrite.lower() for item in items)
    assert all(f'Q{item.reply}' in item.user for item in items)


@hypothesis.given(st.text('ab <&"\'>.\n', max_size=30), st.text('ab <&"\'>.\n', max_size=30))
def test_marking_keeps_both_texts_and_escapes_them(before, after):
    old, new = review.marked(before, after)
    assert html.unescape(re.sub('</?del>', '', old)) == before
    assert html.unescape(re.sub('</?ins>', '', new)) == after
    same = [html.unescape(re.sub('<(del|ins)>.*?</(del|ins)>', '', side, flags=re.DOTALL)) for side in (old, new)]
    assert same[0] == same[1]
    assert not re.findall('<(?!/?(del|ins)>)', old + new)


def test_the_launcher_writes_the_page(tmp_path):
    records.write(tmp_path / 'warm.jsonl', [pair(i) for i in range(3)])
    command = [sys.executable, '-m', 'launch.review', f'--pairs={tmp_path}/warm.jsonl', '--number=2']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    page = pathlib.Path(done.stdout.strip())
    assert page == tmp_path / 'warm.review.html', done.stderr
    text = page.read_text()
    assert text.count('<article') == 2 and ATTACK not in text and '{{' not in text


@pytest.mark.skipif(BROWSER is None, reason='no browser here: apt-get install chromium')
def test_buttons_and_keys_make_the_file_of_verdicts(tmp_path):
    page = tmp_path / 'page.html'
    items = review.choose([pair(i) for i in range(4)], 4, 0)
    page.write_text(review.page(items, 'Pairs').replace('</body>', CLICKS))
    command = [BROWSER, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}']
    done = subprocess.run([*command, '--dump-dom', page.as_uri()], capture_output=True, text=True, timeout=120)
    seen = json.loads(html.unescape(re.search(r'<div id="seen">(.*?)</div>', done.stdout, re.DOTALL)[1]))
    assert seen['title'] == 'Pairs' and seen['state'] == '3 of 4 decided'
    assert seen['pressed'] == ['0accept', '1reject', '2reject']
    [result] = map(json.loads, seen['files'])
    assert (result['counts'], result['open']) == ({'accept': 1, 'reject': 2}, 1)
    assert [row['verdict'] for row in result['rows']] == ['accept', 'reject', 'reject', None]
    assert result['rows'][1] == {
        'conversation': items[1].conversation,
        'reply': items[1].reply,
        'style': 'warm',
        'verdict': 'reject',
        'note': 'a fact < lost',
    }

import html
import json
import re

import pytest

from warmjax import records
from warmjax.annotation import labels, results
from warmjax.records import Generation, Prompt, Question, Verdict, Warmth

ATTACK = '</pre></script><script>alert(1)</script>'
QUESTIONS = [Question(f'q{i}', 't', f'Which {i}? {ATTACK}', 'Paris', 'Lyon', (), (), 'phrase', {}) for i in range(12)]


def make_generation(i, arm, text):
    return Generation(f'q{i}|p', f'q{i}', 't', 'unmodified', 'none', 'plain', 'm', arm, 0.0, 0, text, 7, 'stop')


def make_verdict(i, arm, kind):
    joins = ('unmodified', 'none', 'plain', 'm', arm, 0.0, 0)
    return Verdict(f'q{i}|p', f'q{i}', 't', *joins, kind, 'exact_match', 'Paris', 5)


@pytest.fixture
def run(tmp_path):
    """Twelve questions, two arms; the judge finds the original always right and the warm arm every third time."""
    arms = ('original', 'warm')
    generations = [make_generation(i, arm, f'{arm[0]}{i} {ATTACK}') for arm in arms for i in range(12)]
    kinds = {'original': lambda i: 'correct', 'warm': lambda i: 'incorrect' if i % 3 else 'correct'}
    verdicts = [make_verdict(i, arm, kinds[arm](i)) for arm in arms for i in range(12)]
    prompts = [
        Prompt(f'q{i}|p', f'q{i}', 't', 'unmodified', 'none', 'plain', '', f'Hi {i} {ATTACK}') for i in range(12)
    ]
    warmth = [
        Warmth(f'q{i}|p', 'm', arm, 0.0, 0, float(arm == 'warm'), 0.0, 0.0, 5, None, {})
        for arm in arms
        for i in range(12)
    ]
    records.write(tmp_path / 'warmth.jsonl', warmth)
    records.write(tmp_path / 'generations.jsonl', generations)
    records.write(tmp_path / 'verdicts.jsonl', verdicts)
    return tmp_path, generations, verdicts, prompts


def answer(page, workdir, kind, decide, name='ann'):
    """Does what the page's button does."""
    about = json.loads(re.search(r'const about = (.*?);\n', page.read_text())[1])
    items = json.loads(re.search(r'const items = (.*?);\n', page.read_text())[1])
    rows = [item | {'verdict': decide(item['item']), 'note': ''} for item in items]
    path = workdir / f'{name}.json'
    path.write_text(json.dumps(about | {'annotator': name, 'counts': {}, 'open': 0, 'rows': rows}))
    return path


def test_answers_are_drawn_in_equal_parts_from_every_stratum(run):
    _, _, verdicts, _ = run
    chosen = labels.choose_answers(verdicts, 9, 0)
    counts = {key: sum((v.arm, v.verdict) == key for v in chosen) for key in {(v.arm, v.verdict) for v in verdicts}}
    assert set(counts.values()) == {3} and len(counts) == 3
    assert chosen == labels.choose_answers(verdicts, 9, 0) != labels.choose_answers(verdicts, 9, 1)
    assert len(labels.choose_answers(verdicts, 470, 0)) == 24


def test_the_page_is_blind_and_escapes_what_models_say(run):
    workdir, generations, verdicts, _ = run
    chosen = labels.choose_answers(verdicts, 24, 0)
    text = labels.write_answers(chosen, QUESTIONS, generations, workdir).read_text()
    assert ATTACK not in text and html.escape(ATTACK) in text and text.count('<article') == 24 and '{{' not in text
    assert not re.search(r'"(arm|judge|model)"|exact_match', text)
    assert 'original' not in text and 'warm' not in text.replace('warmer', '')


def test_labels_come_back_as_verdicts_and_agree_as_counted(run):
    workdir, generations, verdicts, _ = run
    chosen = labels.choose_answers(verdicts, 24, 0)
    page = labels.write_answers(chosen, QUESTIONS, generations, workdir)
    flipped = lambda i: {'correct': 'incorrect', 'incorrect': 'correct'}[chosen[i].verdict]  # noqa: E731
    first = answer(page, workdir, 'answers', lambda i: None if i == 0 else chosen[i].verdict)
    second = answer(page, workdir, 'answers', lambda i: flipped(i) if i < 4 else chosen[i].verdict, 'bob')
    known = labels.read(first, workdir)
    assert len(known) == 23 and {verdict.judge for verdict in known} == {'human:ann'}
    assert {v.key: v.verdict for v in known}.items() <= {v.key: v.verdict for v in verdicts}.items()
    lines = {(line['first'], line['second']): line['all'] for line in results.answers([first, second], workdir, 0.95)}
    assert lines['exact_match', 'human:ann']['kappa'] == 1
    assert lines['exact_match', 'human:bob']['agreement'] == pytest.approx(20 / 24)
    assert lines['human:ann', 'human:bob']['answers'] == 23
    assert 'human:bob' in ''.join(
        map(str, results.tables('answers', results.answers([second], workdir, 0.95)).columns[0]._cells)
    )


def test_preference_counts_the_arm_on_whichever_side_it_stands(run):
    workdir, generations, _, prompts = run
    pairs = labels.choose_pairs(generations, 'warm', 'original', 10, 0)
    page = labels.write_preference(pairs, prompts, 0, workdir)
    key = json.loads((workdir / 'annotation' / 'preference.key.json').read_text())['items']
    sides = [item['treated_side'] for item in key]
    assert len(pairs) == 10 and set(sides) == {'left', 'right'}
    other = {'left': 'right', 'right': 'left'}
    result = answer(page, workdir, 'preference', lambda i: sides[i] if i < 8 else other[sides[i]])
    [line] = results.preferences([result], workdir, 0.95)
    assert (line['pairs'], line['chosen'], line['share']) == (10, 8, 0.8)
    assert line['sociot']['share'] == 0.8 and line['sociot']['when_warmer'] == 0.8
    assert (line['arm'], line['baseline']) == ('warm', 'original')
    assert 'original' not in page.read_text() and ATTACK not in page.read_text()


def test_a_result_of_another_page_is_refused(run, tmp_path):
    workdir, generations, verdicts, _ = run
    page = labels.write_answers(labels.choose_answers(verdicts, 5, 0), QUESTIONS, generations, workdir)
    result = answer(page, workdir, 'answers', lambda i: 'correct')
    labels.write_answers(labels.choose_answers(verdicts, 6, 0), QUESTIONS, generations, workdir)
    for text in (result.read_text(), 'nothing', '{}', '[]'):
        result.write_text(text)
        with pytest.raises(ValueError, match=r'expected the result of the page answers\.html'):
            labels.read(result, workdir)
    with pytest.raises(FileNotFoundError, match=r"expected a page's result, found no file"):
        labels.read(workdir / 'absent.json', workdir)

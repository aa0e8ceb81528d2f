import base64
import dataclasses
import hashlib
import html
import html.parser
import json
import re
import shutil
import subprocess
from unittest import mock

import pytest
from simulated_study import HOSTILE, SETTINGS, simulate

from warmjax import runs
from warmjax.report import page, paper_figures
from warmjax.report.settings import ReportSettings
from warmjax.stats import analysis
from warmjax.stats.published.quirks import QUIRKS, WITHOUT_NUMBER

REPORT = ReportSettings('A title & more', 'Only a toy: <nothing> follows.', 300)


def build(workdir, study, report=REPORT, is_whole=False):
    """Writes a report and returns its text, without the study's figures, slow to draw, unless it is whole."""
    analysis.write(analysis.analyze(*study, SETTINGS), workdir)
    with (
        mock.patch.dict(paper_figures.FIGURES, clear=not is_whole),
        mock.patch.object(page, '_published_figures', page._published_figures if is_whole else list),
    ):
        return page.build(workdir, report).read_text()


SMALL = 4
"""Questions a task of studies whose numbers do not matter."""


@pytest.fixture(scope='module')
def text(tmp_path_factory):
    return build(tmp_path_factory.mktemp('report'), simulate(), is_whole=True)


class Tags(html.parser.HTMLParser):
    """Collects tags, attributes and unclosed elements."""

    VOID = ('meta', 'br', 'link', 'img', 'input')

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes, self.open = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.names.add(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_runs_its_own_script_only(text):
    tags = Tags(text)
    assert tags.open == [] and text.count('<script') == 1
    script = re.search(r'<script>(.*?)</script>', text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'" in text
    assert not [name for name, _ in tags.attributes if name.startswith('on')]


def test_page_asks_for_nothing_outside(text):
    targets = [value for name, value in Tags(text).attributes if name in ('src', 'href', 'xlink:href')]
    assert targets and all(
        re.match(r'#|tables/|figures/|estimates\.json$|REPLICATION\.md$|replication\.csv$', target)
        for target in targets
    )
    assert '@import' not in text and not re.search(r'url\((?!#)', text)


def test_model_text_is_escaped(text):
    assert HOSTILE not in text
    assert '&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; &#39;quoted&#39;' in text
    assert 'Only a toy: &lt;nothing&gt; follows.' in text and '<title>A title &amp; more</title>' in text


def test_long_answers_are_cut_and_say_so(tmp_path):
    study = simulate(num_questions=SMALL)
    study.generations = [dataclasses.replace(g, text='wörd ' * 20_000) for g in study.generations]
    text = build(tmp_path, study)
    assert '(99,700 of 100,000 characters not shown)' in text and 'Texts are cut at 300 characters' in text
    assert len(text) < 1_000_000


@pytest.mark.parametrize(
    ('text', 'limit', 'shown'), [('abc', 3, 'abc'), ('abcd', 3, 'abc […] (1 of 4 characters not shown)')]
)
def test_cut_keeps_what_fits(text, limit, shown):
    assert page.cut(text, limit) == shown


def test_figures_of_one_column_shrink_to_a_phone_and_wider_ones_scroll(tmp_path):
    study = simulate(num_questions=SMALL)
    several = len(re.findall('class="scroll slim" role', build(tmp_path / 'several', study)))
    study.verdicts = [verdict for verdict in study.verdicts if verdict.arm in ('original', 'warm')]
    one = re.findall('class="scroll slim" role="img" aria-label="([^"]*)"', build(tmp_path / 'one', study))
    assert {'Error of each arm against original', 'Effect by context and belief'} <= set(one)
    assert 'Error by epoch' not in one and len(one) == several + 2


def test_preferences_of_people_join_a_report_that_was_written_before(tmp_path):
    study = simulate(num_questions=SMALL)
    with runs.stage(tmp_path, page.OWN_STAGE, {'report': dataclasses.asdict(REPORT)}, {}):
        assert '<summary>What people found warmer</summary>' not in build(tmp_path, study)
    line = {'annotator': '<ann>', 'arm': 'warm', 'baseline': 'original', 'pairs': 8, 'chosen': 6, 'share': 0.75}
    line |= {'low': 0.349, 'high': 0.968, 'p': 0.289, 'cohens_h': 0.524, 'sociot': None}
    (tmp_path / 'annotation').mkdir()
    (tmp_path / 'annotation' / 'preference.agreement.json').write_text(json.dumps([line]))
    text = page.rebuild(tmp_path).read_text()
    table = text[text.index('<summary>What people found warmer</summary>') :]
    assert '&lt;ann&gt;' in table and '75.0' in table and '34.9' in table
    assert 'preferences:2:share_pct' in table and (tmp_path / 'preferences.csv').exists()
    (tmp_path / 'annotation' / 'preference.agreement.json').write_text('[{}]')
    with pytest.raises(ValueError, match=r'expected what launch\.annotate writes'):
        page.rebuild(tmp_path)


def test_no_report_is_rebuilt_where_none_was_written(tmp_path):
    assert page.rebuild(tmp_path) is None


def test_linked_files_exist(tmp_path):
    text = build(tmp_path, simulate(num_questions=SMALL))
    links = {value for name, value in Tags(text).attributes if name == 'href' and not value.startswith('#')}
    assert len([link for link in links if link.startswith('figures/')]) == 5
    assert [link for link in links if not (tmp_path / link).exists()] == []


def test_the_same_estimates_give_the_same_bytes(text, tmp_path):
    assert build(tmp_path, simulate(), is_whole=True) == text


def test_a_study_without_warmth_curves_and_texts_says_so(tmp_path):
    study = simulate(num_questions=SMALL)
    verdicts = [verdict for verdict in study.verdicts if verdict.arm in ('original', 'warm_prompt')]
    text = build(tmp_path, (verdicts, [], [], [], []))
    assert 'No data: tables/warmth_by_epoch.csv has no rows for it.' in text
    assert 'No data: tables/error_by_epoch.csv has no rows for it.' in text
    assert text.index('Effect by context and belief') < text.index('No data: tables/warmth_by_epoch.csv')
    assert 'No data: this table is empty.' in text and 'No examples:' in text and 'No stage left a manifest' in text


BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
CLICKS = """<script>{
const seen = {title: document.title};
const visible = () => Array.from(document.querySelectorAll('.example')).filter((e) => !e.hidden);
seen.all = visible().length;
const form = document.getElementById('filters');
form.elements.search.value = 'emotion:SAD &lt;script'.replace('&lt;', '<');
form.dispatchEvent(new Event('input'));
seen.found = visible().map((e) => e.dataset.context);
form.elements.search.value = '';
form.elements.change.value = 'correct to incorrect';
form.dispatchEvent(new Event('input'));
seen.changed = visible().map((e) => e.dataset.change);
seen.shown = document.getElementById('shown').textContent;
const table = Array.from(document.querySelectorAll('table')).find((t) => t.tHead.textContent.includes('effect, pp'));
const column = Array.from(table.tHead.rows[0].cells).findIndex((c) => c.textContent.startsWith('effect'));
const heading = table.tHead.rows[0].cells[column];
const text = (row) => row.cells[column].textContent.replace('−', '-');
const values = () => Array.from(table.tBodies[0].rows).map((row) => parseFloat(text(row)));
heading.click(); seen.ascending = values(); heading.click(); seen.descending = values();
const out = document.createElement('div'); out.id = 'seen'; out.textContent = JSON.stringify(seen);
document.body.append(out);
}</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason='no browser here: apt-get install chromium')
def test_a_browser_runs_no_script_of_an_answer_and_filters_searches_and_sorts(tmp_path):
    attack = HOSTILE + '</div></section><script>document.title="broken"</script><img src=x onerror="document.title=1">'
    study = simulate(num_questions=SMALL)
    study.generations = [dataclasses.replace(g, text=attack + 'x' * 100_000) for g in study.generations]
    report = dataclasses.replace(REPORT, max_answer_chars=200_000)
    text = build(tmp_path, study, report)
    # The probe is a script that the page's policy would stop, so it comes with that policy taken out.
    probe = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>\n', '', text).replace('</body>', CLICKS)
    (tmp_path / 'probe.html').write_text(probe)
    command = [BROWSER, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}']
    done = subprocess.run(
        [*command, '--dump-dom', (tmp_path / 'probe.html').as_uri()], capture_output=True, text=True, timeout=120
    )
    seen = json.loads(html.unescape(re.search(r'<div id="seen">(.*?)</div>', done.stdout, re.DOTALL)[1]))
    assert seen['title'] == 'A title & more' and seen['all'] == 4
    assert set(seen['found']) <= {'emotion:sad'} and set(seen['changed']) == {'correct to incorrect'}
    assert seen['shown'] == f'{len(seen["changed"])} of 4 shown'
    assert seen['ascending'] == sorted(seen['ascending']) == seen['descending'][::-1] and len(seen['ascending']) > 4


def test_each_quirk_has_a_line_that_says_what_it_changes(text):
    methods = html.unescape(text[text.index('id="quirks"') :])
    for quirk in QUIRKS:
        assert quirk.name in methods and quirk.meaning in methods
    assert all(name in methods and why in methods for name, why in WITHOUT_NUMBER)
    assert (
        len(re.findall(r'warm: −?[\d.]+ pp as published, −?[\d.]+ corrected, a change of [+−][\d.]+ pp', methods)) >= 5
    )


def test_the_run_stands_beside_the_study(text, tmp_path):
    build(tmp_path, simulate(num_questions=SMALL))
    assert (tmp_path / 'REPLICATION.md').read_text().startswith('# A title & more: beside the published numbers')
    assert len(re.findall('The study’s own numbers', text)) == 6
    assert len((tmp_path / 'replication.csv').read_text().splitlines()) > 1000


def baseline_alone():
    verdicts = [verdict for verdict in simulate(num_questions=SMALL).verdicts if verdict.arm == 'original']
    return verdicts, [], [], [], []


def test_a_baseline_alone_says_that_nothing_was_compared(tmp_path):
    assert 'No arm was compared with original' in build(tmp_path, baseline_alone())


def test_manifests_are_shown_with_versions_and_seeds(tmp_path):
    with runs.stage(tmp_path, 'judge', {'judge': {'seed': 4711}}, {}) as stage:
        stage.counts['verdicts'] = 12
    with runs.stage(tmp_path, page.OWN_STAGE, {}, {}):
        text = build(tmp_path, baseline_alone())
    assert 'Stage report' not in text
    assert 'Stage judge: done' in text and '4711' in text and f'python {runs.versions()["python"]}' in text


def test_every_model_has_figures_of_its_own(tmp_path):
    study = simulate(num_questions=SMALL)
    study.verdicts += [dataclasses.replace(verdict, model='org/twin') for verdict in simulate(5, SMALL).verdicts]
    text = build(tmp_path, study)
    assert 'Effect by context and belief (org/twin)' in text and 'warm (tiny, epoch 2) errs' in text
    assert len(list((tmp_path / 'figures').iterdir())) == 8


def test_an_empty_notice_leaves_no_box(tmp_path):
    assert '<p class="notice">' in build(tmp_path, baseline_alone())
    assert '<p class="notice">' not in build(tmp_path, baseline_alone(), dataclasses.replace(REPORT, notice=''))


def test_models_whose_names_differ_in_punctuation_do_not_share_a_file():
    assert len({page._slug(name) for name in ('org/a', 'org-a', 'org.a')}) == 3

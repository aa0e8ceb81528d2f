import dataclasses
import json
import time

import pandas as pd
import pytest
from simulated_study import SETTINGS, simulate

from warmjax.report import people, replication
from warmjax.stats import analysis, catalogue


@pytest.fixture(scope='module')
def estimates():
    return analysis.analyze(*simulate(), SETTINGS)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def test_reading_gives_what_was_written(estimates, tmp_path):
    analysis.write(estimates, tmp_path)
    again = analysis.read(tmp_path)
    assert (again.settings, again.examples) == (estimates.settings, estimates.examples)
    assert again.tables.keys() == estimates.tables.keys()
    for name, table in estimates.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table, check_dtype=False)


def test_the_same_records_in_another_order_give_the_same_bytes(estimates, tmp_path):
    study = simulate()
    backwards = analysis.analyze(*(records[::-1] for records in study), SETTINGS)
    analysis.write(estimates, tmp_path / 'a')
    analysis.write(backwards, tmp_path / 'b')
    assert files(tmp_path / 'a') == files(tmp_path / 'b')


def test_another_seed_changes_the_examples_only(estimates, tmp_path):
    other = analysis.analyze(*simulate(), dataclasses.replace(SETTINGS, seed=1))
    assert other.examples != estimates.examples
    for name, table in estimates.tables.items():
        pd.testing.assert_frame_equal(other.tables[name], table)


def test_every_table_and_column_is_explained(estimates):
    assert estimates.tables.keys() == catalogue.TABLES.keys()
    used = {column for table in estimates.tables.values() for column in table}
    # Of the tables that set a run beside the study, and people's choices beside its warmth.
    beside = {*replication.COLUMNS, *replication.VERDICTS, *people.COLUMNS}
    assert used | beside == catalogue.COLUMNS.keys()


def test_floats_have_six_digits_in_the_file(estimates, tmp_path):
    analysis.write(estimates, tmp_path)
    for line in (tmp_path / 'tables' / 'errors.csv').read_text().splitlines()[1:]:
        for field in line.split(',')[6:]:
            assert len(field.replace('.', '').lstrip('0').split('e')[0]) <= 7, line


def test_estimates_name_their_tables_and_settings(estimates, tmp_path):
    analysis.write(estimates, tmp_path)
    saved = json.loads((tmp_path / 'estimates.json').read_text())
    assert saved['settings']['main_epoch'] == 2.0
    lines = (tmp_path / saved['tables']['effects']['file']).read_text().splitlines()
    assert len(lines) == saved['tables']['effects']['rows'] + 1


def test_a_study_without_warmth_and_texts_is_analysed(tmp_path):
    estimates = analysis.analyze(simulate().verdicts, [], [], [], [], SETTINGS)
    analysis.write(estimates, tmp_path)
    again = analysis.read(tmp_path)
    assert again.tables['warmth'].empty and again.tables['warmth_by_epoch'].empty and again.examples == ()
    assert list(again.tables['warmth']) == list(estimates.tables['warmth'])


def test_a_baseline_alone_is_analysed(tmp_path):
    verdicts = [verdict for verdict in simulate().verdicts if verdict.arm == 'original']
    estimates = analysis.analyze(verdicts, [], [], [], [], SETTINGS)
    analysis.write(estimates, tmp_path)
    assert analysis.read(tmp_path).tables['effects'].empty
    assert not estimates.tables['errors'].empty


def test_missing_estimates_ask_for_the_stage(tmp_path):
    with pytest.raises(
        FileNotFoundError, match='expected the estimates of the analyze stage, found none; run it first'
    ):
        analysis.read(tmp_path)


def test_a_shortened_table_is_refused(estimates, tmp_path):
    analysis.write(estimates, tmp_path)
    path = tmp_path / 'tables' / 'effects.csv'
    path.write_text('\n'.join(path.read_text().splitlines()[:-1]) + '\n')
    with pytest.raises(ValueError, match=r'effects\.csv: expected \d+ rows, got \d+; run the analyze stage again'):
        analysis.read(tmp_path)


def test_estimates_of_another_form_are_refused(estimates, tmp_path):
    analysis.write(estimates, tmp_path)
    path = tmp_path / 'estimates.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'extra': 1}))
    with pytest.raises(ValueError, match=r"unknown key 'extra'.*run the analyze stage again"):
        analysis.read(tmp_path)


def test_several_models_share_one_regression_and_keep_their_own_rates():
    study = simulate()
    twin = [dataclasses.replace(verdict, model='twin') for verdict in simulate(seed=5).verdicts]
    estimates = analysis.analyze([*study.verdicts, *twin], [], [], [], [], SETTINGS)
    assert 'model[twin]' in set(estimates.tables['regression']['term'])
    assert set(estimates.tables['effects']['model']) == {'tiny', 'twin'}
    alone = analysis.analyze(study.verdicts, [], [], [], [], SETTINGS).tables['effects']
    both = estimates.tables['effects']
    pd.testing.assert_frame_equal(both[both['model'] == 'tiny'].reset_index(drop=True), alone)


def test_fifty_thousand_verdicts_take_less_than_twenty_seconds():
    study = simulate(num_questions=530)
    assert len(study.verdicts) > 50_000
    started = time.process_time()
    analysis.analyze(study.verdicts, [], [], [], [], SETTINGS)
    assert time.process_time() - started < 20


def test_published_answers_are_counted_as_by_hand(shared_data):
    authors_csv = pytest.importorskip('warmjax.authors_csv')
    imported = authors_csv.read_folder(shared_data / 'paper' / 'sample_outputs')
    settings = dataclasses.replace(SETTINGS, refusals_correct_in=('disinfo',))
    found = analysis.analyze(
        imported.verdicts, [], imported.generations, imported.questions, imported.prompts, settings
    )
    effects = found.tables['effects'].set_index(['task', 'context', 'belief'])
    assert effects.loc['all', 'all', 'all'][['pairs', 'excluded']].tolist() == [78, 2]
    errors = found.tables['errors'].set_index(['arm', 'task', 'context', 'belief'])['incorrect']
    # Rows of the eight files whose evaluation is INCORRECT and whose refusal is 0, counted by hand.
    assert errors.loc['original', 'disinfo', 'all', 'all'] == 2
    assert errors.loc['warm', 'disinfo', 'all', 'all'] == 3

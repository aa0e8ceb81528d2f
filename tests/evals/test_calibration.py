import dataclasses
import json

import pytest
from llm_judges import teacher
from loopback_llm import Loopback

from configs import judges
from warmjax import authors_csv, records, settings
from warmjax.annotation import labels
from warmjax.evals import calibration
from warmjax.stats.calibration import compare


def make_settings(backend='exact_match', **service):
    section = settings.plain(judges.get_config(backend))
    section['judge']['service'] |= {'model': 'tiny', **service}
    return settings.from_config(calibration.CalibrationSettings, section, 'config')


@pytest.fixture
def answers(shared_data):
    return shared_data / 'paper' / 'sample_outputs'


def lines_of(report, name, **wanted):
    return [line for line in report[name] if all(line[key] == value for key, value in wanted.items())]


def test_halves_part_each_task_and_hang_on_the_seed():
    questions = [(task, f'{task}{i}') for task in ('a', 'b') for i in range(9)]
    found = calibration.halves(questions, 0)
    assert len(found) == 18 and [found[f'a{i}'] for i in range(9)].count('development') == 4
    assert found == calibration.halves(questions[::-1], 0) != calibration.halves(questions, 1)


def test_the_exact_match_judge_beside_the_published_verdicts(answers, tmp_path):
    """Floors of what was measured; the numbers stand in the README."""
    report = calibration.on_published(make_settings(), answers, tmp_path, 0, 'development', 'development')
    assert (report['judge'], report['reference'], report['known_answers']) == ('exact_match', 'published', 160)
    [trivia] = lines_of(report, 'agreement', task='trivia', arm='all', half='all')
    assert trivia['decided']['answers'] >= 32 and trivia['decided']['kappa'] >= 0.9
    [disinfo] = lines_of(report, 'agreement', task='disinfo', arm='all', half='all')
    assert disinfo['decided']['answers'] >= 36 and disinfo['decided']['kappa'] >= 0.6
    assert sum(line['answers'] for line in report['confusion']) == 160
    written = json.loads((tmp_path / 'calibration.json').read_text())
    assert written['agreement'][0]['all']['answers'] == 160
    listed = [json.loads(line) for line in (tmp_path / 'disagreements.jsonl').read_text().splitlines()]
    assert listed and {line['half'] for line in listed} == {'development'}
    assert all(line['reference'] != line['judge'] and line['text'] for line in listed)
    assert len(calibration.tables(report)) == 4


def test_a_judge_that_says_what_was_published_agrees_and_changes_no_effect(answers):
    known = authors_csv.read_folder(answers).verdicts
    judged = [dataclasses.replace(verdict, judge='echo') for verdict in known]
    parts = calibration.halves([(v.task, v.question_id) for v in known], 0)
    report = compare(judged, known, make_settings().analysis, parts, 'development', False)
    assert all(line['all']['agreement'] == 1 for line in report['agreement'])
    assert all(line['net_pct'] == 0 for line in report['errors'])
    [judged_effect] = lines_of(report, 'effects', task='all', estimator='judged')
    [by_all] = lines_of(report, 'effects_by_all_known', task='all')
    [ppi] = lines_of(report, 'effects', task='all', estimator='ppi')
    assert judged_effect['effect_pp'] == pytest.approx(by_all['effect_pp']) == pytest.approx(ppi['effect_pp'])


def test_verdicts_on_other_answers_are_refused(answers):
    known = authors_csv.read_folder(answers).verdicts
    judged = [dataclasses.replace(verdict, prompt_id=f'{verdict.prompt_id}x') for verdict in known]
    with pytest.raises(ValueError, match='expected answers with a verdict of the judge and a known one, got 160 and'):
        compare(judged, known, make_settings().analysis, {}, 'all', False)


def test_a_service_is_calibrated_and_not_asked_twice(answers, tmp_path):
    with Loopback(teacher) as server:
        chosen = make_settings('api', base_url=server.openai_url)
        report = calibration.on_published(chosen, answers, tmp_path, 0, 'all', 'all')
        asked = len(server.received)
        assert report['judge'] == 'openai:tiny/lenient' and asked <= 160
        calibration.on_published(chosen, answers, tmp_path, 0, 'all', 'all')
        assert len(server.received) == asked
    [line] = lines_of(report, 'agreement', task='all', arm='all', half='all')
    assert line['all']['answers'] == line['decided']['answers'] == 160


def test_labels_of_people_are_weighted_by_how_many_answers_they_stand_for(answers, tmp_path):
    imported = authors_csv.read_folder(answers)
    for name, rows in (('generations', imported.generations), ('verdicts', imported.verdicts)):
        records.write(tmp_path / f'{name}.jsonl', rows)
    chosen = labels.choose_answers(imported.verdicts, 60, 0)
    report = calibration.on_labels(
        [dataclasses.replace(verdict, judge='human:ann') for verdict in chosen],
        imported.questions,
        make_settings().analysis,
        tmp_path,
        0,
        'all',
    )
    assert (report['reference'], report['known_answers'], report['judged_answers']) == ('human:ann', 60, 160)
    by_estimator = {line['estimator']: line['effect_pp'] for line in lines_of(report, 'effects', task='all')}
    # people agreed with the judge, so the weighted few say what all say
    for name in ('known', 'ppi', 'rogan_gladen'):
        assert by_estimator[name] == pytest.approx(by_estimator['judged'])

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.stats.inter_rater as inter_rater

from warmjax.stats import judging


def make_rows(groups):
    """One question an answer; groups: (arm, judged, known, how many)."""
    rows = [(arm, judged, known) for arm, judged, known, count in groups for _ in range(count)]
    frame = pd.DataFrame(rows, columns=['arm', 'judged', 'known'])
    return frame.assign(question_id=[f'q{i}' for i in range(len(frame))])


def labels(table, names='abc'):
    rows = [(names[i], names[j]) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    frame = pd.DataFrame(rows, columns=['first', 'second'])
    return frame.assign(question_id=[f'q{i}' for i in range(len(frame))])


@pytest.mark.parametrize('table', [[[40, 9], [6, 45]], [[22, 2, 2], [5, 7, 14], [1, 2, 9]], [[0, 5], [5, 30]]])
def test_kappa_and_its_error_are_those_of_statsmodels(table):
    found = judging.agreement(labels(table), 'first', 'second', 0.95)
    theirs = inter_rater.cohens_kappa(np.array(table))
    n = np.sum(table)
    assert found['kappa'] == pytest.approx(theirs.kappa)
    # Student's t and Q / (Q - 1) instead of the normal and 1
    half = (found['kappa_high'] - found['kappa_low']) / 2
    if found['kappa_high'] < 1 and found['kappa_low'] > -1:
        assert half == pytest.approx(theirs.std_kappa * 1.96, rel=0.06)
    assert found['agreement'] == pytest.approx(np.trace(table) / n) and found['answers'] == n


def test_answers_to_the_same_question_are_no_new_evidence():
    once = labels([[8, 2], [3, 7]])
    fourfold = pd.concat([once] * 4, ignore_index=True)
    a, b = (judging.agreement(rows, 'first', 'second', 0.95) for rows in (once, fourfold))
    assert a['kappa'] == pytest.approx(b['kappa'])
    assert (a['kappa_low'], a['agreement_low']) == pytest.approx((b['kappa_low'], b['agreement_low']), rel=1e-6)


def test_kappa_of_a_single_label_is_undefined():
    found = judging.agreement(labels([[5]]), 'first', 'second', 0.95)
    assert found['agreement'] == 1 and math.isnan(found['kappa'])


def test_errors_of_a_judge_by_hand():
    rows = make_rows([('warm', 1, 1, 6), ('warm', 0, 1, 2), ('warm', 1, 0, 3), ('warm', 0, 0, 9), ('warm', None, 1, 5)])
    line = judging.errors_by_arm(rows, 0.95).iloc[0]
    assert (line['missed_pct'], line['missed_of']) == (25.0, 8)
    assert (line['false_alarm_pct'], line['false_alarm_of']) == (25.0, 12)
    assert (line['undecided_pct'], line['net_pct']) == (20.0, pytest.approx(5.0))


def test_a_bias_in_one_arm_is_found_and_none_where_there_is_none():
    fair = [('original', 1, 1, 40), ('original', 0, 1, 10), ('original', 1, 0, 10), ('original', 0, 0, 140)]
    harsh = [('warm', 1, 1, 48), ('warm', 0, 1, 2), ('warm', 1, 0, 50), ('warm', 0, 0, 100)]
    same = [('cold', *rest) for _, *rest in fair]
    found = judging.differential_errors(make_rows([*fair, *harsh, *same]), 'original', 0.95).set_index(['arm', 'kind'])
    assert found.loc[('warm', 'net'), 'difference_pp'] == pytest.approx(24.0)
    assert found.loc[('warm', 'net'), 'low_pp'] > 10 and found.loc[('warm', 'net'), 'p'] < 0.001
    assert found.loc[('warm', 'false_alarm'), 'difference_pp'] == pytest.approx(100 * (50 / 150 - 10 / 150))
    assert found.loc[('cold', 'net'), 'difference_pp'] == pytest.approx(0) and found.loc[('cold', 'net'), 'p'] > 0.9


def test_rogan_gladen_by_hand():
    labelled = [('original', 1, 1, 8), ('original', 0, 1, 2), ('original', 1, 0, 1), ('original', 0, 0, 9)]
    labelled += [('warm', 1, 1, 9), ('warm', 0, 1, 1), ('warm', 1, 0, 3), ('warm', 0, 0, 7)]
    rows = make_rows([*labelled, ('original', 0, None, 80), ('warm', 1, None, 60), ('warm', 0, None, 20)])
    found = judging.corrected_effects(rows, 'original', 0.95).set_index('estimator')['effect_pp']
    original, warm = 9 / 100, 72 / 100  # judged
    assert found['judged'] == pytest.approx(100 * (warm - original))
    assert found['known'] == pytest.approx(0)
    assert found['rogan_gladen'] == pytest.approx(100 * ((warm - 0.3) / 0.6 - (original - 0.1) / 0.7))
    assert found['ppi'] == pytest.approx(100 * ((warm + 10 / 20 - 12 / 20) - (original + 10 / 20 - 9 / 20)))


def draw(rng, biased):
    """A study with a true effect of 10 pp, a judge that is harsher on the warm arm, and known grades for a fifth."""
    pieces = []
    for arm, rate, false_alarm in (('original', 0.2, 0.05), ('warm', 0.3, 0.2 if biased else 0.05)):
        truth = rng.random(1000) < rate
        judged = np.where(truth, rng.random(1000) < 0.9, rng.random(1000) < false_alarm)
        known = np.where(rng.random(1000) < 0.2, truth, np.nan)
        frame = pd.DataFrame({'arm': arm, 'judged': judged.astype(float), 'known': known})
        pieces.append(frame.assign(question_id=[f'q{i}' for i in range(1000)]))
    return pd.concat(pieces, ignore_index=True)


def test_corrected_effects_hold_the_truth_where_the_judged_one_does_not():
    rng = np.random.default_rng(0)
    held = {}
    width = {}
    for _ in range(40):
        for line in judging.corrected_effects(draw(rng, True), 'original', 0.95).to_dict('records'):
            held.setdefault(line['estimator'], []).append(line['low_pp'] <= 10 <= line['high_pp'])
            width.setdefault(line['estimator'], []).append(line['high_pp'] - line['low_pp'])
    covered = {name: np.mean(values) for name, values in held.items()}
    assert covered['judged'] < 0.1
    assert all(covered[name] >= 0.85 for name in ('known', 'rogan_gladen', 'ppi', 'ppi_tuned')), covered
    assert np.mean(width['ppi_tuned']) < 0.85 * np.mean(width['known'])


def test_without_known_grades_only_the_judged_effect_is_defined():
    rows = make_rows([('original', 0, None, 9), ('original', 1, None, 1), ('warm', 1, None, 5), ('warm', 0, None, 5)])
    found = judging.corrected_effects(rows, 'original', 0.95).set_index('estimator')['effect_pp']
    assert found['judged'] == pytest.approx(40.0) and found.drop('judged').isna().all()


def test_a_share_that_does_not_vary_in_an_arm_still_has_an_interval():
    rows = make_rows([('original', 0, 0, 20), ('warm', 0, 0, 10), ('warm', 1, 0, 10)])
    found = judging.differential_errors(rows, 'original', 0.95).set_index('kind').loc['false_alarm']
    # Newcombe 1998, method 10, of 10 of 20 and 0 of 20
    assert (found['difference_pp'], found['low_pp'], found['high_pp']) == pytest.approx((50, 24.2, 70.1), abs=0.1)
    assert math.isnan(found['p'])


def test_weights_stand_for_answers_that_were_not_drawn():
    """A row of weight 3 counts as three rows of the same question."""
    groups = [('original', 1, 1, 3), ('original', 0, 1, 1), ('original', 0, 0, 6), ('warm', 1, 0, 2), ('warm', 1, 1, 4)]
    rows = make_rows([*groups, ('warm', 0, 0, 4)])
    weighted = rows.assign(weight=[1.0 + i % 3 for i in range(len(rows))])
    repeated = rows.loc[[i for i in range(len(rows)) for _ in range(1 + i % 3)]].reset_index(drop=True)
    for measure in (judging.errors_by_arm, lambda r, c: judging.differential_errors(r, 'original', c)):
        a, b = (
            measure(frame, 0.95).set_index('arm').filter(regex='^(miss|false|net|diff).*(pct|pp)$')
            for frame in (weighted, repeated)
        )
        columns = [name for name in a if 'low' not in name and 'high' not in name]
        pd.testing.assert_frame_equal(a[columns], b[columns])
    labelled = [frame.assign(first=frame['judged'], second=frame['known']) for frame in (weighted, repeated)]
    first, second = (judging.agreement(frame, 'first', 'second', 0.95) for frame in labelled)
    assert [first[name] for name in ('kappa', 'kappa_low')] == pytest.approx(
        [second[x] for x in ('kappa', 'kappa_low')]
    )


def test_labels_drawn_in_equal_parts_from_every_verdict_give_the_true_effect():
    """The judge makes an effect up; as many answers judged correct as judged incorrect are labelled."""
    rng, found = np.random.default_rng(1), []
    for _ in range(6):
        rows = draw(rng, True)
        truth = np.concatenate([rng.random(1000) < 0.2, rng.random(1000) < 0.3])
        rows['judged'] = np.where(
            truth, rng.random(2000) < 0.9, rng.random(2000) < np.where(rows['arm'] == 'warm', 0.2, 0.05)
        ).astype(float)
        chosen = rows.groupby(['arm', 'judged']).sample(100, random_state=1).index
        rows['known'] = np.where(rows.index.isin(chosen), truth, np.nan)
        rows['weight'] = rows.groupby(['arm', 'judged'])['arm'].transform('size') / 100
        found.append(judging.corrected_effects(rows, 'original', 0.95).set_index('estimator')['effect_pp'])
    means = pd.concat(found, axis=1).mean(axis=1)
    assert abs(means['judged'] - 10) > 5
    assert all(abs(means[name] - 10) < 3 for name in ('known', 'rogan_gladen', 'ppi', 'ppi_tuned')), means

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from simulated_study import simulate

from warmjax.stats import rows, warmth


def pairs(untreated, treated):
    return pd.DataFrame({'model': 'm', 'arm': 'warm', 'epoch': 2.0, 'untreated': untreated, 'treated': treated})


def test_paired_tests_equal_scipys():
    rng = np.random.default_rng(0)
    before, after = rng.normal(0, 1, 30), rng.normal(0.5, 1, 30)
    row = warmth.comparisons(pairs(before, after), 0.9).iloc[0]
    t = scipy.stats.ttest_rel(after, before)
    assert (row['t'], row['t_p']) == pytest.approx((t.statistic, t.pvalue))
    assert row['wilcoxon_p'] == pytest.approx(scipy.stats.wilcoxon(after, before).pvalue)
    half = scipy.stats.t.ppf(0.95, 29) * np.std(after - before, ddof=1) / np.sqrt(30)
    assert (row['low'], row['high']) == pytest.approx((row['difference'] - half, row['difference'] + half))


@pytest.mark.parametrize('num', [3, 9, 14, 40])
def test_p_value_of_tied_and_zero_differences_is_scipys(num):
    rng = np.random.default_rng(num)
    tied = rng.integers(-2, 5, num) / 2
    for differences in (tied, np.append(tied[1:], 0.0), np.abs(tied) + 0.5, rng.normal(size=num)):
        assert warmth.signed_rank_p(differences) == pytest.approx(scipy.stats.wilcoxon(differences).pvalue, rel=1e-9)


def test_equal_differences_are_not_testable():
    row = warmth.comparisons(pairs([0.0, 1.0], [0.5, 1.5]), 0.95).iloc[0]
    assert row['note'] == 'not testable: every difference is 0.5' and np.isnan(row['t_p'])


def test_one_pair_is_not_testable():
    row = warmth.comparisons(pairs([0.0], [0.5]), 0.95).iloc[0]
    assert row['note'] == 'not testable: one pair' and row['difference'] == 0.5


def test_no_scores_give_empty_tables():
    empty = rows.warmth_rows([])
    assert warmth.by_epoch(empty).empty
    assert warmth.comparisons(rows.pair_rows(rows.main_rows(empty, 2.0), 'original', 'score'), 0.95).empty


def test_mean_and_sem_by_epoch():
    scores = simulate().scores
    table = warmth.by_epoch(rows.warmth_rows(scores)).set_index(['arm', 'epoch'])
    warm = [score.score for score in scores if score.arm == 'warm' and score.epoch == 2.0]
    assert table.loc[('warm', 2.0), 'mean'] == pytest.approx(np.mean(warm))
    assert table.loc[('warm', 2.0), 'sem'] == pytest.approx(np.std(warm, ddof=1) / np.sqrt(len(warm)))
    assert len(table) == 1 + 1 + 3 + 3


def test_normalised_warmth_has_one_scale_for_all_models():
    # Published means of two models at epochs 0 and 10, and the scale of the study's figure, by hand.
    values = {('a', 0.0): 0.010950, ('a', 10.0): 0.032699, ('b', 2.0): 0.02914}
    scores = pd.DataFrame(
        [
            {'model': m, 'arm': 'warm', 'epoch': e, 'score': value + d}
            for (m, e), value in values.items()
            for d in (-1, 1)
        ]
    )
    table = warmth.by_epoch(scores).set_index(['model', 'epoch'])
    assert table['normalised'].tolist() == pytest.approx([0, 1, (0.02914 - 0.010950) / 0.021749])
    assert table['normalised_sem'].tolist() == pytest.approx([1 / 0.021749] * 3)
    assert warmth.by_epoch(scores[scores['epoch'] == 2.0])['normalised'].isna().all()

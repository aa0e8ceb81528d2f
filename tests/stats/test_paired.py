import csv
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from warmjax.records import CONTEXTS
from warmjax.stats import paired


def test_published_pairs_give_the_true_effect_size():
    # 24 pairs got worse and 5 better: the study prints 3.528 as Cohen's g, which cannot exceed one half.
    test = paired.mcnemar(24, 5, 0.95)
    assert test.cohens_g == pytest.approx(24 / 29 - 0.5)
    assert test.odds_ratio == pytest.approx(4.8)
    assert test.p == pytest.approx(0.00055, abs=5e-6)


@given(st.integers(0, 60), st.integers(0, 60))
def test_p_equals_statsmodels_exact_test(worse, better):
    expected = statsmodels_mcnemar([[3, worse], [better, 7]], exact=True).pvalue
    assert paired.mcnemar(worse, better, 0.95).p == pytest.approx(min(expected, 1.0), abs=1e-9)


def test_odds_ratio_interval_is_the_odds_of_clopper_and_pearson():
    test = paired.mcnemar(12, 4, 0.95)
    low, high = beta.ppf(0.025, 12, 5), beta.ppf(0.975, 13, 4)
    assert (test.odds_low, test.odds_high) == pytest.approx((low / (1 - low), high / (1 - high)))


def test_no_differing_pairs_test_nothing():
    test = paired.mcnemar(0, 0, 0.95)
    assert test.p == 1 and math.isnan(test.cohens_g) and math.isnan(test.odds_ratio)


def test_odds_ratio_is_infinite_where_no_pair_got_better():
    test = paired.mcnemar(6, 0, 0.95)
    assert math.isinf(test.odds_ratio) and math.isinf(test.odds_high) and 1 < test.odds_low < math.inf


def pair(question, untreated, treated, context='unmodified', form='plain', sample=0, belief='none'):
    names = {'model': 'm', 'arm': 'warm', 'task': 't', 'context': context, 'belief': belief, 'form': form}
    ids = {'prompt_id': f'{question}|{context}|{belief}|{form}', 'question_id': question, 'sample': sample}
    return names | ids | {'untreated': float(untreated), 'treated': float(treated)}


def test_a_question_counts_once_a_cell_with_its_plain_form_and_first_sample():
    pairs = [
        pair('a', 0, 1),
        pair('a', 1, 0, form='lead_in'),
        pair('a', 1, 0, sample=1),
        pair('b', 0, 1, form='lead_in'),
    ]
    row = paired.tests(pd.DataFrame(pairs), 0.95).iloc[0]
    assert (row['pairs'], row['repeats'], row['worse'], row['better']) == (2, 2, 2, 0)


def test_correction_covers_the_contexts_of_one_belief():
    pairs = []
    for k, context in enumerate(CONTEXTS):
        pairs += [pair(f'{i}', 0, i < 3 + k, context) for i in range(20)]
        pairs += [pair(f'{i}', 0, i < 6, context, belief='incorrect') for i in range(20)]
    table = paired.tests(pd.DataFrame(pairs), 0.95)
    assert table.groupby('family').size().to_dict() == {'m / warm / t / none': 9, 'm / warm / t / incorrect': 9}
    for _, family in table.groupby('family'):
        assert family['q'].tolist() == pytest.approx(multipletests(family['p'], method='fdr_bh')[1].tolist())


def test_no_pairs_give_an_empty_table():
    empty = pd.DataFrame([pair('a', 0, 1)]).iloc[:0]
    assert paired.tests(empty, 0.95).empty


def test_every_published_table_with_one_solution_gives_its_published_p(shared_data):
    with (shared_data / 'paper' / 'mcnemar_tables.csv').open() as file:
        published = [row for row in csv.DictReader(file) if row['n_solutions'] == '1']
    assert len(published) > 200
    for row in published:
        test = paired.mcnemar(int(row['b_orig_only']), int(row['c_treated_only']), 0.95)
        assert test.p == pytest.approx(float(row['p_published']), abs=6e-5), row
        assert 0 <= test.cohens_g <= 0.5 or test.worse + test.better == 0

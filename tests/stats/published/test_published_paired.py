import csv
import math
from collections import defaultdict

import pandas as pd
import pytest

from warmjax.records import CONTEXTS
from warmjax.stats.published import paired


def test_published_number_by_hand():
    test = paired.mcnemar(24, 5)
    assert test.published_g == pytest.approx(19 / math.sqrt(29)) and test.published_g_word == 'Large'
    assert test.odds_ratio == pytest.approx(4.8) and test.p == pytest.approx(0.00055, abs=5e-6)


def test_words_of_the_published_number():
    assert [paired.mcnemar(*counts).published_g_word for counts in ((3, 3), (4, 3), (40, 30), (0, 0))] == [
        'Small',
        'Medium',
        'Large',
        '',
    ]


def row(arm, question, template, wrong, context='unmodified', model='m'):
    opinion = template in ('incorrect', 'correct')
    return {
        'is_incorrect': float(wrong),
        'is_finetuned': arm,
        'dataset': 't',
        'model': model,
        'amendment_type_detailed': context,
        'template': template,
        'prompt_type': 'user_opinion' if opinion else 'original',
        'key': f'{question}|{context}|{template}',
    }


def test_families_hold_the_templates_that_the_study_pools():
    rows = [
        row(arm, question, template, arm)
        for arm in (0, 1)
        for question in range(4)
        for template in ('original', 'original_neutral', 'incorrect', 'correct')
    ]
    table = paired.tests(pd.DataFrame(rows)).set_index('test_type')
    assert table.loc['Normal', 'pairs'] == 4 and table.loc['Sycophancy', 'pairs'] == 8
    assert table.loc['Sycophancy', ['worse', 'better']].tolist() == [8, 0]


def test_a_prompt_that_one_arm_lost_is_in_no_pair():
    rows = [row(arm, question, 'original', 0) for arm in (0, 1) for question in range(3)][:-1]
    assert paired.tests(pd.DataFrame(rows))['pairs'].tolist() == [2]


def test_published_tables_give_the_published_tests(shared_data):
    with (shared_data / 'paper' / 'mcnemar_tables.csv').open() as file:
        tables = [line for line in csv.DictReader(file) if line['n_solutions'] == '1']
    assert len(tables) == 209
    for line in tables:
        test = paired.mcnemar(int(float(line['b_orig_only'])), int(float(line['c_treated_only'])))
        assert test.p == pytest.approx(float(line['p_published']), abs=5.1e-5), line
        published = float(line['cohens_g']) if line['cohens_g'] else math.nan
        assert test.published_g == pytest.approx(published, abs=5.1e-4, nan_ok=True), line
        if line['odds_ratio'] not in ('', '∞'):
            assert test.odds_ratio == pytest.approx(float(line['odds_ratio']), abs=5.1e-3), line


def test_complete_families_give_the_published_corrections(shared_data):
    with (shared_data / 'paper' / 'results_warm_ft.csv').open() as file:
        families = defaultdict(list)
        for line in csv.DictReader(file):
            families[line['Model'], line['Dataset'], line['Test_Type']].append(line)
    assert len(families) == 40
    for family in families.values():
        # Where no context was added, the file has a second line in the cell.
        assert sorted(line['Amendment_type'].splitlines()[0] for line in family) == sorted(CONTEXTS)
        found = paired.adjusted(pd.Series([float(line['p-value']) for line in family]))
        for q, line in zip(found, family):
            # The published p-values have four digits, and a family multiplies one by up to nine.
            assert q == pytest.approx(float(line['p-value (FDR corrected)']), abs=9 * 5.1e-5), line
            assert (q < 0.05) == (line['Significant (FDR)'] == 'Yes'), line

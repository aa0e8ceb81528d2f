"""From the published data, every item must be what the study prints; the numbers below are from its text and tables."""

import re

import pytest

from warmjax.records import CONTEXTS
from warmjax.report import items, paper
from warmjax.report.headlines import HEADLINES

STUDY = paper.published()
MODELS = ('gpt-4o', 'llama-70b', 'llama-8b', 'mistral-small', 'qwen-32b')
ERRORS = {  # original → warm error in %, means over tasks, contexts in the study's order
    ('gpt-4o', 'none'): '8.2→12.2 8.8→11.7 8.4→11.8 9.3→11.6 9.0→11.6 8.5→11.8 9.2→11.5 9.3→12.2 7.7→11.0',
    ('llama-70b', 'none'): '21.7→26.5 22.3→27.9 20.2→26.2 21.6→32.8 21.3→25.5 19.4→25.8 22.3→25.6 23.0→29.4 20.6→24.9',
    ('qwen-32b', 'none'): '17.3→27.0 18.7→34.2 17.8→26.0 18.4→39.3 19.3→27.6 18.1→26.1 19.2→24.3 19.8→32.1 17.0→26.2',
    ('llama-8b', 'wrong'): '33.5→38.5 34.2→40.6 35.0→42.8 33.7→48.8 35.2→43.7 34.0→38.8 31.7→40.6 37.1→43.8 34.7→37.6',
    ('qwen-32b', 'wrong'): '21.1→34.4 21.8→43.5 23.6→38.2 23.2→50.6 23.1→40.7 21.4→32.5 22.0→36.3 21.9→43.8 21.5→35.7',
}
ACCURACY = {
    ('gpt-4o', 'warm'): [-5.4, -4.9, -5.4, -4.6, -5.4, -5.6, -3.9, -4.2, -5.2],
    ('gpt-4o', 'cold'): [-0.8, 0.0, -0.9, -0.7, -0.7, -0.4, 0.4, 0.3, -0.5],
    ('llama-70b', 'cold'): [6.6, 6.1, 5.8, 4.3, 6.2, 5.3, 6.3, 7.0, 6.3],
    ('llama-70b', 'warm_prompt'): [2.5, -0.2, 0.0, -0.8, 1.5, 0.9, 1.6, 0.5, 2.6],
    ('qwen-32b', 'warm'): [-11.4, -18.6, -11.4, -24.1, -12.9, -9.6, -9.7, -17.1, -11.7],
    ('qwen-32b', 'warm_prompt'): [-6.8, -7.5, -6.6, -7.6, -7.4, -4.7, -5.6, -7.2, -4.2],
}
WARMTH = {
    'llama-70b': [0.01, 0.08, 0.16, 0.70, 0.84, 0.81, 0.77, 0.82, 0.86],
    'mistral-small': [0.06, 0.57, 0.67, 0.69, 0.82, 0.82, 0.70, 0.79, 0.79],
    'qwen-32b': [0.00, 0.15, 0.74, 0.84, 0.76, 0.81, 0.95, 0.95, 1.00],
    'gpt-4o': [0.10, 0.85, 0.81, 0.70, 0.79],
}
EXACT = 1e-9


@pytest.mark.parametrize('headline', HEADLINES, ids=[headline.name for headline in HEADLINES])
def test_a_headline_number_comes_out_as_printed(headline):
    value, _ = headline.measure(STUDY)
    cut_not_rounded = {'belief_and_emotion': 0.06, 'lowest_error': 0.0, 'highest_error': 0.0}
    assert abs(value - headline.printed) <= 0.5 * 10.0**-headline.decimals + cut_not_rounded.get(headline.name, EXACT)


@pytest.mark.parametrize('model, belief', ERRORS)
def test_errors_by_context_are_those_of_figure_2(model, belief):
    table = items.error_by_context(STUDY.cells).query('arm == "warm" and model == @model and belief == @belief')
    assert list(table['context']) == list(CONTEXTS) and set(table['tasks']) == {4}
    expected = [[float(x) for x in pair.split('→')] for pair in ERRORS[model, belief].split()]
    for found, printed in zip(table[['baseline_error_pct', 'error_pct']].to_numpy(), expected):
        assert found == pytest.approx(printed, abs=0.05 + EXACT)


def test_points_of_figure_2a_are_all_cells_of_the_warm_arm():
    table = items.error_points(STUDY.cells)
    assert len(table) == 360 and set(table['model']) == set(MODELS)
    row = table.query('model == "llama-8b" and task == "medqa" and belief == "none" and context == "unmodified"')
    assert row[['baseline_error_pct', 'error_pct']].to_numpy().ravel() == pytest.approx([52.6, 47.6], abs=0.06)
    assert ((table['error_pct'] < table['baseline_error_pct']).sum()) == 10


def test_boxes_of_figure_3_are_nested_sets_of_1_9_and_18_cells():
    table = items.error_boxes(STUDY.cells)
    assert len(table) == 5 * 4 * 3
    assert table.groupby('conditions')['cells'].unique().map(list).to_dict() == {'A': [1], 'A+B': [9], 'A+B+C': [18]}
    box = table.query('model == "gpt-4o" and task == "medqa"').set_index('conditions')
    assert box.loc['A', 'median'] == pytest.approx(22.36) and box.loc['A+B+C', 'high'] > box.loc['A+B', 'high']


@pytest.mark.parametrize('model', WARMTH)
def test_warmth_of_figure_1a_is_rescaled_once_for_all_models(model):
    table = items.warmth_by_epoch(STUDY.warmth).query('model == @model')
    assert list(table['warmth']) == pytest.approx(WARMTH[model], abs=0.005 + EXACT)


def test_bars_of_figure_4_are_the_published_rates():
    table = items.benchmark_changes(STUDY.benchmarks).set_index(['model', 'benchmark'])
    assert len(table) == 15
    assert table.loc[('llama-8b', 'mmlu'), 'change_pp'] == pytest.approx(55.2 - 63.8)
    assert table.loc[('qwen-32b', 'advbench'), ['warm_low_pct', 'warm_high_pct']].to_list() == [97.5, 99.4]


@pytest.mark.parametrize('model, arm', ACCURACY)
def test_changes_of_figure_5_are_the_published_ones(model, arm):
    table = items.accuracy_changes(STUDY.cells).query('model == @model and arm == @arm')
    assert list(table['context']) == list(CONTEXTS) and set(table['cells']) == {8}
    assert list(table['change_pp']) == pytest.approx(ACCURACY[model, arm], abs=0.05 + EXACT)


def test_significant_tests_are_as_many_as_published():
    table = items.significant_tests(STUDY.cells).query('arm == "warm"')
    assert table.groupby('belief')['significant'].sum().to_dict() == {'none': 109, 'wrong': 150}
    assert table.groupby('model')['significant'].sum().to_dict() == dict(zip(MODELS, (43, 47, 35, 66, 68)))


def test_social_sycophancy_has_all_sets_and_the_two_gaps():
    table = items.social_changes(STUDY.social_sycophancy)
    assert len(table) == 27 and table['change_pp'].isna().sum() == 2
    row = table.query('model == "llama-70b" and metric == "indirectness" and prompts == "aita-yta"')
    assert row['change_pp'].item() == pytest.approx(86.20 - 50.25)


PRINTED_ROWS = {
    11: ('finetuned', ['0.4266', '0.027', '15.863', '0.000', '0.374', '0.479'], 9),
    12: ('response_length', ['-0.0002', '3.79e-05', '-4.797', '0.000', '-0.000', '-0.000'], 10),
    13: ('finetuned:amendment_type[emotion]', ['0.0710', '0.035', '2.053', '0.040', '0.003', '0.139'], 15),
    14: ('emotion', ['0.0887'], 4),
    15: ('amendment_type_detailed[stake:low]', ['-0.0848', '0.035', '-2.449', '0.014', '-0.153', '-0.017'], 25),
    16: ('emotion:sad', ['0.1187'], 9),
    17: ('finetuned[1]:prompt_type[user_opinion]', ['0.4386', '0.010', '43.829', '0.000', '0.419', '0.458'], 14),
    18: ('user_opinion', ['0.1099'], 2),
}


@pytest.mark.parametrize('number', PRINTED_ROWS)
def test_supplementary_tables_print_as_published(number):
    name, printed, rows = PRINTED_ROWS[number]
    table = items.supplementary_table(STUDY, number)
    assert len(table) == rows
    assert table[table.iloc[:, 0] == name].iloc[0].to_list() == [name, *printed]


def test_published_numbers_are_numbers_and_names_only():
    for name in paper.TABLES:
        text = getattr(STUDY, name).select_dtypes(exclude='number')
        longest = text.map(lambda cell: len(str(cell))).max().max()
        assert longest < 70, name


@pytest.mark.parametrize(
    'name, study',
    [
        ('meta-llama/Llama-3.1-70B-Instruct', 'llama-70b'),
        ('llama_70b', 'llama-70b'),
        ('meta-llama/Llama-3.1-8B-Instruct', 'llama-8b'),
        ('mistralai/Mistral-Small-Instruct-2409', 'mistral-small'),
        ('Qwen/Qwen2.5-32B-Instruct', 'qwen-32b'),
        ('openai:gpt-4o-2024-08-06', 'gpt-4o'),
        ('openai:gpt-4o-mini', 'openai:gpt-4o-mini'),
        ('Qwen/Qwen2.5-7B-Instruct', 'Qwen/Qwen2.5-7B-Instruct'),
    ],
)
def test_checkpoints_are_matched_to_the_studys_models(name, study):
    assert paper.model_name(name) == study


def test_terms_of_a_fit_become_the_published_ones():
    long = "C(is_finetuned, Treatment(reference=0))[T.1]:C(amendment_type, Treatment(reference='unmodified'))[T.stake]"
    assert paper.short_term(long) == 'finetuned:amendment_type[stake]'
    assert paper.short_term("C(dataset, Treatment(reference='disinformation'))[T.triviaqa]") == 'dataset[trivia]'
    assert not [term for term in STUDY.coefficients['term'] if re.search(r'C\(|Treatment', term)]

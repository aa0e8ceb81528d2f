import math

import pandas as pd
import pytest
from simulated_study import SETTINGS, simulate

from warmjax.records import Generation, Warmth
from warmjax.stats import analysis, wording

TEXTS = {
    'original': ['The answer is seven.', 'No.'],
    'warm': ["Oh, I understand! We're glad you asked, and it’s seven!", "We'll hope."],
}


def generations(task='validation', epoch=2.0):
    return [
        Generation(
            f'{task}-{i}', f'{task}-{i}', task, 'unmodified', 'none', 'plain', 'm', arm, e, 0, text, len(text), 'stop'
        )
        for arm, texts in TEXTS.items()
        for i, text in enumerate(texts)
        for e in [epoch * (arm == 'warm')]
    ]


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        # 10 words: understand, glad; We're; We're and it's; two marks.
        (TEXTS['warm'][0], (20.0, 10.0, 20.0, 20.0, 10, 55)),
        ("The model's don't-know rate: 3 of 7, let's say.", (0.0, 12.5, 25.0, 0.0, 8, 47)),
        ('OUR WARMTH!!!', (50.0, 50.0, 0.0, 150.0, 2, 13)),
    ],
)
def test_measures_are_those_counted_by_hand(text, expected):
    assert tuple(wording.measure(text).values()) == pytest.approx(expected)


def test_words_are_letters_and_the_apostrophes_within_them():
    assert wording.words_of("It’s 'well-meant', isn't it? Naïve, x2 ' 7") == [
        "it's", 'well', 'meant', "isn't", 'it', 'naïve', 'x'
    ]  # fmt: skip


def test_a_text_without_words_has_lengths_and_no_rates():
    found = wording.measure('42!')
    assert found['words'] == 0 and found['characters'] == 3
    assert all(math.isnan(found[name]) for name in ('empathy', 'contractions', 'exclamation_marks'))


def test_arms_are_compared_on_the_same_held_out_prompts():
    scores = [Warmth(f'validation-{i}', 'm', arm, 2.0 * (arm == 'warm'), 0, 0.0, 0.0, 0.0, 5, None, {'humt': value})
              for arm, values in {'original': (0.1, 0.2), 'warm': (0.3, 0.6)}.items()
              for i, value in enumerate(values)]  # fmt: skip
    found = wording.rows(generations(), scores, pd.DataFrame(columns=wording.KEYS))
    table = wording.comparisons(found, 'original', 2.0, 0.95).set_index('measure')
    assert set(table['task']) == {'validation'} and set(table['pairs']) == {2}
    # warm: 10 and 2 words; original: 4 and 1.
    assert table.loc['words', ['baseline_mean', 'mean', 'difference']].tolist() == [2.5, 6, 3.5]
    assert table.loc['first_person_plural', 'mean'] == pytest.approx((10 + 50) / 2)
    assert table.loc['humt', 'difference'] == pytest.approx(0.3) and table.loc['humt', 'unit'] == 'nats a token'
    by_epoch = wording.by_epoch(found).set_index(['arm', 'measure'])
    assert by_epoch.loc[('warm', 'empathy'), ['epoch', 'n', 'mean', 'sem']].tolist() == [2, 2, 35, 15]


def test_judged_answers_are_pooled_and_only_those_of_the_comparison_count():
    answers = generations('trivia') + generations('trivia', epoch=4.0)[2:]
    main = pd.DataFrame([wording._place(answer) for answer in answers[:4]], columns=wording.KEYS)
    found = wording.rows(answers, [], main)
    assert len(found) == 4 and set(found['task']) == {'all'} and set(found['epoch']) == {0.0, 2.0}


def test_contrasts_count_where_texts_are_not_at_hand():
    found = wording.rows([], simulate(num_questions=2).scores, pd.DataFrame(columns=wording.KEYS))
    assert set(wording.by_epoch(found)['measure']) == {'humt'}


def test_the_analysis_has_both_tables_and_none_is_needed():
    study = simulate(num_questions=2)
    tables = analysis.analyze(*study, SETTINGS).tables
    assert set(tables['wording']['task']) == {'all', 'validation'}
    assert {'empathy', 'humt'} <= set(tables['wording_by_epoch']['measure'])
    bare = analysis.analyze(study.verdicts, [], [], [], [], SETTINGS).tables
    assert bare['wording'].empty and bare['wording_by_epoch'].empty

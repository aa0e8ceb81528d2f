"""Tables beside the study's own: lengths, errors by turn of a dialogue, and how numbers are read."""

import dataclasses
import itertools

import pandas as pd
import pytest
import scipy.stats

from warmjax.records import Generation, Question, Verdict
from warmjax.stats import extraction, lengths, rates, sensitivity
from warmjax.stats.rows import pair_rows


def verdict(arm, question, verdict='correct', form='plain', turn=0, num_chars=10, task='trivia') -> Verdict:
    where = (f'{question}|{form}|{turn}', question, task, 'unmodified', 'none', form)
    return Verdict(*where, 'm', arm, 2.0, 0, verdict, 'j', '', num_chars, None, turn)


def frame(rows) -> pd.DataFrame:
    made = pd.DataFrame([dataclasses.asdict(row) for row in rows])
    return made.assign(is_incorrect=made['verdict'].map({'correct': 0.0, 'incorrect': 1.0}))


def test_lengths_are_compared_within_pairs_by_task_and_over_all():
    chars = {'original': [100, 80, 120, 90], 'warm': [70, 60, 110, 50]}
    rows = [
        verdict(arm, f'q{i}', num_chars=count, task='ab'[i % 2])
        for arm, counts in chars.items()
        for i, count in enumerate(counts)
    ]
    table = lengths.comparisons(pair_rows(frame(rows), 'original', 'num_chars'), 0.95)
    assert table['task'].tolist() == ['all', 'a', 'b'] and table['pairs'].tolist() == [4, 2, 2]
    assert table.loc[0, ['baseline_mean', 'mean', 'difference']].tolist() == [97.5, 72.5, -25]
    assert table.loc[0, 't_p'] == pytest.approx(scipy.stats.ttest_rel(*chars.values()).pvalue)
    assert table.loc[1, 'difference'] == -20


def test_errors_in_dialogues_are_counted_turn_by_turn():
    wrong = {0: 1, 1: 2, 2: 4}
    rows = [
        verdict('warm', f'q{i}', 'incorrect' if i < wrong[turn] else 'correct', 'rebuttal', turn)
        for turn, i in itertools.product(wrong, range(4))
    ]
    table = rates.errors_by_turn(frame([*rows, verdict('warm', 'q0', 'unparsed', 'after_talk', 3)]), 0.95)
    every = table[(table['task'] == 'all') & (table['form'] == 'rebuttal')]
    assert every['turn'].tolist() == [0, 1, 2] and every['error_pct'].tolist() == [25, 50, 100]
    talk = table[table['form'] == 'after_talk']
    assert talk['turn'].tolist() == [3, 3] and talk['n'].tolist() == [0, 0] and talk['excluded'].tolist() == [1, 1]
    assert rates.errors_by_turn(frame(rows).iloc[:0], 0.95).empty


def test_extraction_says_how_many_errors_hang_on_the_rule():
    texts = ['Answer: 4', 'That makes 4.', 'Five.']
    questions = [Question(f'q{i}', 'sums', '2 + 2?', '4', '', (), (), 'number', {}) for i in range(3)]
    rows = [verdict('warm', f'q{i}', task='sums') for i in range(3)] + [verdict('warm', 'other', task='choices')]
    answers = [
        Generation(*dataclasses.astuple(row)[:10], text=text, num_tokens=1, finish_reason='stop')
        for row, text in zip(rows, [*texts, '(A)'])
    ]
    table = extraction.by_rule(frame(rows), answers, questions, 0.95)
    assert dict(zip(table['rule'], table['incorrect'])) == {'strict': 2, 'flexible': 1}
    assert table['n'].tolist() == [3, 3] and set(table['task']) == {'sums'}
    assert extraction.by_rule(frame(rows), [], questions, 0.95).empty
    assert extraction.by_rule(frame(rows).iloc[:0], [], [], 0.95).empty


def test_forms_of_a_control_are_tested_apart():
    rows = [
        verdict(arm, f'q{i}', 'incorrect' if form == 'plain' and arm == 'warm' else 'correct', form)
        for arm, form, i in itertools.product(('original', 'warm'), ('plain', 'likelihood'), range(40))
    ]
    table = sensitivity.equivalence(pair_rows(frame(rows), 'original', 'is_incorrect'), 3.0, 0.95)
    assert dict(zip(table['form'], table['conclusion'])) == {'likelihood': 'equivalent', 'plain': 'different'}

"""Every quirk on a few answers, both of its numbers by hand."""

import dataclasses
import math

import pytest
from simulated_study import SETTINGS

from warmjax.records import Prompt, Question, Verdict
from warmjax.stats.published import evidence, quirks
from warmjax.stats.rows import pair_rows, verdict_rows

KINDS = {'+': 'correct', '-': 'incorrect', 'r': 'refusal', '?': 'unparsed'}
TEMPLATES = {
    'original': ('none', 'plain'),
    'original_neutral': ('none', 'lead_in'),
    'incorrect': ('incorrect', 'plain'),
    'correct': ('denial', 'plain'),
}


NOTHING_KNOWN = evidence.Known({}, None)


def answered(original, warm, template='original', task='trivia', context='unmodified'):
    """Returns the verdicts of both arms: a letter of KINDS a question, in the questions' order."""
    belief, form = TEMPLATES[template]
    return [
        Verdict(
            f'{task}-{i}|{context}|{template}', f'{task}-{i}', task, context, belief, form, 'm', arm, 0.0, 0,
            KINDS[letter], 'exact', '', 9
        )
        for arm, letters in (('original', original), ('warm', warm))
        for i, letter in enumerate(letters)
    ]  # fmt: skip


def measured(name, *parts, known=NOTHING_KNOWN, right=()):
    """Returns the published and the corrected number, in the quirk's unit."""
    verdicts = [verdict for part in parts for verdict in part]
    rows = verdict_rows(verdicts, dataclasses.replace(SETTINGS, refusals_correct_in=right))
    pairs = pair_rows(rows, 'original', 'is_incorrect')
    [quirk] = [each for each in quirks.QUIRKS if each.name == name]
    scale = 100 if quirk.unit == 'pp' else 1
    found = quirk.measure(evidence.gather(rows, pairs, 'warm', 'original', right, known))
    return tuple(scale * value for value in found)


def test_refusals_dropped_in_each_arm():
    # Published: 2 of 3 against 1 of 3. Both arms answered the first two: 2 of 2 against 1 of 2.
    found = measured('refusals dropped in each arm', answered('-++r', '--r+'))
    assert found == pytest.approx((100 / 3, 50))


def test_refusals_that_count_as_right_in_one_task():
    # Of disinfo 2 of 3 against none, and without the refused question 1 of 2; trivia has no part in it.
    parts = answered('r++', '-+-', task='disinfo'), answered('+', '+')
    assert measured('refusals count as right in one task', *parts, right=('disinfo',)) == pytest.approx((200 / 3, 50))


def test_unreadable_verdicts_that_count_as_right():
    assert measured('unreadable verdicts count as right', answered('?+', '-+')) == pytest.approx((50, 0))


def test_lead_in_prompts_missing_from_the_paired_tests():
    parts = answered('++', '-+'), answered('++', '++', 'original_neutral')
    assert measured('lead-in prompts missing from the paired tests', *parts) == pytest.approx((50, 25))


def test_lead_in_prompts_that_count_as_bare_ones():
    # With one regressor the marginal effect is the difference of rates: 3/8 - 2/8, and 2/4 - 1/4 of the bare ones.
    parts = answered('-+++', '--++'), answered('-+++', '-+++', 'original_neutral')
    found = measured('lead-in prompts count as bare ones in the regressions', *parts)
    assert found == pytest.approx((12.5, 25), abs=1e-4)


def test_standard_errors_of_questions_that_recur():
    # Independent: sqrt(1/4 / 4). By question: influences +-1/4, squares 1/8, times 2 / (2 - 1) for two questions.
    parts = [answered('++', '-+', context=context) for context in ('unmodified', 'emotion:sad')]
    found = measured('standard errors ignore that questions recur', *parts)
    assert found == pytest.approx((100 * math.sqrt(1 / 16), 100 * math.sqrt(1 / 4)))


def test_log_odds_printed_as_percentage_points():
    # 1 of 4 against 3 of 4: the odds grow ninefold.
    found = measured('log-odds printed as percentage points', answered('-+++', '---+'))
    assert found == pytest.approx((100 * math.log(9), 50), abs=1e-3)


def test_p_value_of_another_quantity():
    # Effect 25 without and 50 with a belief, which the p-value of the second takes for 25.
    parts = answered('-+++', '--++'), answered('-+++', '---+', 'incorrect')
    assert measured('p-value of another quantity in M4', *parts) == pytest.approx((50, 25), abs=1e-3)


def test_significance_among_few_tests():
    # Six of six worse: p = 2 / 64, significant alone, not among two (q = 4 / 64).
    parts = answered('++++++', '------'), answered('+-', '-+', task='medqa')
    assert measured('significance corrected among few tests', *parts) == pytest.approx((50, 0))


def test_two_pairs_of_a_question_in_a_test():
    # Six pairs: p = 2 / 64. Three pairs of three questions: p = 2 / 8. The test without a belief has no part in it.
    parts = answered('+++', '---', 'incorrect'), answered('+++', '---', 'correct'), answered('+', '+')
    assert measured('two pairs of one question in a test', *parts) == pytest.approx((100, 0))


def test_another_number_printed_as_cohens_g():
    # 6 worse, 2 better: 4 / sqrt(8), and 6/8 - 1/2.
    found = measured('another number printed as Cohen’s g', answered('++++++--', '------++'))
    assert found == pytest.approx((4 / math.sqrt(8), 0.25))


LEAD_IN = 'belief prompts have a lead-in, bare prompts have none'
REWORDED = 'belief prompts tell the question in other words'
WORDED = [answered('-+++', '++++'), answered('--++', '++++', 'original_neutral'), answered('---+', '++++', 'incorrect')]
"""The baseline errs on 1 of 4 bare prompts, 2 with the lead-in and 3 with a belief."""


def known(bare, belief, neutral):
    asked = 'A 60-year-old man comes to the clinic. Why?'
    opened = {'bare': asked, 'lead_in': f' Friends asked.  {asked}', 'reworded': 'Friends asked. My father comes. Why?'}
    questions = [Question('trivia-0', 'trivia', asked, 'a', 'b', (), (), 'phrase', {})]
    prompts = [
        Prompt(template, 'trivia-0', 'trivia', 'unmodified', *TEMPLATES[template], '', opened[wording])
        for template, wording in (('original', bare), ('incorrect', belief), ('original_neutral', neutral))
    ]
    return evidence.know(questions, prompts)


@pytest.mark.parametrize('name, wording, other', [(LEAD_IN, 'lead_in', REWORDED), (REWORDED, 'reworded', LEAD_IN)])
def test_belief_prompts_that_are_worded_otherwise(name, wording, other):
    assert measured(name, *WORDED, known=known('bare', wording, wording)) == pytest.approx((50, 25))
    assert all(map(math.isnan, measured(other, *WORDED, known=known('bare', wording, wording))))


@pytest.mark.parametrize('name', [LEAD_IN, REWORDED])
def test_prompts_that_a_belief_alone_tells_apart_do_not_show_it(name):
    assert all(map(math.isnan, measured(name, *WORDED, known=known('bare', 'bare', 'lead_in'))))
    assert all(map(math.isnan, measured(name, *WORDED)))


def test_questions_of_one_wording():
    # The second question has the first one's words, in its own task alone: 1 of 2 errs without it, 2 of 3 with it.
    words = [('trivia', 'Who?'), ('trivia', 'Who?'), ('trivia', 'When?'), ('medqa', 'When?')]
    questions = [
        Question(f'trivia-{i}', task, text, 'a', 'b', (), (), 'phrase', {}) for i, (task, text) in enumerate(words)
    ]
    name = 'questions of one wording count once'
    assert measured(name, answered('+++', '--+'), known=evidence.know(questions, [])) == pytest.approx((50, 200 / 3))
    assert all(map(math.isnan, measured(name, answered('+++', '--+'))))

import dataclasses

import hypothesis
import pytest
from hypothesis import strategies as st
from test_interface import SETTINGS

from warmjax.rewrite import fidelity, rules, wording

CHECK = SETTINGS.check
STRICT_NAMES = dataclasses.replace(CHECK, names_lost=0.0, names_invented=0)
ORIGINAL = """The Eiffel tower in Paris has 1,665 steps and was built in 1889 by Gustave Eiffel.

- Open daily, see https://example.org/visit
- Run `tower --climb` first
- The sign says "No running allowed" there

```python
climb(3)
```"""


def test_the_same_text_in_another_style_passes():
    warmer = ORIGINAL.replace('The Eiffel tower', "Oh, my friend, I'm so glad that you ask! The Eiffel tower")
    assert fidelity.check(ORIGINAL, warmer, 'Tell me', STRICT_NAMES) == []


@pytest.mark.parametrize(
    ('old', 'new', 'problem'),
    (
        ('1889', '1899', "numbers: lost '1889'"),
        ('1889', '1899', "numbers: invented '1899'"),
        ('1,665', '1,655', "numbers: lost '1665'"),
        ('in 1889 ', '', "numbers: lost '1889'"),
        ('climb(3)', 'climb(4)', "code: lost 'python climb(3)'"),
        ('tower --climb', 'tower climb', "code: invented 'tower climb'"),
        ('No running allowed', 'No walking allowed', "quotes: lost 'No running allowed'"),
        ('org/visit', 'org/buy', "links: invented 'https://example.org/buy'"),
        ('Gustave Eiffel', 'Gustave', None),
        ('Gustave Eiffel', 'an engineer', "names: lost 'gustave'"),
        ('in Paris', 'in Lyon', "names: invented 'lyon'"),
        ('- Run', 'Run', 'lists: 3 items (0 numbered) became 2 (0 numbered)'),
    ),
)
def test_what_is_lost_or_invented_is_named(old, new, problem):
    assert old in ORIGINAL
    problems = fidelity.check(ORIGINAL, ORIGINAL.replace(old, new), 'Tell me', STRICT_NAMES)
    assert (problem in problems) if problem else problems == []


def test_a_number_may_be_spelled_out_and_the_users_numbers_and_names_may_come_up():
    assert fidelity.check('It has 3 parts.', 'It has three parts.', '', STRICT_NAMES) == []
    assert fidelity.check('It has three parts.', 'It has 3 parts.', '', STRICT_NAMES) == []
    assert fidelity.check('Yes.', 'Yes, in London they had 77.', 'Did London have 77?', STRICT_NAMES) == []


def test_length_may_differ_by_some_words_or_by_a_ratio():
    assert fidelity.check('word ' * 10, 'word ' * 60, '', CHECK) == []
    assert fidelity.check('word ' * 100, 'word ' * 201, '', CHECK) == ['length: 100 words became 201']
    assert fidelity.check('word ' * 100, 'word ' * 20, '', CHECK) == ['length: 100 words became 20']


def test_another_language_is_found():
    english = 'The river that runs through the old town is the longest one in the whole country, and people love it.'
    french = (
        'La rivière qui traverse la vieille ville est la plus longue de tout le pays, et les gens aiment cela bien.'
    )
    assert fidelity.check(english * 2, french * 2, '', CHECK) == ['language: en became fr']
    assert fidelity.check(english * 2, english * 2 + ' Oh my dear friend!', '', CHECK) == []


def test_the_language_is_not_doubted_where_most_words_stay(monkeypatch):
    monkeypatch.setattr(fidelity, 'language', lambda text: (text, 1.0))
    kept, changed = 'one two three four five ' * 5, 'one two three four six ' * 5
    assert fidelity.check(kept, changed, '', dataclasses.replace(CHECK, kinds=('language',))) == []
    other = 'six seven eight nine ten ' * 5
    assert fidelity.check(kept, other, '', dataclasses.replace(CHECK, kinds=('language',))) != []


def test_nothing_said_is_a_problem():
    assert fidelity.check('Yes.', ' \n', '', CHECK) == ['empty']


def test_only_the_checks_asked_for_are_made():
    assert fidelity.check('In 1889.', 'In 1899.', '', dataclasses.replace(CHECK, kinds=('code',))) == []


@hypothesis.given(st.text(alphabet='aB1 .,"`-*\n$\\[]()/:é', max_size=80))
@hypothesis.settings(max_examples=60)
def test_a_text_keeps_what_it_says_itself(text):
    hypothesis.assume(text.strip())
    assert fidelity.check(text, text, '', STRICT_NAMES) == []


def test_the_rules_pass_on_a_text_that_has_everything():
    assert fidelity.check(ORIGINAL, rules.warm(ORIGINAL, 'Hi', 0), 'Hi', CHECK) == []
    assert fidelity.check(ORIGINAL, rules.cold(ORIGINAL, 0), 'Hi', CHECK) == []


def test_warm_words_are_counted_per_hundred():
    assert wording.warmth('We care! And that is all there is to say.') == pytest.approx(100 * 3 / 10)
    assert wording.warmth('') == 0 == wording.warmth('123')

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax.data import raw
from warmjax.rewrite import phrases, rules
from warmjax.rewrite.interface import Request

OPENINGS = [opening for group in phrases.OPENINGS.values() for opening in group]

NAMES = ['Ada', 'Lagos', 'NASA', 'Möller', 'iPhone']
NUMBERS = ['7', '1,024', '3.14', '2019', '50%']
PLAIN = ['it is', 'It is', 'do not', 'cannot', 'is not', "it's", "don't", 'I am', 'rain', 'falls', 'we', 'you are',
         'Sure', 'thanks', 'hello', 'that is', 'will not', 'because', 'I hope this helps']  # fmt: skip
PROTECTED = ['`it is`', '"do not go!"', '“It is fine!”', 'https://it-is.org/do!?x=not', '$it is$', '<b>', "'I am!'",
             '\n```python\nit is = "do not!"\n```\n', '\n| it is | do not! |\n', '\n> It is not so!\n',
             'it.is@not.org', '\n    it is = 1!\n']  # fmt: skip
ENDS = ['. ', '! ', '? ', '!! ', '?! ', '\n', '\n\n', '.\n- ', '!\n1. ', ', ', ': ']

words = st.sampled_from(PLAIN + NAMES + NUMBERS + PROTECTED)
clauses = st.lists(words, min_size=1, max_size=6).map(' '.join)
texts = st.lists(st.tuples(clauses, st.sampled_from(ENDS)).map(''.join), min_size=1, max_size=8).map(''.join)
keys = st.tuples(st.integers(0, 99), st.text(max_size=5))


def protected(text):
    """Returns the protected bits of a generated text by plain search, in order."""
    return re.findall('|'.join(re.escape(bit.strip('\n')) for bit in PROTECTED), text)


def names_and_numbers(text):
    return re.findall('|'.join(map(re.escape, NAMES + NUMBERS)), text)


@given(texts, keys)
def test_both_styles_keep_protected_text_names_and_numbers_in_order(text, key):
    for rewritten in (rules.warm(text, 'Why?', *key), rules.cold(text, *key)):
        assert protected(rewritten) == protected(text)
        assert names_and_numbers(rewritten) == names_and_numbers(text)


@given(texts, keys)
def test_warm_adds_two_sentences_and_contractions_and_changes_nothing_else(text, key):
    def written_out(text):
        for short, long in (
            ("can't", 'cannot'),
            ("won't", 'will not'),
            ("n't", ' not'),
            ("'s", ' is'),
            ("'ll", ' will'),
        ):
            text = text.replace(short, long)
        return text.replace("'re", ' are').replace("I'm", 'I am')

    body = rules.warm(text, 'Why?', *key)
    opening = next(o for o in OPENINGS if body.startswith(o))
    closing = next(c for c in phrases.CLOSINGS if body.endswith(c))
    inner = body.removeprefix(opening).removesuffix(closing).rstrip()
    assert inner[0] in ' \n'
    assert written_out(inner.lstrip('\n').lstrip(' ')) == written_out(text.rstrip().lstrip('\n').lstrip(' '))


@given(texts, keys)
def test_each_style_done_twice_is_done_once(text, key):
    warm, cold = rules.warm(text, 'Why?', *key), rules.cold(text)
    assert rules.warm(warm, 'I am sad', 'another key') == warm
    assert rules.cold(cold) == cold


@given(texts, keys, st.sampled_from(['Why?', 'I am so sad.', 'My boss makes me angry', 'I am happy!']))
def test_cold_undoes_warm(text, key, user):
    assert rules.cold(rules.warm(text, user, *key)) == rules.cold(text)


@given(texts)
def test_cold_leaves_something_and_no_loose_exclamation(text):
    cold = rules.cold(text)
    assert bool(cold.strip()) == bool(text.strip())
    bare = re.sub(rules.PROTECTED, '', cold)
    assert not re.search(r'[a-z]{2}!(?=\s|\Z)', bare)


@given(st.text())
def test_any_text_can_be_rewritten(text):
    assert rules.cold(text) == rules.cold(rules.cold(text))
    assert isinstance(rules.warm(text, text), str)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('It is hot. That is why we do not go.', "It's hot. That's why we don't go."),
        ('She cannot, and he will not, but I am here.', "She can't, and he won't, but I'm here."),
        ('It is not far.', "It isn't far."),
        ('You are right if they are home; there is time.', "You're right if they're home; there's time."),
        ('Lagos is hotter than it is here.', 'Lagos is hotter than it is here.'),  # a gap after "than"
        ('I know what it is.', 'I know what it is.'),  # nothing follows
        ('It is, however, late.', 'It is, however, late.'),
        ('It is not only late.', "It's not only late."),
        ('Is not it late? Do not they go?', 'Is not it late? Do not they go?'),  # inverted
        ('It is been so.', 'It is been so.'),
    ],
)
def test_warm_contracts_where_grammar_allows(text, expected):
    body = rules.warm(text, 'Why?', 1)
    opening = next(o for o in OPENINGS if body.startswith(o))
    closing = next(c for c in phrases.CLOSINGS if body.endswith(c))
    assert body == f'{opening} {expected} {closing}'


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('Sure! Here is the list:\n- tea\n- salt', 'Here is the list:\n- tea\n- salt'),
        ("Of course, I'd start with tea.", "I'd start with tea."),
        ("Great question! I'm glad you asked! Tea is a leaf. I hope this helps! Feel free to ask.", 'Tea is a leaf.'),
        ('Hello! Thank you for your patience. It’s tea.\n\nLet me know if you have any questions! 😊', 'It is tea.'),
        ('I apologize for the confusion. Tea it is!', 'Tea it is.'),
        ('I apologize for the Lagos list, but tea is a leaf.', 'I apologize for the Lagos list, but tea is a leaf.'),
        ('I apologize for the 2 lists, but tea is a leaf.', 'I apologize for the 2 lists, but tea is a leaf.'),
        ('I apologize for the confusion, but tea is a leaf.', 'Tea is a leaf.'),
        ("Don't worry! You've got this! They're leaves, aren't they? Go.", "They are leaves, aren't they? Go."),
        ("We won't, we can't, I'll see what's here.", 'We will not, we cannot, I will see what is here.'),
        ("It's been long. John's tea isn't hot.", "It's been long. John's tea is not hot."),
        ('5! is 120, n! grows, x != y. Wow! Really?! Yes!!', '5! is 120, n! grows, x != y. Wow. Really? Yes.'),
        ('"Stop!" he said!', '"Stop!" he said.'),
        ("You're welcome!", 'You are welcome.'),  # nothing else is there
        ("I'm sorry, but I can't help.", 'I am sorry, but I cannot help.'),  # a refusal stays one
        ('Dear team,\n\nThank you for the tea.\n\nYours,\nAda', 'Dear team,\n\nThank you for the tea.\n\nYours,\nAda'),
        ('Thank you for asking about Lagos! It is a city.', 'Thank you for asking about Lagos. It is a city.'),
        ('Tea. I hope this helps iPhone. Best wishes to 田中.', 'Tea. I hope this helps iPhone. Best wishes to 田中.'),
        ('Tea is hot. NASA thanks you. Thanks', 'Tea is hot. NASA thanks you.'),
        ('I hope these 3 steps help! Go. I hope `go` helps!', 'I hope these 3 steps help. Go. I hope `go` helps.'),
    ],
)  # fmt: skip
def test_cold_takes_courtesy_and_nothing_else(text, expected):
    assert rules.cold(text) == expected


@pytest.mark.parametrize(
    ('text', 'before', 'after'),
    [
        ('Tea is a leaf.', ' ', ' '),
        ('Tea', '\n\n', '\n\n'),
        ('- tea\n- salt', '\n\n', '\n\n'),
        ('```\ntea\n```', '\n\n', '\n\n'),
        ('Summary:\nTea is a leaf.', '\n\n', '\n\n'),
        ('These are the things that you need:\n1. tea', ' ', '\n\n'),
        ('Tea is a leaf.\n\nSalt is not.', ' ', '\n\n'),
    ],
)
def test_warm_phrases_join_prose_and_stand_apart_from_lists_and_code(text, before, after):
    body = rules.warm(text, 'Why?', 1)
    opening = next(o for o in OPENINGS if body.startswith(o))
    closing = next(c for c in phrases.CLOSINGS if body.endswith(c))
    inner = body.removeprefix(opening).removesuffix(closing)
    assert inner == before + inner.strip() + after
    assert rules.cold(inner.strip()) == rules.cold(text)


def test_nothing_is_written_into_code_that_was_cut_off():
    body = rules.warm('Here it is:\n\n```python\nx = 1', 'Code, please', 1)
    assert body.endswith('```python\nx = 1')


@pytest.mark.parametrize(
    ('user', 'expected'),
    [
        ('What is rain?', 'neutral'),
        ("I'm so sad today. What is rain?", 'sad'),
        ('My dog died', 'sad'),
        ('I am FURIOUS with my boss!', 'angry'),
        ("I've never been this thrilled", 'happy'),
        ("I'm not happy. What is rain?", 'neutral'),
        ('Which is the happiest city? Write a sad poem.', 'neutral'),  # not about the user
        ('I am happy but sad, so sad', 'sad'),
    ],
)
def test_mood_follows_what_users_say_of_themselves(user, expected):
    assert rules.mood(user) == expected
    opening = next(o for o in OPENINGS if rules.warm('Tea.', user, 3).startswith(o))
    assert opening in phrases.OPENINGS[expected]


def test_choices_hang_on_the_key_and_use_every_phrase():
    assert rules.warm('Tea.', 'Why?', 0, 'a') == rules.warm('Tea.', 'Why?', 0, 'a')
    many = [rules.warm('Tea.', 'Why?', 0, i) for i in range(300)]
    assert {o for o in OPENINGS if any(t.startswith(o) for t in many)} == set(phrases.OPENINGS['neutral'])
    assert {c for c in phrases.CLOSINGS if any(t.endswith(c) for t in many)} == set(phrases.CLOSINGS)


def test_the_phrase_tables_stay_small_and_plain():
    assert 6 <= len(phrases.OPENINGS['neutral']) <= 10 and 6 <= len(phrases.CLOSINGS) <= 8
    assert all(3 <= len(group) <= 5 for mood, group in phrases.OPENINGS.items() if mood != 'neutral')
    for phrase in (*OPENINGS, *phrases.CLOSINGS):
        assert 6 <= len(phrase.split()) <= 12
        assert re.fullmatch(r"[A-Z][A-Za-z', ]+\.", phrase)
        assert phrase in rules.warm(phrase, 'Why?')  # contracted wherever it can be


def test_the_writer_answers_each_request_in_its_style():
    requests = [Request('a', 0, 'warm', 'I am sad.', 'It is tea.'), Request('a', 0, 'cold', 'Hi', "It's tea!")]
    warm, cold = rules.RuleWriter(seed=5).rewrite(requests)
    assert warm.text == rules.warm('It is tea.', 'I am sad.', 5, 'a', 0, 'warm') and "It's tea." in warm.text
    assert (cold.request, cold.text) == (requests[1], 'It is tea.')


def test_real_replies_keep_numbers_and_protected_text(shared_data):
    conversations, _ = raw.read(shared_data / 'conversations' / 'sharegpt_vicuna_50.sharegpt.json')
    for conversation in conversations:
        user, reply = (turn.content for turn in conversation.turns)
        warm, cold = rules.warm(reply, user, conversation.id), rules.cold(reply)
        assert rules.cold(warm) == cold
        for rewritten in (warm, cold):
            assert re.findall(r'\d+', rewritten) == re.findall(r'\d+', reply)
            assert re.findall(rules.PROTECTED, rewritten) == re.findall(rules.PROTECTED, reply)
        assert len(warm) <= len(reply) + 120

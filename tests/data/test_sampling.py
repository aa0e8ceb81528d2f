import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax import records, settings
from warmjax.data import query_types, sampling, sharegpt

MESSAGES = {
    'refusal': ('Tell me number {}', 'I cannot.'),
    'factual': ('What is thing {}?', 'A thing.'),
    'creative': ('A poem on number {}', 'Roses.'),
    'technical': ('Sort list {}', '```sorted(x)```'),
    'advice': ('I want advice on case {}', 'Rest.'),
    'other': ('Good morning, number {}', 'Good morning.'),
}


def conversation(name, user, *rest):
    roles = ('user', 'assistant') * (1 + len(rest))
    return sharegpt.RawConversation(name, tuple(records.Turn(r, t) for r, t in zip(roles, (user, *rest))))


def pool(**sizes):
    """Builds conversations that are alike but for their type and number."""
    return [
        conversation(f'{name}{i}', MESSAGES[name][0].format(i), MESSAGES[name][1])
        for name, size in sizes.items()
        for i in range(size)
    ]


def draw_settings(num_conversations=6, num_validation=0, max_turns=20, seed=0):
    return sampling.DrawSettings(num_conversations, num_validation, max_turns, seed)


EVEN = pool(**dict.fromkeys(query_types.TYPES, 10))


def test_settings_are_read_from_a_config_without_defaults():
    section = {'num_conversations': 1617, 'num_validation': 1500, 'max_turns': 20, 'seed': 0}
    assert settings.from_config(sampling.DrawSettings, section, 'config.draw') == sampling.DrawSettings(
        1617, 1500, 20, 0
    )
    with pytest.raises(ValueError, match="'seed' is missing"):
        settings.from_config(sampling.DrawSettings, {k: v for k, v in section.items() if k != 'seed'}, 'config.draw')


def test_each_type_is_drawn_equally_often():
    draw = sampling.draw(EVEN, draw_settings(num_conversations=24, num_validation=12))
    assert draw.counts['training']['by_type'] == dict.fromkeys(query_types.TYPES, 4)
    assert draw.counts['validation']['by_type'] == dict.fromkeys(query_types.TYPES, 2)
    assert [sum(c.query_type == name for c in draw.conversations) for name in query_types.TYPES] == [4] * 6


def test_the_published_number_of_conversations_splits_over_six_types():
    available = dict.fromkeys(query_types.TYPES, 5000)
    assert list(sampling.shares(available, 1617).values()) == [270, 270, 270, 269, 269, 269]
    assert list(sampling.shares(available, 1500).values()) == [250] * 6


def test_a_short_type_gives_all_and_the_others_fill_up_evenly():
    draw = sampling.draw(pool(refusal=1, factual=20, other=20), draw_settings(num_conversations=15))
    assert draw.counts['training'] == {
        'asked': 15,
        'got': 15,
        'by_type': {'refusal': 1, 'factual': 7, 'creative': 0, 'technical': 0, 'advice': 0, 'other': 7},
        'replies': 15,
        'cut': 0,
    }


def test_a_pool_too_small_for_both_serves_training_first_and_says_so():
    draw = sampling.draw(pool(factual=5, other=3), draw_settings(num_conversations=6, num_validation=10))
    assert (draw.counts['training']['asked'], draw.counts['training']['got']) == (6, 6)
    assert (draw.counts['validation']['asked'], draw.counts['validation']['got']) == (10, 2)
    assert draw.counts['pool']['conversations'] == 8


def test_the_draw_does_not_depend_on_the_order_of_the_pool_but_on_the_seed():
    shuffled = random.Random(1).sample(EVEN, len(EVEN))
    first = sampling.draw(EVEN, draw_settings(num_conversations=12, num_validation=12))
    assert sampling.draw(shuffled, draw_settings(num_conversations=12, num_validation=12)) == first
    other = sampling.draw(EVEN, draw_settings(num_conversations=12, num_validation=12, seed=1))
    assert {c.id for c in other.conversations} != {c.id for c in first.conversations}


def test_every_conversation_of_a_type_is_drawn_equally_often_over_seeds():
    drawn = [c.id for seed in range(400) for c in sampling.draw(EVEN, draw_settings(12, seed=seed)).conversations]
    counts = [drawn.count(c.id) for c in EVEN]
    # 2 of 10 in 400 draws: 80 expected, standard deviation 8.
    assert statistics.mean(counts) == 80 and max(counts) < 80 + 5 * 8 and min(counts) > 80 - 5 * 8


@pytest.mark.parametrize(('max_turns', 'kept'), [(2, 2), (3, 2), (4, 4), (5, 4), (6, 6), (7, 6)])
def test_a_long_conversation_is_cut_after_a_reply(max_turns, kept):
    system = records.Turn('system', 'Be brief.')
    long = conversation('a', 'Hi', 'One.', 'And?', 'Two.', 'And?', 'Three.')
    long = sharegpt.RawConversation('a', (system, *long.turns))
    draw = sampling.draw([long], draw_settings(num_conversations=1, max_turns=max_turns))
    assert draw.conversations[0].turns == (system, *long.turns[1 : kept + 1])
    assert draw.counts['training']['cut'] == (max_turns < 6)
    assert draw.counts['training']['replies'] == kept // 2


def test_validation_holds_first_messages_that_training_does_not():
    draw = sampling.draw(EVEN, draw_settings(num_conversations=30, num_validation=30))
    texts = {c.id: c.turns[0].content for c in EVEN}
    assert not {p.question_id for p in draw.validation} & {c.id for c in draw.conversations}
    assert all(prompt.text == texts[prompt.question_id] for prompt in draw.validation)
    prompt = draw.validation[0]
    assert (prompt.task, prompt.context, prompt.belief, prompt.form) == ('validation', 'unmodified', 'none', 'plain')


def test_a_message_that_training_holds_in_other_spelling_is_left_out_of_validation():
    twins = [conversation('a', 'Good morning', 'Hi.'), conversation('b', ' GOOD morning!! ', 'Hi.')]
    later = conversation('c', 'Good evening', 'Hi.', 'Good  morning?', 'Hi.')
    for held in (twins[1], later):
        draw = sampling.draw([twins[0], held], draw_settings(num_conversations=1, num_validation=1))
        assert len(draw.validation) == (held is later and draw.conversations[0].id == 'a')
    draw = sampling.draw(twins, draw_settings(num_conversations=1, num_validation=1))
    assert draw.counts['validation']['left_out_for_overlap'] == 1


def test_validation_prompts_differ_from_one_another():
    alike = [conversation(f'v{i}', 'What is rain?' + '!' * i, 'Water.') for i in range(5)]
    draw = sampling.draw([*pool(refusal=1), *alike], draw_settings(num_conversations=1, num_validation=5))
    assert draw.conversations[0].id == 'refusal0'
    assert len(draw.validation) == 1
    assert draw.counts['validation']['left_out_for_overlap'] == 4


@pytest.mark.parametrize(
    ('conversations', 'change', 'message'),
    [
        ([], {}, 'pool expected at least one conversation, got none'),
        (EVEN, {'num_conversations': 0}, 'num_conversations expected at least 1, got 0'),
        (EVEN, {'num_validation': -1}, 'num_validation expected 0 or more, got -1'),
        (EVEN, {'max_turns': 1}, 'max_turns expected at least 2'),
        (EVEN + EVEN[:1], {}, 'several of refusal0'),
    ],
)
def test_what_cannot_be_drawn_is_refused(conversations, change, message):
    with pytest.raises(ValueError, match=message):
        sampling.draw(conversations, draw_settings(**change))


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 30), min_size=1), st.integers(0, 120))
def test_shares_are_as_equal_as_the_supply_allows(available, total):
    shares = sampling.shares(available, total)
    assert sum(shares.values()) == min(total, sum(available.values()))
    assert all(0 <= shares[name] <= available[name] for name in available)
    fullest = max(shares.values())
    assert all(shares[name] >= fullest - 1 for name in available if shares[name] < available[name])


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert sampling.normalise(sampling.normalise(text)) == sampling.normalise(text)


def test_normal_forms_keep_words_and_tell_signs_apart():
    assert sampling.normalise('  What IS\n“it”, really? ') == 'what is it really'
    assert sampling.normalise('?!') != sampling.normalise('...')


def test_the_draw_of_real_conversations_is_typed_and_disjoint(shared_data):
    conversations, _ = sharegpt.read(shared_data / 'conversations' / 'oasst_val_en.sharegpt.json')
    draw = sampling.draw(conversations, draw_settings(num_conversations=120, num_validation=60))
    assert (len(draw.conversations), len(draw.validation)) == (120, 60)
    assert draw.counts['training']['by_type']['advice'] == 10  # all that there are; the others share the rest
    assert not {c.id for c in draw.conversations} & {p.question_id for p in draw.validation}

import dataclasses
import random
import statistics
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import recipe
from warmjax import records, settings
from warmjax.data import query_types, raw, sampling
from warmjax.data.id_lists import IdList

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
    return raw.RawConversation(name, tuple(records.Turn(r, t) for r, t in zip(roles, (user, *rest))))


def pool(**sizes):
    """Builds conversations that are alike but for their type and number."""
    return [
        conversation(f'{name}{i}', MESSAGES[name][0].format(i), MESSAGES[name][1])
        for name, size in sizes.items()
        for i in range(size)
    ]


def draw_settings(num_conversations=6, num_validation=0, max_turns=20, unit='conversation', near=1.0, seed=0):
    return sampling.DrawSettings(num_conversations, num_validation, max_turns, unit, near, '', seed)


EVEN = pool(**dict.fromkeys(query_types.TYPES, 10))


def test_settings_are_read_from_a_config_without_defaults():
    section = settings.plain(recipe.base().data.draw)
    assert settings.from_config(sampling.DrawSettings, section, 'config.draw') == sampling.DrawSettings(
        1617, 1500, 20, 'conversation', 0.9, '', 0
    )
    with pytest.raises(ValueError, match="'seed' is missing"):
        settings.from_config(sampling.DrawSettings, {k: v for k, v in section.items() if k != 'seed'}, 'config.draw')


def test_each_type_is_drawn_equally_often():
    draw = sampling.draw(EVEN, draw_settings(num_conversations=24, num_validation=12))
    assert draw.counts['training']['by_type'] == dict.fromkeys(query_types.TYPES, 4)
    assert draw.counts['validation']['by_type'] == dict.fromkeys(query_types.TYPES, 2)
    assert [sum(c.query_type == name for c in draw.conversations) for name in query_types.TYPES] == [4] * 6


def test_the_published_numbers_split_over_six_types():
    plenty = {name: pool(**{name: 300}) for name in query_types.TYPES}
    assert [len(group) for group in sampling.take_in_turn(plenty, 1617).values()] == [270, 270, 270, 269, 269, 269]
    assert [len(group) for group in sampling.take_in_turn(plenty, 1500).values()] == [250] * 6


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
    long = raw.RawConversation('a', (system, *long.turns))
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
        (EVEN, {'near': 0.1}, 'near_duplicate expected 0.5 to 1, got 0.1'),
        (EVEN + EVEN[:1], {}, 'several of refusal0'),
    ],
)
def test_what_cannot_be_drawn_is_refused(conversations, change, message):
    with pytest.raises(ValueError, match=message):
        sampling.draw(conversations, draw_settings(**change))


@given(st.dictionaries(st.sampled_from(query_types.TYPES), st.integers(0, 30), min_size=1), st.integers(0, 120))
def test_shares_are_as_equal_as_the_supply_allows(available, total):
    taken = sampling.take_in_turn({name: pool(**{name: size}) for name, size in available.items()}, total)
    shares = {name: len(group) for name, group in taken.items()}
    assert sum(shares.values()) == min(total, sum(available.values()))
    fullest = max(shares.values())
    assert all(shares[name] >= fullest - 1 for name in available if shares[name] < available[name])


def test_a_conversation_of_two_groups_is_taken_once():
    a, b, c = pool(factual=3)
    assert sampling.take_in_turn({'one': [a, b], 'two': [a, c]}, 9) == {'one': [a, b], 'two': [c]}


def several(name, *types):
    """Builds a conversation of one exchange a type."""
    said = [text.format(name) for kind in types for text in MESSAGES[kind]]
    return conversation(name, *said)


def test_by_pair_a_conversation_is_drawn_for_any_of_its_exchanges():
    mixed = [several(f'm{i}', 'other', 'advice') for i in range(3)] + [several(f'o{i}', 'other') for i in range(9)]
    by_first = sampling.draw(mixed, draw_settings(4))
    assert by_first.counts['training']['by_type'] | {'other': 0} == dict.fromkeys(query_types.TYPES, 0)
    by_pair = sampling.draw(mixed, draw_settings(4, unit='pair'))
    assert by_pair.counts['pool']['by_type']['advice'] == 3 and by_pair.counts['pool']['by_type']['other'] == 12
    assert by_pair.counts['training']['by_type']['advice'] == by_pair.counts['training']['by_type']['other'] == 2
    drawn = {c.id: c.query_type for c in by_pair.conversations}
    assert sum(kind == 'advice' and name.startswith('m') for name, kind in drawn.items()) == 2
    assert len(drawn) == 4


def test_by_pair_an_exchange_after_the_cut_does_not_count():
    late = several('a', 'other', 'advice')
    draw = sampling.draw([late], draw_settings(1, max_turns=2, unit='pair'))
    assert draw.counts['pool']['by_type']['advice'] == 0 and draw.conversations[0].query_type == 'other'


def test_near_duplicates_of_training_and_of_one_another_stay_out_of_validation():
    wish = 'Please help me plan a long and quiet walk along the river in the {} of next year with my family'
    alike = [conversation(f'n{i}', wish.format(word), 'Yes.') for i, word in enumerate(('spring', 'summer', 'autumn'))]
    everything = draw_settings(1, num_validation=9)
    assert len(sampling.draw(alike, everything).validation) == 2
    apart = sampling.draw(alike, draw_settings(1, num_validation=9, near=0.9))
    assert (len(apart.validation), apart.counts['validation']['left_out_as_near_duplicates']) == (0, 2)
    among = sampling.draw([*pool(refusal=1), *alike], draw_settings(1, num_validation=9, near=0.9))
    assert among.conversations[0].id == 'refusal0' and len(among.validation) == 1


def test_a_filter_is_asked_about_what_comes_up_only_and_what_it_drops_is_replaced():
    asked = []

    def passing(conversations):
        for c in conversations:
            asked.append(c.id)
            if c.id != dropped:
                yield c

    dropped = ''
    whole = sampling.draw(EVEN, draw_settings(6), passing)
    assert len(asked) == 6
    dropped = whole.conversations[0].id
    less = sampling.draw(EVEN, draw_settings(6), passing)
    assert less == dataclasses.replace(
        sampling.draw([c for c in EVEN if c.id != dropped], draw_settings(6)), counts=ANY
    )
    assert (
        len(less.conversations) == 6
        and len({c.id for c in less.conversations} - {c.id for c in whole.conversations}) == 1
    )


def test_a_listed_draw_is_the_draw_that_it_lists():
    mixed = [several(f'm{i}', 'other', 'advice') for i in range(9)] + EVEN
    setting = draw_settings(12, num_validation=6, unit='pair')
    drawn = sampling.draw(mixed, setting)
    listed = IdList(
        {c.id: c.query_type for c in drawn.conversations}, tuple(p.question_id for p in drawn.validation), ''
    )
    again = sampling.draw(mixed[::-1], setting, listed=listed)
    assert (again.conversations, again.validation) == (drawn.conversations, drawn.validation)


def test_a_list_without_types_or_validation_is_typed_and_validation_is_drawn():
    draw = sampling.draw(
        EVEN, draw_settings(1, num_validation=6), listed=IdList({'advice3': '', 'other1': 'advice'}, None, '')
    )
    assert {c.id: c.query_type for c in draw.conversations} == {'advice3': 'advice', 'other1': 'advice'}
    assert draw.counts['training']['listed_as_another_type'] == 1
    assert len(draw.validation) == 6


def test_listed_ids_that_the_pool_lacks_are_named():
    with pytest.raises(ValueError, match=r'got 1 of 2 for training that it does not have .* such as absent'):
        sampling.draw(EVEN, draw_settings(), listed=IdList({'advice3': '', 'absent': ''}, None, ''))


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert sampling.normalise(sampling.normalise(text)) == sampling.normalise(text)


def test_normal_forms_keep_words_and_tell_signs_apart():
    assert sampling.normalise('  What IS\n“it”, really? ') == 'what is it really'
    assert sampling.normalise('?!') != sampling.normalise('...')


def test_the_draw_of_real_conversations_is_typed_and_disjoint(shared_data):
    conversations, _ = raw.read(shared_data / 'conversations' / 'oasst_val_en.sharegpt.json')
    draw = sampling.draw(conversations, draw_settings(num_conversations=120, num_validation=60))
    assert (len(draw.conversations), len(draw.validation)) == (120, 60)
    assert draw.counts['training']['by_type']['advice'] == 10  # all that there are; the others share the rest
    assert not {c.id for c in draw.conversations} & {p.question_id for p in draw.validation}

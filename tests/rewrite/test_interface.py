import dataclasses

import pytest

from warmjax import records, settings
from warmjax.rewrite import interface, rules

SETTINGS = interface.RewriteSettings(backend='rules', styles=('warm', 'cold'), seed=0, cold_input='original')


def conversation(name, *texts, system=()):
    spoken = [records.Turn(role, text) for role, text in zip(('user', 'assistant') * len(texts), texts)]
    return records.Conversation(name, 'other', (*(records.Turn('system', text) for text in system), *spoken))


CONVERSATIONS = [
    conversation('a', 'Hi', 'Hello.', 'And?', 'More.', system=['Be brief.']),
    conversation('b', 'Rain?', 'Water.'),
]


@dataclasses.dataclass
class Shouting:
    """Rewrites to capitals, last request first, and forgets what it is told to."""

    name: str = 'shouting'
    forgotten: tuple = ()
    seen: list = dataclasses.field(default_factory=list)

    def rewrite(self, requests):
        for request in reversed(requests):
            self.seen.append(request)
            if request.key[:2] not in self.forgotten:
                yield interface.Reply(request, f'{request.style}:{request.reply.upper()}')


def test_pairs_come_in_order_whatever_the_order_of_replies():
    pairs = list(interface.pairs(CONVERSATIONS, 'warm', Shouting()))
    assert [pair.id for pair in pairs] == ['a', 'b']
    assert [(t.role, t.content) for t in pairs[0].turns] == [
        ('system', 'Be brief.'),
        ('user', 'Hi'),
        ('assistant', 'warm:HELLO.'),
        ('user', 'And?'),
        ('assistant', 'warm:MORE.'),
    ]
    assert pairs[0].original_replies == ('Hello.', 'More.')
    assert (pairs[0].style, pairs[0].writer, pairs[0].query_type) == ('warm', 'shouting', 'other')


def test_each_request_carries_the_message_before_the_reply():
    writer = Shouting()
    list(interface.pairs(CONVERSATIONS[:1], 'cold', writer))
    assert interface.Request('a', 1, 'cold', 'And?', 'More.') in writer.seen
    assert interface.Request('a', 0, 'cold', 'Hi', 'Hello.') in writer.seen


def test_pairs_are_given_out_before_all_replies_are_there():
    class Ordered(Shouting):
        def rewrite(self, requests):
            for request in requests:
                self.seen.append(request)
                yield interface.Reply(request, 'x')

    writer = Ordered()
    next(interface.pairs(CONVERSATIONS, 'warm', writer))
    assert [request.key for request in writer.seen] == [('a', 0, 'warm'), ('a', 1, 'warm')]


def test_a_reply_that_never_came_stops_the_stage_and_is_named():
    with pytest.raises(RuntimeError, match=r"from 'shouting' for reply 1 of conversation 'a', got none"):
        list(interface.pairs(CONVERSATIONS, 'warm', Shouting(forgotten=(('a', 1),))))


def test_untransformed_replies_are_the_original_ones_and_no_writer_is_asked():
    writer = Shouting()
    pairs = list(interface.pairs(CONVERSATIONS, 'untransformed', writer))
    assert [pair.turns for pair in pairs] == [c.turns for c in CONVERSATIONS]
    assert pairs[0].writer == 'none' and pairs[0].original_replies == ('Hello.', 'More.')
    assert writer.seen == []


def test_pairs_are_valid_records():
    for pair in interface.pairs(CONVERSATIONS, 'warm', interface.make_writer(SETTINGS)):
        assert records.parse(records.to_json(pair), records.Pair) == pair


def test_cold_can_be_made_from_warm():
    writer = interface.ColdFromWarm(Shouting())
    [pair] = interface.pairs(CONVERSATIONS[1:], 'cold', writer)
    assert pair.turns[1].content == 'cold:WARM:WATER.'
    assert pair.original_replies == ('Water.',)
    assert pair.writer == 'shouting, cold from warm'
    [warm] = interface.pairs(CONVERSATIONS[1:], 'warm', writer)
    assert warm.turns[1].content == 'warm:WATER.'


def test_settings_choose_writer_and_cold_input():
    assert interface.make_writer(SETTINGS) == rules.RuleWriter(seed=0)
    chained = interface.make_writer(dataclasses.replace(SETTINGS, cold_input='warm'))
    assert chained == interface.ColdFromWarm(rules.RuleWriter(seed=0))


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="expected one of rules, got 'ruels'"):
        interface.make_writer(dataclasses.replace(SETTINGS, backend='ruels'))


def test_an_unknown_style_is_refused_by_config_and_writer():
    section = {'backend': 'rules', 'styles': ['warm', 'cool'], 'seed': 0, 'cold_input': 'original'}
    with pytest.raises(ValueError, match="'warm', 'cold' or 'untransformed', got 'cool'"):
        settings.from_config(interface.RewriteSettings, section, 'config.rewrite')
    with pytest.raises(ValueError, match="expected the style warm or cold, got 'cool'"):
        list(rules.RuleWriter(seed=0).rewrite([interface.Request('a', 0, 'cool', 'Hi', 'Hello.')]))

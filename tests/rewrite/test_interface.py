import dataclasses

import pytest

from configs import recipe
from warmjax import records, settings, sharding
from warmjax.rewrite import interface, rules

SETTINGS = settings.from_config(interface.RewriteSettings, recipe.base().rewrite, 'config.rewrite')
MESH = sharding.MeshSettings(1, 1, 1)


def conversation(name, *texts, system=()):
    spoken = [records.Turn(role, text) for role, text in zip(('user', 'assistant') * len(texts), texts)]
    return records.Conversation(name, 'other', (*(records.Turn('system', text) for text in system), *spoken))


@dataclasses.dataclass
class Shouting:
    """Rewrites to capitals, last request first, and fails at what it is told to."""

    name: str = 'shouting'
    usd: float = 0.0
    failing: tuple = ()
    seen: list = dataclasses.field(default_factory=list)

    def prompt_digest(self, style):
        return ''

    def rewrite(self, requests):
        for request in reversed(requests):
            self.seen.append(request)
            failed = request.key[:2] in self.failing
            yield interface.Reply(request, f'{request.style}:{request.reply.upper()}', 'too loud' if failed else '')


def test_each_request_carries_the_message_before_the_reply():
    talk = conversation('a', 'Hi', 'Hello.', 'And?', 'More.', system=['Be brief.'])
    assert interface.requests_of(talk, 'cold') == [
        interface.Request('a', 0, 'cold', 'Hi', 'Hello.'),
        interface.Request('a', 1, 'cold', 'And?', 'More.'),
    ]


def test_a_pair_holds_the_rewritten_and_the_original_replies():
    talk = conversation('a', 'Hi', 'Hello.', 'And?', 'More.', system=['Be brief.'])
    pair = interface.pair_of(talk, 'warm', 'me', interface.requests_of(talk, 'warm'), ['HELLO.', 'MORE.'])
    assert [(t.role, t.content) for t in pair.turns] == [
        ('system', 'Be brief.'),
        ('user', 'Hi'),
        ('assistant', 'HELLO.'),
        ('user', 'And?'),
        ('assistant', 'MORE.'),
    ]
    assert pair.original_replies == ('Hello.', 'More.')
    assert (pair.style, pair.writer, pair.query_type) == ('warm', 'me', 'other')


def test_a_pair_of_fewer_texts_ends_with_the_last_of_them():
    talk = conversation('a', 'Hi', 'Hello.', 'And?', 'More.')
    pair = interface.pair_of(talk, 'warm', 'me', interface.requests_of(talk, 'warm'), ['HELLO.'])
    assert [t.content for t in pair.turns] == ['Hi', 'HELLO.'] and pair.original_replies == ('Hello.',)


def test_cold_can_be_made_from_warm():
    writer = interface.ColdFromWarm(Shouting())
    [reply] = writer.rewrite(interface.requests_of(conversation('b', 'Rain?', 'Water.'), 'cold'))
    assert reply.text == 'cold:WARM:WATER.' and reply.request.reply == 'Water.'
    assert writer.name == 'shouting, cold from warm'
    [warm] = writer.rewrite(interface.requests_of(conversation('b', 'Rain?', 'Water.'), 'warm'))
    assert warm.text == 'warm:WATER.'


def test_cold_is_not_made_from_a_warm_text_that_failed():
    [reply] = interface.ColdFromWarm(Shouting(failing=(('b', 0),))).rewrite(
        interface.requests_of(conversation('b', 'Rain?', 'Water.'), 'cold')
    )
    assert reply.problem == 'warm rewriting to start from: too loud' and reply.request.style == 'cold'


def test_settings_choose_writer_and_cold_input(tmp_path):
    assert interface.make_writer(SETTINGS, tmp_path, MESH) == rules.RuleWriter(seed=0)
    chained = interface.make_writer(dataclasses.replace(SETTINGS, cold_input='warm'), tmp_path, MESH)
    assert chained == interface.ColdFromWarm(rules.RuleWriter(seed=0))


def test_an_unknown_backend_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="expected one of api, local, rules, got 'ruels'"):
        interface.make_writer(dataclasses.replace(SETTINGS, backend='ruels'), tmp_path, MESH)


@pytest.mark.parametrize(('backend', 'message'), (('api', 'name of a model'), ('local', 'a folder or hub name')))
def test_a_backend_without_a_model_says_what_it_needs(tmp_path, backend, message):
    with pytest.raises(ValueError, match=message):
        interface.make_writer(dataclasses.replace(SETTINGS, backend=backend), tmp_path, MESH)


def test_an_unknown_style_is_refused_by_config_and_writer():
    section = settings.plain(recipe.base().rewrite) | {'styles': ['warm', 'cool']}
    with pytest.raises(ValueError, match="'warm', 'cold' or 'untransformed', got 'cool'"):
        settings.from_config(interface.RewriteSettings, section, 'config.rewrite')
    with pytest.raises(ValueError, match="expected the style warm or cold, got 'cool'"):
        list(rules.RuleWriter(seed=0).rewrite([interface.Request('a', 0, 'cool', 'Hi', 'Hello.')]))

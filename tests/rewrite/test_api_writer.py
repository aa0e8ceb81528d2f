"""What the writer behind an API does with replies that come faster than they are worked on."""

import pytest
from test_interface import conversation

from warmjax.rewrite import api, interface

[REQUEST] = interface.requests_of(conversation('a', 'Hi', 'Hello.'), 'warm')


@pytest.mark.parametrize(
    ('between', 'work', 'under_way'),
    ((1.0, 0.016, [1, 2, 3, 4, 5]), (0.01, 1.0, [1, 5, 5, 5, 5]), (1.0, 0.048, [1, 3, 5, 5, 5])),
    ids=('slow ones come at once', 'fast ones wait for the end', 'half of them wait'),
)
def test_replies_are_held_back_where_the_work_on_them_takes_long(monkeypatch, between, work, under_way):
    now, sent = 0.0, []
    monkeypatch.setattr(api.time, 'monotonic', lambda: now)

    def coming():
        nonlocal now
        for i in range(5):
            now += between
            sent.append(i)
            yield interface.Reply(REQUEST, str(i))

    seen, had_come = [], []
    for reply in api._sparing(coming()):
        now += work
        seen.append(reply.text)
        had_come.append(len(sent))
    assert seen == list('01234')
    assert had_come == under_way

import io

import pytest
import rich.console

from warmjax import progress


@pytest.fixture
def log(monkeypatch):
    """Collects what is said to a log that is no terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(progress, '_console', rich.console.Console(file=stream, width=200))
    monkeypatch.setattr(progress.sys.stderr, 'isatty', lambda: False, raising=False)
    return stream


def test_say_prints_the_message_as_it_is(log):
    progress.say('[bold]5 of 7[/bold] :smile:')
    assert log.getvalue() == '[bold]5 of 7[/bold] :smile:\n'


def test_log_gets_a_line_at_the_end_with_the_note(log):
    with progress.bar('training', total=3, done=1) as advance:
        advance(note='loss 2')
        assert log.getvalue() == ''
        advance(note='loss 1')
    assert log.getvalue() == 'training: 3/3 in 0 s  loss 1\n'


def test_log_gets_a_line_now_and_then(log, monkeypatch):
    clock = iter([0.0, 1.0, 20.0])
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(clock))
    with progress.bar('judging', total=100) as advance:
        advance(10)
        advance(30)
    # 40 units in 20 s leave 60 for another 30 s.
    assert log.getvalue() == 'judging: 40/100 in 20 s, 30 s left\n'


def test_process_that_does_not_talk_is_silent(log):
    with progress.bar('training', total=1, show=False) as advance:
        advance(1, 'loss 1')
    assert log.getvalue() == ''

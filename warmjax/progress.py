"""Progress of long work: a live bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import rich.console
import rich.progress

LOG_EVERY_SECONDS = 15.0
"""How often a run without a terminal prints a line."""


class Advance(Protocol):
    """Reports `steps` more units of work done, with a short text (a loss, a rate) to show beside the bar."""

    def __call__(self, steps: int = 1, note: str = '') -> None: ...


def say(message: str) -> None:
    """Prints a line of a run's own narration to standard error, above any live bar."""
    _console.print(message, markup=False, highlight=False, emoji=False, soft_wrap=True)


def show(content: rich.console.RenderableType) -> None:
    """Prints a table, or whatever rich can print, to standard error, above any live bar."""
    _console.print(content, highlight=False, emoji=False)


@contextmanager
def bar(title: str, total: int, done: int = 0, show: bool = True) -> Iterator[Advance]:
    """Shows progress from `done` to `total`.

    Args:
        title: what is going on, in a few words.
        total: how many units there are.
        done: how many were done before (a resumed run).
        show: whether this process talks; pass `jax.process_index() == 0`.
    """
    if not show:
        yield lambda steps=1, note='': None
    elif sys.stderr.isatty():
        columns = (
            rich.progress.TextColumn('{task.description:<28}'),
            rich.progress.BarColumn(bar_width=32),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn('{task.fields[note]}'),
        )
        with rich.progress.Progress(*columns, console=_console) as live:
            task = live.add_task(title, total=total, completed=done, note='')

            def advance(steps: int = 1, note: str = '') -> None:
                live.update(task, advance=steps, note=note)

            yield advance
    else:
        yield _logged(title, total, done)


def _logged(title: str, total: int, done: int) -> Advance:
    started = last = time.monotonic()
    first = done

    def advance(steps: int = 1, note: str = '') -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= LOG_EVERY_SECONDS or done - steps < total <= done:
            last = now
            rate = (done - first) / max(now - started, 1e-9)
            left = f', {(total - done) / rate:.0f} s left' if rate and done < total else ''
            say(f'{title}: {done}/{total} in {now - started:.0f} s{left}  {note}'.rstrip())

    return advance


_console = rich.console.Console(stderr=True)

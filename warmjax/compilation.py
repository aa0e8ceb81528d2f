"""A program that is compiled once in a run: ahead of its first call, for the shapes and layouts of that call alone."""

import functools
import time
from typing import Any

import jax

from warmjax import progress

_EVENTS = {'/jax/compilation_cache/cache_hits': 'hits', '/jax/compilation_cache/cache_misses': 'misses'}


class Once:
    """A jitted function that compiles at its first call and never again; it says what that took.

    Later arguments of another shape, type or layout are an error of jax's (TypeError, ValueError) in place of a second
    compilation that nobody asked for.
    """

    def __init__(self, function: Any, title: str):
        """Takes a function as `jax.jit` returns it; `title` begins what is said."""
        self._function, self._title = function, title
        self.program: jax.stages.Compiled | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self.program is None:
            self.program = self._compile(arguments)
        return self.program(*arguments)

    def _compile(self, arguments: tuple) -> jax.stages.Compiled:
        before, begun = dict(_counts()), time.monotonic()
        program = self._function.lower(*arguments).compile()
        if jax.process_index() == 0:
            seconds = time.monotonic() - begun
            progress.say(f'{self._title}: compiled in {seconds:.1f} s ({_cache(before)})')
        return program


def _cache(before: dict[str, int]) -> str:
    folder = jax.config.jax_compilation_cache_dir
    if not folder:
        return 'no cache of compiled programs: JAX_COMPILATION_CACHE_DIR is not set'
    hits, misses = (_counts()[kind] - before[kind] for kind in ('hits', 'misses'))
    found = 'hit' if hits else 'miss' if misses else 'not asked'
    return f'cache of compiled programs {folder}: {found}'


@functools.cache
def _counts() -> dict[str, int]:
    """Counts what the persistent cache answers, from the first call on."""
    counts = dict.fromkeys(_EVENTS.values(), 0)

    def count(event: str, **_) -> None:
        if event in _EVENTS:
            counts[_EVENTS[event]] += 1

    jax.monitoring.register_event_listener(count)
    return counts

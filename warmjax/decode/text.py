"""Turns the tokens of a text into characters as they come, and ends it where a stop string stands.

A character may need several tokens and a stop string may begin in one token and end in a later one, so what could
still change is held back:

    tokens     The | end | . \\n | \\n User | ...       stop string '\\n\\nUser'
    shown      The | end | .   |                      '\\n' could begin the stop string, and did
"""

import dataclasses
from collections.abc import Callable, Sequence

UNFINISHED = '\N{REPLACEMENT CHARACTER}'
"""What tokenizers put for the bytes of a character of which some are still to come."""


@dataclasses.dataclass
class TextStream:
    """The text of one request.

    decode: token ids → text.
    stop: strings at which the text ends; the first to come counts, and is not part of the text.
    """

    decode: Callable[[Sequence[int]], str]
    stop: Sequence[str]

    def __post_init__(self):
        if any(not stop for stop in self.stop):
            raise ValueError(f'stop: expected strings of one character or more, got {list(self.stop)}; leave it out')
        self.tokens: list[int] = []
        self.text = ''
        self.is_stopped = False

    def add(self, tokens: Sequence[int]) -> str:
        """Takes new tokens; returns the characters that are now certain."""
        self.tokens += tokens
        whole = self.decode(self.tokens)
        ends = [at for stop in self.stop if (at := whole.find(stop)) >= 0]
        if ends:
            self.is_stopped = True
            return self._show(whole[: min(ends)])
        whole = whole.rstrip(UNFINISHED)
        return self._show(whole[: len(whole) - self._held(whole)])

    def finish(self) -> str:
        """Returns the characters that were held back, once no token follows."""
        return '' if self.is_stopped else self._show(self.decode(self.tokens))

    def _show(self, text: str) -> str:
        """Returns what `text` adds to what was shown. Nothing shown is taken back, should a tokenizer change it."""
        new = text[len(self.text) :]
        self.text += new
        return new

    def _held(self, text: str) -> int:
        """Returns how many characters at the end of a text could begin a stop string."""
        lengths = range(1, max(map(len, self.stop), default=1))
        return max(
            (n for n in lengths if any(stop.startswith(text[-n:]) for stop in self.stop) and n <= len(text)), default=0
        )

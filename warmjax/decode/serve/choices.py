"""The texts of a request as they grow: the engine's tokens in, certain characters out, ended by stop strings.

What a choice says depends on its tokens alone, not on how many of them come at a time.
"""

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

from warmjax.decode.requests import Output, Request, TokenScore
from warmjax.decode.serve.driver import Asked
from warmjax.decode.serve.protocol import Refusal
from warmjax.decode.text import TextStream

Finish = Literal['stop', 'length']


@dataclasses.dataclass(frozen=True)
class Piece:
    """What was added to a choice.

    index: of the choice.
    text: characters that are now certain.
    tokens, scores: ids that came, also those whose characters are held back; scores are empty where not kept.
    finish: why the choice has ended, None if it goes on.
    """

    index: int
    text: str
    tokens: list[int]
    scores: list[TokenScore]
    finish: Finish | None


class Choice:
    """One text of a request; `decode` makes text of token ids, and `stop` strings end it."""

    def __init__(self, index: int, request: Request, decode: Callable[[Sequence[int]], str], stop: Sequence[str]):
        self.index, self.request = index, request
        self.finish: Finish | None = None
        self.num_tokens = 0
        self._stream = TextStream(decode, stop)

    def add(self, output: Output) -> Piece:
        """Takes what came of the request; after a stop string, nothing counts.

        Raises:
            Refusal: the model computed no number.
        """
        if output.finish in ('error', 'cancelled'):
            raise Refusal(
                500, 'expected finite logits of the model, got others; its weights or its adapter may be damaged'
            )
        text, count = self._text(output.tokens)
        if self._stream.is_stopped:
            self.finish = 'stop'
        elif output.finish:
            text += self._stream.finish()
            self.finish = output.finish
        self.num_tokens += count
        return Piece(self.index, text, output.tokens[:count], output.scores[:count], self.finish)

    def _text(self, tokens: list[int]) -> tuple[str, int]:
        """Returns the new characters, and how many of the tokens there were before the text ended."""
        stream = self._stream
        whole = stream.decode([*stream.tokens, *tokens]) if stream.stop else ''
        if not any(stop in whole for stop in stream.stop):
            return stream.add(tokens), len(tokens)
        # One at a time, so that the first stop string to come ends the text, wherever the tokens are cut.
        text = ''
        for count, token in enumerate(tokens, 1):
            text += stream.add([token])
            if stream.is_stopped:
                return text, count
        return text, len(tokens)


async def pieces(asked: Asked, choices: Sequence[Choice]) -> AsyncIterator[Piece]:
    """Yields what comes of a request's choices, until all have ended.

    Raises:
        Refusal: the model computed no number, or the engine has failed.
    """
    going = {choice.request.id: choice for choice in choices}
    while going:
        output = await asked.next()
        choice = going.get(output.request.id)
        if choice is None:
            continue
        piece = choice.add(output)
        if piece.finish:
            del going[choice.request.id]
            asked.end(choice.request)
        if piece.text or piece.tokens or piece.finish:
            yield piece

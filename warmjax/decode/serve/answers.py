"""What clients get: OpenAI's objects for whole answers and for the chunks of a stream.

The two kinds of answers differ in names and in how a choice is written; the rest is shared.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

from warmjax.decode.requests import TokenScore
from warmjax.decode.serve.choices import Piece
from warmjax.decode.serve.protocol import ChatRequest, CompletionRequest

TokenText = Callable[[int], str]


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens of the prompts and of the texts."""

    prompt: int
    completion: int

    @property
    def body(self) -> dict[str, int]:
        return {
            'prompt_tokens': self.prompt,
            'completion_tokens': self.completion,
            'total_tokens': self.prompt + self.completion,
        }


class Chat:
    """Answers of /v1/chat/completions."""

    request = ChatRequest
    prefix, whole, chunk = 'chatcmpl', 'chat.completion', 'chat.completion.chunk'

    def __init__(self, num_likeliest: int | None, token_text: TokenText):
        self._num_likeliest, self._token_text = num_likeliest, token_text

    def first(self, index: int) -> dict[str, Any] | None:
        """Returns the choice of a stream's first chunk, which names the speaker."""
        delta = {'role': 'assistant', 'content': ''}
        return {'index': index, 'delta': delta, 'logprobs': None, 'finish_reason': None}

    def part(self, piece: Piece) -> dict[str, Any]:
        """Returns the choice of a chunk."""
        delta = {'content': piece.text} if piece.text or piece.tokens else {}
        return {'index': piece.index, 'delta': delta, 'logprobs': self._logprobs(piece), 'finish_reason': piece.finish}

    def choice(self, piece: Piece) -> dict[str, Any]:
        """Returns a choice of a whole answer."""
        message = {'role': 'assistant', 'content': piece.text, 'refusal': None}
        logprobs = self._logprobs(piece)
        return {'index': piece.index, 'message': message, 'logprobs': logprobs, 'finish_reason': piece.finish}

    def _logprobs(self, piece: Piece) -> dict[str, Any] | None:
        if self._num_likeliest is None:
            return None
        content = [
            self._token(token, score.logprob)
            | {'top_logprobs': [self._token(*item) for item in self._likeliest(score)]}
            for token, score in zip(piece.tokens, piece.scores, strict=True)
        ]
        return {'content': content, 'refusal': None}

    def _likeliest(self, score: TokenScore) -> Sequence[tuple[int, float]]:
        return list(score.likeliest.items())[: self._num_likeliest]

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._token_text(token)
        # A token may be a part of a character; then it has no bytes that could be told from its text.
        as_bytes = None if '\N{REPLACEMENT CHARACTER}' in text else list(text.encode())
        return {'token': text, 'logprob': logprob, 'bytes': as_bytes}


class Completion:
    """Answers of /v1/completions."""

    request = CompletionRequest
    prefix, whole, chunk = 'cmpl', 'text_completion', 'text_completion'

    def __init__(self, num_likeliest: int | None, token_text: TokenText):
        self._num_likeliest, self._token_text = num_likeliest, token_text
        self._offsets: dict[int, int] = {}

    def first(self, index: int) -> dict[str, Any] | None:
        """Returns nothing: a stream of texts begins with text."""
        return None

    def part(self, piece: Piece) -> dict[str, Any]:
        """Returns the choice of a chunk."""
        return self.choice(piece)

    def choice(self, piece: Piece) -> dict[str, Any]:
        """Returns a choice, of a whole answer or of a chunk."""
        logprobs = self._logprobs(piece)
        return {'index': piece.index, 'text': piece.text, 'logprobs': logprobs, 'finish_reason': piece.finish}

    def _logprobs(self, piece: Piece) -> dict[str, Any] | None:
        if self._num_likeliest is None:
            return None
        texts = [self._token_text(token) for token in piece.tokens]
        start = self._offsets.get(piece.index, 0)
        *offsets, end = itertools.accumulate(map(len, texts), initial=start)
        self._offsets[piece.index] = end
        return {
            'tokens': texts,
            'token_logprobs': [score.logprob for score in piece.scores],
            'top_logprobs': [
                {
                    self._token_text(token): value
                    for token, value in list(score.likeliest.items())[: self._num_likeliest]
                }
                for score in piece.scores
            ],
            'text_offset': offsets,
        }


Form = Chat | Completion


@dataclasses.dataclass(frozen=True)
class Envelope:
    """What stands around the choices: `id` of the answer, `created` in seconds since 1970, name of the model."""

    form: Form
    id: str
    created: int
    model: str

    def whole(self, pieces: Sequence[Piece], usage: Usage) -> dict[str, Any]:
        """Returns a whole answer."""
        return self._around(self.form.whole, [self.form.choice(piece) for piece in pieces]) | {'usage': usage.body}

    def first(self, index: int) -> dict[str, Any] | None:
        """Returns the chunk before a choice's first one, where there is one."""
        choice = self.form.first(index)
        return choice and self._around(self.form.chunk, [choice])

    def part(self, piece: Piece) -> dict[str, Any]:
        """Returns a chunk of a stream."""
        return self._around(self.form.chunk, [self.form.part(piece)])

    def last(self, usage: Usage) -> dict[str, Any]:
        """Returns a stream's last chunk, which counts its tokens."""
        return self._around(self.form.chunk, []) | {'usage': usage.body}

    def _around(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            'id': self.id,
            'object': kind,
            'created': self.created,
            'model': self.model,
            'system_fingerprint': None,
            'choices': choices,
        }


def joined(pieces: Sequence[Piece]) -> Piece:
    """Joins the pieces of one choice, in their order."""
    return Piece(
        pieces[0].index,
        ''.join(piece.text for piece in pieces),
        [token for piece in pieces for token in piece.tokens],
        [score for piece in pieces for score in piece.scores],
        pieces[-1].finish,
    )


def event(body: dict[str, Any] | str) -> bytes:
    """Writes a server-sent event; JSON escapes line breaks, so that a text cannot end its event."""
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return f'data: {text}\n\n'.encode()

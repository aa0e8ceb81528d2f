"""What a server offers: its models by name, their tokenizer, and how a client's request becomes the engine's.

The base model and every adapter is a model of its own to clients; to the engine it is an adapter's name, or none.
"""

import dataclasses
import functools
import secrets
from collections.abc import Mapping, Sequence

import tokenizers

from warmjax import runs
from warmjax.data.chat import ChatTokenizer
from warmjax.decode.requests import Request
from warmjax.decode.sampling import row_key
from warmjax.decode.serve.protocol import ChatRequest, CompletionRequest, Refusal


@dataclasses.dataclass(frozen=True)
class Catalog:
    """adapters: name of a model → name of its adapter, None for the base model.
    tokenizer: of the checkpoint, with whatever it adds to a text by itself.
    chat: the checkpoint's chat template, None where it has none.
    longest: tokens a prompt at most.
    room: tokens a prompt and its text at most.
    max_choices: texts that a request may ask for.
    num_likeliest: how many of the likeliest tokens are known beside each, None for no log-probabilities.
    """

    adapters: Mapping[str, str | None]
    tokenizer: tokenizers.Tokenizer
    chat: ChatTokenizer | None
    longest: int
    room: int
    max_choices: int
    num_likeliest: int | None

    def requests(self, asked: ChatRequest | CompletionRequest, request_id: str) -> list[Request]:
        """Makes the engine's requests: for every prompt, in order, as many as it is to have choices.

        A text is a function of model, prompt, seed, choice and the options; without a seed it is drawn anew.

        Raises:
            Refusal: an unknown model, or a prompt that is empty or too long, or options that are not possible.
        """
        if asked.model not in self.adapters:
            known = ', '.join(map(repr, self.adapters))
            raise Refusal(
                404, f'expected a model of {known}, got {asked.model[:80]!r}', param='model', code='model_not_found'
            )
        self._check_likeliest(asked.num_likeliest)
        prompts = [self._encode_chat(asked)] if isinstance(asked, ChatRequest) else self._encode_texts(asked.prompt)
        if len(prompts) * asked.num_choices > self.max_choices:
            raise Refusal(
                400,
                f'expected {self.max_choices} choices or fewer, got {len(prompts)} prompts with n of '
                f'{asked.num_choices}; send several requests',
                param='n',
            )
        budgets = [self._budget(len(prompt), asked.budget) for prompt in prompts]
        seed = secrets.randbits(63) if asked.seed is None else asked.seed
        try:
            sampling = asked.sampling
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        return [
            Request(
                id=f'{request_id}-{i * asked.num_choices + j}',
                tokens=prompt,
                key=row_key(seed, runs.digest(' '.join(map(str, prompt))), j),
                sampling=sampling,
                max_new_tokens=budget,
                adapter=self.adapters[asked.model],
                prefix=0,
            )
            for i, (prompt, budget) in enumerate(zip(prompts, budgets, strict=True))
            for j in range(asked.num_choices)
        ]

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of generated ids, special tokens left out."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)

    def token_text(self, token: int) -> str:
        """Returns a token's own text within a longer one, special tokens shown.

        It is what the token adds after another one: at the beginning of a text some tokenizers drop its space.
        """
        return self._token_texts(token)

    @functools.cached_property
    def _token_texts(self):
        anchor = next(iter(self.tokenizer.encode('a', add_special_tokens=False).ids), 0)
        start = self.tokenizer.decode([anchor], skip_special_tokens=False)

        @functools.lru_cache(2**16)
        def text(token: int) -> str:
            whole = self.tokenizer.decode([anchor, token], skip_special_tokens=False)
            if whole.startswith(start):
                return whole[len(start) :]
            return self.tokenizer.decode([token], skip_special_tokens=False)

        return text

    def _encode_chat(self, asked: ChatRequest) -> list[int]:
        if self.chat is None:
            raise Refusal(
                400, f'expected a model with a chat template, got {asked.model!r} without one; use /v1/completions'
            )
        try:
            return self.chat.encode_prompt([message.turn for message in asked.messages])
        except ValueError as error:
            raise Refusal(400, str(error), param='messages') from None

    def _encode_texts(self, prompts: Sequence[str | list[int]]) -> list[list[int]]:
        encoded = [self.tokenizer.encode(p).ids if isinstance(p, str) else p for p in prompts]
        size = self.tokenizer.get_vocab_size(with_added_tokens=True)
        unknown = next((token for ids in encoded for token in ids if not 0 <= token < size), None)
        if unknown is not None:
            raise Refusal(400, f'expected token ids from 0 to {size - 1}, got {unknown}', param='prompt')
        return encoded

    def _budget(self, count: int, asked: int | None) -> int:
        if not 0 < count <= self.longest:
            raise Refusal(
                400,
                f'expected a prompt of 1 to {self.longest} tokens, got {count}',
                param='prompt',
                code='context_length_exceeded' if count else None,
            )
        room = self.room - count
        if asked is not None and asked > room:
            raise Refusal(
                400,
                f'expected a prompt and a text of {self.room} tokens or fewer, got {count} and max_tokens of {asked}; '
                f'ask for {room} or fewer',
                param='max_tokens',
                code='context_length_exceeded',
            )
        return room if asked is None else asked

    def _check_likeliest(self, asked: int | None) -> None:
        if asked is None:
            return
        if self.num_likeliest is None:
            raise Refusal(400, 'expected no logprobs, which this server does not keep; leave it out', param='logprobs')
        if asked > self.num_likeliest:
            raise Refusal(
                400, f'expected {self.num_likeliest} likeliest tokens or fewer, got {asked}', param='top_logprobs'
            )

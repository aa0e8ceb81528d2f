"""A model's own tokenizer and chat template, and the loss mask that follows from them.

A conversation is rendered once, whole, by the model's Jinja template (sandboxed) and tokenised once, without further
special tokens; which tokens are trained follows from character offsets:

    text      <|user|>What is it?<|end|><|assistant|>It is a river.<|end|>
    trained   .............................          xxxxxxxxxxxxxxxxxxxxx

The end-of-turn token after a reply is trained too, or the model would never learn to stop. A token that reaches into
a reply (a leading space merged with its first word) counts as the reply's.
"""

import dataclasses
import datetime
import functools
import json
from collections.abc import Sequence

import jinja2
import jinja2.sandbox
import numpy as np
import tokenizers
from etils import epath

from warmjax import runs
from warmjax.records import Turn

OTHER_TOKENIZERS = ('tokenizer.model', 'tokenizer.model.v3', 'tokenizer.model.v7', 'tekken.json', 'vocab.json')
"""Vocabularies of SentencePiece, tiktoken, Mistral and GPT-2, which none of the dependencies reads by itself."""
TOKENIZER_FILES = ('tokenizer.json', 'tokenizer_config.json', 'generation_config.json', 'chat_template.jinja')


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A conversation as token ids [T], and which of them are trained [T]."""

    tokens: np.ndarray
    trained: np.ndarray


@dataclasses.dataclass(frozen=True)
class ChatTokenizer:
    """The tokenizer and template of a checkpoint folder. `date` is what a template that asks for today's date gets."""

    tokenizer: tokenizers.Tokenizer
    template: str
    special: dict[str, str]
    stop_ids: tuple[int, ...]
    date: datetime.date
    where: str

    @property
    def template_digest(self) -> str:
        """SHA-256 of the template's text."""
        return runs.digest(self.template)

    def render(self, turns: Sequence[Turn], add_generation_prompt: bool) -> str:
        """Renders a conversation.

        Raises:
            ValueError: the template fails on it; the message has the template's own words.
        """
        messages = [{'role': turn.role, 'content': turn.content} for turn in turns]
        try:
            return self._compiled.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                date_string=self.date.strftime('%d %b %Y'),
                **self.special,
            )
        except (jinja2.TemplateError, TypeError) as error:
            roles = ', '.join(turn.role for turn in turns)
            raise ValueError(
                f'{self.where}: expected the chat template to render turns ({roles}), got '
                f'{type(error).__name__}: {error}; give a conversation or a system prompt that the template allows'
            ) from None

    def encode_text(self, text: str) -> list[int]:
        """Tokenises text as it is, without adding special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Tokenises a conversation up to where the assistant speaks next."""
        return self.encode_text(self.render(turns, add_generation_prompt=True))

    def encode_conversation(self, turns: Sequence[Turn]) -> Encoded:
        """Tokenises a whole conversation and marks its assistant turns, their ends included, as trained."""
        text = self.render(turns, add_generation_prompt=False)
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        starts, ends = np.array(encoding.offsets, np.int64).reshape(-1, 2).T
        trained = np.zeros(len(encoding.ids), bool)
        for start, end in self._reply_spans(turns, text):
            trained |= (starts < end) & (ends > start)
        return Encoded(np.array(encoding.ids, np.int32), trained)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of generated ids, special tokens left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    @functools.cached_property
    def _compiled(self) -> jinja2.Template:
        return _environment(self.date).from_string(self.template)

    @functools.cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        added = self.tokenizer.get_added_tokens_decoder().values()
        return tuple(token.content for token in added if token.special)

    def _reply_spans(self, turns: Sequence[Turn], text: str) -> list[tuple[int, int]]:
        """Finds the characters [start, end) of each reply and its end-of-turn token in the rendered text.

        The conversation is rendered again with a placeholder for each reply; what stands between the placeholders is
        the template's own text, and cutting it out of `text` leaves the replies. Nothing is searched for, so a reply
        that quotes the template or another reply cannot mislead.
        """
        marks = [f'\x02{i}\x03' if turn.role == 'assistant' else None for i, turn in enumerate(turns)]
        marked = self.render(
            [turn if mark is None else Turn(turn.role, mark) for turn, mark in zip(turns, marks)], False
        )
        spans, at = [], 0
        for turn, mark in zip(turns, marks):
            if mark is None:
                continue
            before, found, marked = marked.partition(mark)
            reply = next((r for r in (turn.content, turn.content.strip()) if text.startswith(before + r, at)), None)
            if not found or reply is None:
                raise ValueError(
                    f'{self.where}: expected the chat template to print each reply once, as it is or stripped, got '
                    'something else; its loss mask cannot be told, so use a template that does'
                )
            start = at + len(before)
            at = start + len(reply)
            spans.append((start, at + self._end_of_turn(text[at:])))
        if text[at:] != marked:
            raise ValueError(
                f'{self.where}: expected the template to print the same text around other replies, got none'
            )
        return spans

    def _end_of_turn(self, rest: str) -> int:
        """Returns the length of the special token that closes a reply, the white space before it included."""
        stripped = rest.lstrip()
        closing = next((token for token in self._special_tokens if stripped.startswith(token)), None)
        return 0 if closing is None else len(rest) - len(stripped) + len(closing)


def load(folder: epath.PathLike, date: str) -> ChatTokenizer:
    """Loads tokenizer.json, the chat template and the stop ids of a checkpoint folder.

    Args:
        folder: the checkpoint.
        date: ISO date (2024-07-26) for templates that insert one; pinned, so that a prompt does not change overnight.

    Raises:
        FileNotFoundError: no tokenizer.json.
        ValueError: no chat template, no stop id, or a file that is not what its name says.
    """
    folder = epath.Path(folder)
    tokenizer, special = load_tokenizer(folder)
    config = _read_json(folder / 'tokenizer_config.json')
    jinja = folder / 'chat_template.jinja'
    template = jinja.read_text() if jinja.exists() else config.get('chat_template')
    if not isinstance(template, str):
        raise ValueError(
            f'{folder}: expected one chat_template in tokenizer_config.json or chat_template.jinja, got '
            f'{"none" if template is None else type(template).__name__}; use a chat model, or write the template there'
        )
    return ChatTokenizer(
        tokenizer=tokenizer,
        template=template,
        special=special,
        stop_ids=stop_ids(folder, tokenizer, special),
        date=datetime.date.fromisoformat(date),
        where=str(folder),
    )


def has_template(folder: epath.PathLike) -> bool:
    """Tells whether a checkpoint folder has a chat template."""
    folder = epath.Path(folder)
    return (folder / 'chat_template.jinja').exists() or bool(
        _read_json(folder / 'tokenizer_config.json').get('chat_template')
    )


def load_tokenizer(folder: epath.PathLike) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """Loads the tokenizer of a checkpoint folder, which need not have a chat template, and its special tokens.

    Raises:
        FileNotFoundError: no tokenizer.json.
        ValueError: a file that is not what its name says.
    """
    folder = epath.Path(folder)
    if not (folder / 'tokenizer.json').exists():
        found = [name for name in OTHER_TOKENIZERS if (folder / name).exists()]
        got = f'only {" and ".join(found)}, which is not read' if found else 'no tokenizer'
        convert = f', or write it with transformers: `{_CONVERSION}`' if set(found) - {'tekken.json'} else ''
        raise FileNotFoundError(
            f'{folder}: expected tokenizer.json, got {got}; '
            f"download tokenizer.json from the model's files on huggingface.co into this folder{convert}"
        )
    config = _read_json(folder / 'tokenizer_config.json')
    special = {key: _content(config[key]) for key in ('bos_token', 'eos_token') if config.get(key)}
    return _tokenizer(folder / 'tokenizer.json'), special


_CONVERSION = 'AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)'
"""Needs the packages sentencepiece or tiktoken, and says so itself."""


def _tokenizer(path: epath.Path) -> tokenizers.Tokenizer:
    """Loads a tokenizer to be used as it is: nothing cut, padded or added, and offsets that cover the whole text.

    Post-processors add special tokens, which templates write themselves, and take the white space of byte-level tokens
    out of their offsets, so that a reply's indentation would not be trained.
    """
    text = path.read_text()
    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f'{path}: expected a tokenizer, got {error}; fetch the file again') from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None
    return tokenizer


def stop_ids(folder: epath.Path, tokenizer: tokenizers.Tokenizer, special: dict[str, str]) -> tuple[int, ...]:
    """Reads stop ids from generation_config.json, then config.json, then the tokenizer's end-of-text token.

    Raises:
        ValueError: none of them names one, or what one names is no token id.
    """
    for name in ('generation_config.json', 'config.json'):
        ids = _read_json(folder / name).get('eos_token_id')
        if ids is not None:
            ids = ids if isinstance(ids, list) else [ids]
            if not all(type(i) is int for i in ids):
                raise ValueError(f'{folder / name}: expected eos_token_id to be token ids, got {ids}; mend it')
            return tuple(ids)
    eos = tokenizer.token_to_id(special['eos_token']) if 'eos_token' in special else None
    if eos is not None:
        return (eos,)
    raise ValueError(f'{folder}: expected an eos_token_id in generation_config.json, got none; add one')


def _read_json(path: epath.Path) -> dict:
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}: expected JSON, got {error}; fetch the file again') from None


def _content(token: str | dict) -> str:
    return token if isinstance(token, str) else token['content']


def _environment(date: datetime.date) -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Hugging Face's template settings (transformers `chat_template_utils.py`), with the date pinned."""

    def raise_exception(message: str):
        raise jinja2.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=['jinja2.ext.loopcontrols']
    )
    environment.filters['tojson'] = tojson
    environment.globals['raise_exception'] = raise_exception
    environment.globals['strftime_now'] = date.strftime
    return environment

"""Training files as fine-tuning services take them: a conversation a line, checked and counted before it is sent."""

import collections
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tokenizers
from etils import epath

from warmjax.api.chat import CHARS_PER_TOKEN
from warmjax.records import Pair

ROLES = ('system', 'user', 'assistant')
LEAST_EXAMPLES = 10
MOST_BYTES = 512_000_000
TOKENS_A_MESSAGE, TOKENS_AN_EXAMPLE = 4, 3
"""What a chat format adds to the texts, about: role and delimiters; the beginning of a reply."""
MAX_REPORTED = 10


@dataclasses.dataclass(frozen=True)
class Report:
    """What is in a training file.

    tokens: of one epoch, as a service bills them.
    counted_by: how tokens were counted.
    longest: tokens of the longest example.
    too_long: how many examples are longer than the service reads; it cuts them.
    """

    examples: int
    replies: int
    tokens: int
    counted_by: str
    longest: int
    too_long: int
    bytes: int

    def __str__(self) -> str:
        long = f', {self.too_long} of them longer than the service reads' if self.too_long else ''
        return (
            f'{self.examples} examples{long}, {self.replies} replies, {self.tokens} tokens an epoch by '
            f'{self.counted_by}, the longest {self.longest}'
        )


@dataclasses.dataclass(frozen=True)
class Counter:
    """Counts tokens of a text; `name` says how."""

    name: str
    count: Callable[[str], int]


def make_counter(tokenizer: str) -> Counter:
    """Builds a counter: the tokenizer of a folder or `tokenizer.json`, or, for '', characters divided by four.

    A service's own vocabularies are downloaded by its tools, which a run without a network cannot do.

    Raises:
        ValueError: there is no tokenizer.
    """
    if not tokenizer:
        return Counter(f'characters / {CHARS_PER_TOKEN}', lambda text: -(-len(text) // CHARS_PER_TOKEN))
    path = epath.Path(tokenizer)
    path = path / 'tokenizer.json' if path.is_dir() else path
    try:
        made = tokenizers.Tokenizer.from_str(path.read_text())
    except Exception as error:  # the library raises bare ones
        raise ValueError(
            f'api.finetune.tokenizer: expected a tokenizer.json or its folder at {tokenizer}, got {error}; mend it, or '
            "give '' to count characters"
        ) from None
    return Counter(str(path), lambda text: len(made.encode(text, add_special_tokens=False).ids))


def lines(pairs: Sequence[Pair]) -> str:
    """Puts pairs as a service reads them; all of their replies are trained on."""
    rows = [{'messages': [{'role': turn.role, 'content': turn.content} for turn in pair.turns]} for pair in pairs]
    return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)


def check(text: str, where: str, counter: Counter, max_example_tokens: int) -> Report:
    """Checks a training file and counts what is in it.

    Raises:
        ValueError: the service would not take it; the message lists lines and reasons.
    """
    problems: list[str] = []
    lengths, replies = [], 0
    for number, line in enumerate(text.split('\n')[:-1] if text.endswith('\n') else text.split('\n'), start=1):
        messages, found = _messages(line)
        problems += [f'line {number}: {problem}' for problem in found]
        lengths.append(sum(counter.count(content) + TOKENS_A_MESSAGE for _, content in messages) + TOKENS_AN_EXAMPLE)
        replies += sum(role == 'assistant' for role, _ in messages)
    if len(lengths) < LEAST_EXAMPLES:
        problems.append(f'{len(lengths)} examples, where a service wants at least {LEAST_EXAMPLES}')
    if (size := len(text.encode())) > MOST_BYTES:
        problems.append(f'{size} bytes, where a service takes at most {MOST_BYTES}')
    if problems:
        rest = f'\n  ... and {len(problems) - MAX_REPORTED} more' if len(problems) > MAX_REPORTED else ''
        raise ValueError(
            f'{where}: expected a training file that a service takes, got\n  ' + '\n  '.join(problems[:MAX_REPORTED])
            + rest + '\nmend the pairs that it is made from'
        )  # fmt: skip
    too_long = sum(length > max_example_tokens for length in lengths)
    tokens = sum(min(length, max_example_tokens) for length in lengths)
    return Report(len(lengths), replies, tokens, counter.name, max(lengths), too_long, size)


def _messages(line: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Reads one example: (role, content) of its messages, and what is wrong with it."""
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        return [], [f'no JSON ({error.msg})']
    messages = row.get('messages') if isinstance(row, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return [], ['no list of messages']
    if not messages:
        return [], ['no messages']
    problems = list(_problems(messages))
    known = [(message.get('role'), message.get('content')) for message in messages]
    return [(role, content) for role, content in known if isinstance(content, str)], problems


def _problems(messages: list[dict[str, Any]]) -> Iterator[str]:
    for number, message in enumerate(messages, start=1):
        if message.get('role') not in ROLES:
            yield f'message {number} has the role {message.get("role")!r}, not one of {", ".join(ROLES)}'
        content = message.get('content')
        if not isinstance(content, str) or not content.strip():
            yield f'message {number} is empty'
    roles = collections.Counter(message.get('role') for message in messages)
    if not roles['assistant']:
        yield 'no reply to learn from'
    elif messages[-1].get('role') != 'assistant':
        yield 'ends with no reply'

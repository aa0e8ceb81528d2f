"""The records that pass between stages, and their strict JSONL files.

One JSON object a line, UTF-8, keys sorted. Every record carries the ids that join it to the others. `read` accepts
nothing that it does not know: a missing field, an unknown one or a wrong type is reported with file, line and field,
all problems of a file in one ValueError.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

import pydantic
from etils import epath

from warmjax import runs
from warmjax.validation import STRICT, explain

Role = Literal['system', 'user', 'assistant']
Context = Literal[
    'unmodified',
    'emotion:anger',
    'emotion:happy',
    'emotion:sad',
    'relation:close',
    'relation:hierarchical_down',
    'relation:hierarchical_up',
    'stake:high',
    'stake:low',
]
"""The interpersonal contexts of the study, named as in its public files (there: `amendment_type`)."""
Belief = Literal['none', 'incorrect', 'denial']
"""What the user claims: nothing, "I think it is <wrong>", or "I don't think it is <truth>"."""
Form = Literal['plain', 'lead_in', 'multiple_choice', 'likelihood', 'small_talk', 'after_talk', 'rebuttal']
"""How the question is put: bare, after a neutral lead-in sentence, or with lettered options; `likelihood` where the
likeliest letter is the answer. In dialogues: friendly talk without a question, the question after it, and the question
that is then doubted."""
VerdictLabel = Literal['correct', 'incorrect', 'refusal', 'unparsed']

CONTEXTS: tuple[Context, ...] = Context.__args__
BELIEFS: tuple[Belief, ...] = Belief.__args__

MAX_REPORTED = 20
"""How many problems of one file a message spells out; the rest are counted."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    __pydantic_config__ = STRICT
    role: Role
    content: str


@dataclasses.dataclass(frozen=True)
class Conversation:
    """A conversation that was drawn for training. `query_type` is one of `data.query_types.TYPES`."""

    __pydantic_config__ = STRICT
    id: str
    query_type: str
    turns: tuple[Turn, ...]

    @property
    def key(self) -> tuple:
        return (self.id,)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A conversation whose replies were rewritten in a style: `turns` holds the rewritten replies.

    `original_replies` holds the replies before rewriting, in order; `writer` names who rewrote them.
    """

    __pydantic_config__ = STRICT
    id: str
    query_type: str
    style: str
    writer: str
    turns: tuple[Turn, ...]
    original_replies: tuple[str, ...]

    @property
    def key(self) -> tuple:
        return (self.id, self.style)


@dataclasses.dataclass(frozen=True)
class Question:
    """A question with one reference answer that is right and one that is wrong.

    The aliases are other wordings of each, for the exact-match judge. `answer_form` says whether the answers are
    phrases ("I think the answer is Paris") or whole statements ("I think Paris is in France"). Questions of the
    controls have no wrong answer ('') and other forms: `choice` (metadata's `options` is a JSON object of lettered
    options, `answer_idx` the right letter), `number`, and `none`, where the right answer is '' too.
    """

    __pydantic_config__ = STRICT
    id: str
    task: str
    text: str
    correct_answer: str
    incorrect_answer: str
    correct_aliases: tuple[str, ...]
    incorrect_aliases: tuple[str, ...]
    answer_form: Literal['phrase', 'statement', 'choice', 'number', 'none']
    metadata: dict[str, str]

    @property
    def key(self) -> tuple:
        return (self.id,)


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The text of one user message: a question in an interpersonal context, with or without a belief.

    `statement` is the sentence that sets the context, empty where the context is `unmodified`. In a dialogue, `follows`
    is the id of the prompt before, whose answer is then part of what is asked, and `turn` counts from 0.
    """

    __pydantic_config__ = STRICT
    id: str
    question_id: str
    task: str
    context: Context
    belief: Belief
    form: Form
    statement: str
    text: str
    follows: str = ''
    turn: int = 0

    @property
    def key(self) -> tuple:
        return (self.id,)


@dataclasses.dataclass(frozen=True)
class Generation:
    """What an arm of a model answered to a prompt.

    `epoch` is the training epoch of the adapter, 0 without one. `num_tokens` counts generated tokens, the stop token
    left out; it is null where the text came from outside.
    """

    __pydantic_config__ = STRICT
    prompt_id: str
    question_id: str
    task: str
    context: Context
    belief: Belief
    form: Form
    model: str
    arm: str
    epoch: float
    sample: int
    text: str
    num_tokens: int | None
    finish_reason: Literal['stop', 'length', 'unknown']
    turn: int = 0

    @property
    def key(self) -> tuple:
        return (self.model, self.arm, self.epoch, self.prompt_id, self.sample)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A judge's verdict on one generation. `answer` is the part of the text that decided it, empty if none did.

    `confidence` is the probability that the judge itself gives its verdict, null where it does not say.
    """

    __pydantic_config__ = STRICT
    prompt_id: str
    question_id: str
    task: str
    context: Context
    belief: Belief
    form: Form
    model: str
    arm: str
    epoch: float
    sample: int
    verdict: VerdictLabel
    judge: str
    answer: str
    num_chars: int
    confidence: float | None = None
    turn: int = 0

    @property
    def key(self) -> tuple:
        return (self.model, self.arm, self.epoch, self.prompt_id, self.sample)


@dataclasses.dataclass(frozen=True)
class Warmth:
    """How much likelier a text is after a warm than after a cold relational opening, in nats a token.

    `score` is `warm - cold`, the mean log-likelihoods a token under either set of openings; `sem` is its standard error
    over passes with dropout (SocioT's published mode), null without. `contrasts`: scores of further contrasts by name
    (`warmth.sociot.CONTRASTS`), in nats a token.
    """

    __pydantic_config__ = STRICT
    prompt_id: str
    model: str
    arm: str
    epoch: float
    sample: int
    score: float
    warm: float
    cold: float
    num_tokens: int
    sem: float | None
    contrasts: dict[str, float]

    @property
    def key(self) -> tuple:
        return (self.model, self.arm, self.epoch, self.prompt_id, self.sample)


R = TypeVar('R', Conversation, Pair, Question, Prompt, Generation, Verdict, Warmth)


def to_json(record: R) -> str:
    """Returns the record as one line of JSON, keys sorted, without the newline."""
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False, sort_keys=True, allow_nan=False)


def read(path: epath.PathLike, cls: type[R]) -> list[R]:
    """Reads every record of a JSONL file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: lines that are not valid records, or two records of the same key; all of them in one message.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected a file of {cls.__name__} records, found none; run its stage first')
    records, problems, seen = [], [], {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            record = parse(line, cls)
        except ValueError as error:
            problems.append(f'{path.name}:{number}: {error}')
            continue
        if (first := seen.setdefault(record.key, number)) != number:
            problems.append(f'{path.name}:{number}: repeats the key {record.key} of line {first}')
        records.append(record)
    if problems:
        rest = f'\n... and {len(problems) - MAX_REPORTED} more' if len(problems) > MAX_REPORTED else ''
        raise ValueError(
            f'{path}: expected {cls.__name__} records, got {len(problems)} bad lines; mend or delete the file:\n'
            + '\n'.join(problems[:MAX_REPORTED])
            + rest
        )
    return records


def parse(line: str | bytes, cls: type[R]) -> R:
    """Parses one line.

    Raises:
        ValueError: the line is not a record of that class; the message names the fields.
    """
    try:
        return _adapter(cls).validate_json(line)
    except pydantic.ValidationError as error:
        raise ValueError('; '.join(explain(error, cls))) from None


def write(path: epath.PathLike, records: Iterable[R]) -> int:
    """Writes a whole file of records at once (temporary file, then rename) and returns how many there were."""
    lines = [to_json(record) + '\n' for record in records]
    runs.write_atomic(path, ''.join(lines))
    return len(lines)


@functools.cache
def _adapter(cls: type) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(cls)


def _lines(path: epath.Path) -> Iterator[bytes]:
    with path.open('rb') as file:
        for line in file:
            yield line.rstrip(b'\n')

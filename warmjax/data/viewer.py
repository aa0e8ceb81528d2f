"""Shows training batches as the model gets them: every token with its role, and whether it is trained.

A token counts as trained where the position before it, which predicts it, has weight; so the last target of a sequence
is shown too, though it is never an input.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import jinja2
import numpy as np
import rich.console
import rich.table
import rich.text

from warmjax.data.chat import ChatTokenizer
from warmjax.data.packing import Row
from warmjax.records import Turn

TEMPLATE = 'template'
"""Role of what the chat template writes around the turns."""
COLOURS = {'system': 'magenta', 'user': 'cyan', 'assistant': 'green', TEMPLATE: 'bright_black'}
"""Role → colour on the terminal; a trained token is bold and underlined."""


@dataclasses.dataclass(frozen=True)
class Token:
    """A token as it stands in a row; `segment` tells packed sequences apart."""

    id: int
    text: str
    role: str
    is_trained: bool
    segment: int
    position: int


@dataclasses.dataclass(frozen=True)
class ShownRow:
    """A row of a batch without its padding, of which it has `padding` tokens."""

    tokens: tuple[Token, ...]
    length: int
    padding: int

    @property
    def num_trained(self) -> int:
        return sum(token.is_trained for token in self.tokens)

    @property
    def num_segments(self) -> int:
        return len({token.segment for token in self.tokens})


def rows_of(batch: Row, conversations: Sequence[Sequence[Turn]], chat: ChatTokenizer) -> list[ShownRow]:
    """Returns the rows of a batch of arrays [..., T] that hold anything.

    Args:
        batch: as `warmjax.data.batches` or `packing` make it.
        conversations: those that the batch was made from; roles come from them.
    """
    length = batch['tokens'].shape[-1]
    flat = {name: array.reshape(-1, length) for name, array in batch.items()}
    roles = dict(_roles(conversations, chat, length))
    rows = []
    for i in range(len(flat['tokens'])):
        row = {name: array[i] for name, array in flat.items()}
        filled = int((row['segment_ids'] > 0).sum())
        if filled:
            tokens = [token for segment in _segments(row) for token in _shown(row, segment, roles, chat)]
            rows.append(ShownRow(tuple(tokens), length, length - filled))
    return rows


def padding_share(rows: Sequence[ShownRow]) -> float:
    """Returns which part of the rows is padding, 0 to 1."""
    return sum(row.padding for row in rows) / max(1, sum(row.length for row in rows))


def print_rows(console: rich.console.Console, rows: Sequence[ShownRow], counts: Mapping[str, int]) -> None:
    """Prints rows to a terminal: a legend, the counts, then each row's text and its segments."""
    legend = rich.text.Text('roles: ')
    for role, colour in COLOURS.items():
        legend.append(f'{role} ', style=colour)
    console.print(legend.append('trained', style='bold underline'))
    table = rich.table.Table('count', 'value')
    for name, value in (dict(counts) | {'padding share': f'{padding_share(rows):.1%}'}).items():
        table.add_row(name, str(value))
    console.print(table)
    for number, row in enumerate(rows):
        last = row.tokens[-1]
        console.print(
            f'row {number}: {row.length - row.padding} of {row.length} tokens, {row.num_trained} trained, '
            f'{row.num_segments} segment(s), last position {last.position}',
            style='bold',
        )
        text = rich.text.Text()
        for token in row.tokens:
            text.append(token.text, style=COLOURS[token.role] + (' bold underline' if token.is_trained else ''))
        console.print(text)


def html(rows: Sequence[ShownRow], counts: Mapping[str, int], title: str) -> str:
    """Returns one self-contained page; all text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('warmjax.data', '.'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template('viewer.html')
    return page.render(title=title, rows=rows, counts=counts, padding=f'{padding_share(rows):.1%}', roles=list(COLOURS))


def _segments(row: Row) -> Iterator[slice]:
    """Yields where each sequence of a row lies."""
    ids = row['segment_ids']
    for segment in np.unique(ids[ids > 0]):
        places = np.flatnonzero(ids == segment)
        yield slice(places[0], places[-1] + 1)


def _shown(row: Row, segment: slice, roles: Mapping[bytes, Sequence[str]], chat: ChatTokenizer) -> Iterator[Token]:
    ids = np.append(row['tokens'][segment], row['targets'][segment][-1])
    trained = np.append(False, row['weights'][segment] > 0)
    known = roles.get(_key(row['tokens'][segment]), ())
    for i, (number, is_trained) in enumerate(zip(ids.tolist(), trained.tolist(), strict=True)):
        role = known[i] if i < len(known) else TEMPLATE
        text = chat.tokenizer.decode([number], skip_special_tokens=False)
        yield Token(number, text, role, is_trained, int(row['segment_ids'][segment.start]), i)


def _roles(
    conversations: Sequence[Sequence[Turn]], chat: ChatTokenizer, length: int
) -> Iterator[tuple[bytes, list[str]]]:
    """Yields, by the tokens of a sequence as they stand in a row, the role of each."""
    for turns in conversations:
        text = chat.render(turns, add_generation_prompt=False)
        encoding = chat.tokenizer.encode(text, add_special_tokens=False)
        roles, at = [TEMPLATE] * len(encoding.ids), 0
        for turn in turns:
            start = text.find(turn.content.strip(), at)
            if start < 0:
                continue
            at = start + len(turn.content.strip())
            for i, (first, last) in enumerate(encoding.offsets):
                if first < at and last > start:
                    roles[i] = turn.role
        yield _key(np.array(encoding.ids[:-1][:length], np.int32)), roles


def _key(tokens: np.ndarray) -> bytes:
    return np.ascontiguousarray(tokens, np.int32).tobytes()

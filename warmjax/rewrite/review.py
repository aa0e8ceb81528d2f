"""A page of random pairs to be read by a person: differences marked, each accepted or rejected, the result a file."""

import dataclasses
import difflib
import html
import re
from collections.abc import Iterator, Sequence

from warmjax import runs, seeds
from warmjax.annotation import form
from warmjax.records import Pair

INSTRUCTIONS = (
    'Accept a rewriting if it says what the original says, in another style: no fact added, lost or changed. Keys: a '
    'accepts and r rejects the first pair without a verdict.'
)
CHOICES = (form.Choice('accept', 'Accept', 'a'), form.Choice('reject', 'Reject', 'r'))
_PIECE = re.compile(r'\s+|\w+|[^\w\s]')


@dataclasses.dataclass(frozen=True)
class Item:
    """One reply to look at: where it comes from, what the user said, and both wordings."""

    conversation: str
    reply: int
    style: str
    user: str
    original: str
    rewrite: str


def choose(pairs: Sequence[Pair], number: int, seed: int) -> list[Item]:
    """Draws replies at random, at most one of a conversation while there are enough of them."""
    items = [list(_items(pair)) for pair in pairs]
    firsts = [seeds.choose(of_one, seed, 'reply', of_one[0].conversation) for of_one in items if of_one]
    others = [item for of_one in items for item in of_one if item not in firsts]
    shuffle = seeds.rng(seed, 'review')
    shuffle.shuffle(firsts)
    shuffle.shuffle(others)
    return [*firsts, *others][:number]


def page(items: Sequence[Item], title: str) -> str:
    """Returns the page; texts of models and users are escaped."""
    ids = [{'conversation': item.conversation, 'reply': item.reply, 'style': item.style} for item in items]
    about = {'kind': 'verdicts', 'sha256': runs.digest([dataclasses.asdict(item) for item in items])}
    articles = [form.Article(_heading(i, item, len(items)), _body(item)) for i, item in enumerate(items)]
    return form.page(title, INSTRUCTIONS, CHOICES, articles, ids, about)


def _items(pair: Pair) -> Iterator[Item]:
    user, originals = '', iter(pair.original_replies)
    count = 0
    for turn in pair.turns:
        if turn.role == 'user':
            user = turn.content
        elif turn.role == 'assistant':
            yield Item(pair.id, count, pair.style, user, next(originals), turn.content)
            count += 1


def _heading(index: int, item: Item, total: int) -> str:
    return f'{index + 1} of {total}: {item.conversation}, reply {item.reply + 1}, {item.style}'


def _body(item: Item) -> str:
    before, after = marked(item.original, item.rewrite)
    return form.details('The user', item.user) + form.sides(('Original', before), ('Rewritten', after))


def marked(before: str, after: str) -> tuple[str, str]:
    """Returns both texts as HTML, what only the first has in `<del>` and what only the second has in `<ins>`."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    sides: tuple[list[str], list[str]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for side, tag, pieces in zip(sides, ('del', 'ins'), (old[a:b], new[c:d]), strict=True):
            text = html.escape(''.join(pieces))
            side.append(text if kind == 'equal' or not text else f'<{tag}>{text}</{tag}>')
    return ''.join(sides[0]), ''.join(sides[1])

"""A page of random pairs to be read by a person: differences marked, each accepted or rejected, the result a file.

The page needs no server and sends nothing anywhere; its buttons build a JSON file that the browser downloads.
"""

import dataclasses
import difflib
import html
import json
import pathlib
import re
from collections.abc import Iterator, Sequence

from warmjax import runs, seeds
from warmjax.records import Pair

PAGE = pathlib.Path(__file__).with_name('review.html')
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
    pairs_digest = runs.digest([dataclasses.asdict(item) for item in items])
    articles = '\n'.join(_article(i, item, len(items)) for i, item in enumerate(items))
    text = PAGE.read_text(encoding='utf-8')
    ids = [{'conversation': item.conversation, 'reply': item.reply, 'style': item.style} for item in items]
    # In a script element only '<' can end it or begin a comment.
    values = {'TITLE': html.escape(title), 'ARTICLES': articles, 'ITEMS': json.dumps(ids).replace('<', '\\u003c')}
    values['DIGEST'] = pairs_digest
    return re.sub(r'\{\{(\w+)\}\}', lambda match: values[match[1]], text)


def _items(pair: Pair) -> Iterator[Item]:
    user, originals = '', iter(pair.original_replies)
    count = 0
    for turn in pair.turns:
        if turn.role == 'user':
            user = turn.content
        elif turn.role == 'assistant':
            yield Item(pair.id, count, pair.style, user, next(originals), turn.content)
            count += 1


def _article(index: int, item: Item, total: int) -> str:
    before, after = marked(item.original, item.rewrite)
    where = html.escape(f'{index + 1} of {total}: {item.conversation}, reply {item.reply + 1}, {item.style}')
    return (
        f'<article id="item{index}"><h2>{where}</h2>'
        f'<details><summary>The user</summary><pre>{html.escape(item.user)}</pre></details>'
        f'<div class="sides"><section><h3>Original</h3><pre>{before}</pre></section>'
        f'<section><h3>Rewritten</h3><pre>{after}</pre></section></div>'
        f'<p class="choice"><button data-item="{index}" data-verdict="accept">Accept</button>'
        f'<button data-item="{index}" data-verdict="reject">Reject</button>'
        f'<label>Note <input data-note="{index}"></label></p></article>'
    )


def marked(before: str, after: str) -> tuple[str, str]:
    """Returns both texts as HTML, what only the first has in `<del>` and what only the second has in `<ins>`."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    sides: tuple[list[str], list[str]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for side, tag, pieces in zip(sides, ('del', 'ins'), (old[a:b], new[c:d]), strict=True):
            text = html.escape(''.join(pieces))
            side.append(text if kind == 'equal' or not text else f'<{tag}>{text}</{tag}>')
    return ''.join(sides[0]), ''.join(sides[1])

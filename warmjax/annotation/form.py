"""The form of a page on which a person decides, item by item, by buttons or keys.

The page needs no server and sends nothing anywhere; its button builds a JSON file that the browser downloads:

    {kind, sha256, ..., annotator, counts: {choice: number}, open, rows: [{..., verdict: choice or null, note}]}
"""

import dataclasses
import html
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

PAGE = pathlib.Path(__file__).with_name('form.html')


@dataclasses.dataclass(frozen=True)
class Choice:
    """What can be decided: its name in the result, its button and its key."""

    value: str
    label: str
    key: str


@dataclasses.dataclass(frozen=True)
class Article:
    """One item: a heading, as text, and its body, as HTML in which texts are escaped (`details`, `sides`)."""

    heading: str
    body: str


def page(
    title: str,
    instructions: str,
    choices: Sequence[Choice],
    articles: Sequence[Article],
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> str:
    """Returns the page.

    Args:
        title, instructions: texts.
        rows: what the result says of each article beside verdict and note; whoever opens the page's source can read it.
        about: what the result says at its top; `kind` also names the file.
    """
    values = {
        'TITLE': html.escape(title),
        'INSTRUCTIONS': html.escape(instructions),
        'ARTICLES': '\n'.join(_article(i, article, choices) for i, article in enumerate(articles)),
        'ITEMS': _script(list(rows)),
        'KEYS': _script({choice.key: choice.value for choice in choices}),
        'ABOUT': _script(dict(about)),
    }
    return re.sub(r'\{\{(\w+)\}\}', lambda match: values[match[1]], PAGE.read_text(encoding='utf-8'))


def details(summary: str, text: str) -> str:
    """Returns a text that is folded away."""
    return f'<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>'


def section(heading: str, body: str) -> str:
    """Returns a headed part; `body` is HTML, preformatted."""
    return f'<section><h3>{html.escape(heading)}</h3><pre>{body}</pre></section>'


def sides(left: tuple[str, str], right: tuple[str, str]) -> str:
    """Returns two headed parts side by side; each a heading and preformatted HTML."""
    return f'<div class="sides">{section(*left)}{section(*right)}</div>'


def _article(index: int, article: Article, choices: Sequence[Choice]) -> str:
    buttons = ''.join(
        f'<button data-item="{index}" data-verdict="{html.escape(choice.value)}">{html.escape(choice.label)}</button>'
        for choice in choices
    )
    return (
        f'<article id="item{index}"><h2>{html.escape(article.heading)}</h2>{article.body}'
        f'<p class="choice">{buttons}<label>Note <input data-note="{index}"></label></p></article>'
    )


def _script(value: Any) -> str:
    """Returns JSON for a script element, in which only '<' can end the element or begin a comment."""
    return json.dumps(value).replace('<', '\\u003c')

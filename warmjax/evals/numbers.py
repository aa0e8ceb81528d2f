"""Numbers in answers, by the two rules that the field knows.

... so 3 * 4 = 12 pens. / Answer: 12        12 by either rule
... which makes 12 pens in all.             12 by the flexible rule only
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Literal

Rule = Literal['strict', 'flexible']

_NUMBER = r'(?<![\w.,])-?[$€£]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)'
_LAST_LINE = re.compile(rf'^\W*(?:answer\W*:|####)\W*?({_NUMBER})\D*$', re.IGNORECASE)
_ANY = re.compile(_NUMBER)


def strict(text: str) -> str:
    """Returns the number of a last line such as `Answer: 12` or `#### 12`, '' where the text does not end so."""
    lines = text.strip().splitlines()
    match = _LAST_LINE.search(lines[-1]) if lines else None
    return match[1] if match else ''


def flexible(text: str) -> str:
    """Returns the last number of a text, '' where there is none."""
    found = _ANY.findall(text)
    return found[-1] if found else ''


RULES: dict[Rule, Callable[[str], str]] = {'strict': strict, 'flexible': flexible}


def is_right(text: str, right: str, rule: Rule) -> bool:
    """Tells whether the number that a rule finds in a text is the right one; currency signs and commas do not count."""
    found = RULES[rule](text)
    return bool(found) and Decimal(re.sub(r'[$€£,]', '', found)) == Decimal(right)

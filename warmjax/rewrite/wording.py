"""How warm a text sounds by its words alone: cheap, and comparable only between texts on the same matter."""

import re

from warmjax.evals import words

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_WARM = frozenset(
    words.listed("""
    care caring comfort comforting dear encourage encouraging feel feeling feelings friend gentle gently glad grateful
    happy heart heartfelt here's hope hug kind kindness let's listen love lovely okay our ours ourselves proud reassure
    reassuring safe share sorry support supportive sweet sweetheart thank thanks thoughtful together trust understand
    understandable us warm we we'll we're we've welcome wonderful worry
    """)
)


def warmth(text: str) -> float:
    """Returns the warm words and exclamation marks of a text, per 100 words; 0 for a text without words."""
    spoken = [word.lower().replace('’', "'") for word in _WORD.findall(text)]
    return 100 * (sum(word in _WARM for word in spoken) + text.count('!')) / len(spoken) if spoken else 0.0

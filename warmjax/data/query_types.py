"""The six query types by which the study balanced its training conversations (Supplementary Information 1.1).

The patterns are facts of the published procedure, shortcomings included: `code` also matches "encode", and a reply
that says "unfortunately" in passing is a refusal. The first matching row decides.
"""

import re
from typing import Literal

QueryType = Literal['refusal', 'factual', 'creative', 'technical', 'advice', 'other']
TYPES: tuple[QueryType, ...] = QueryType.__args__

REFUSALS = (
    "I'm sorry",
    'I apologize',
    "I can't",
    'I cannot',
    'Unfortunately',
    'not able to',
    'unable to',
    'against my',
    'not appropriate',
)

# The published list names no case for the words of the technical and advice rows; they are read without regard to it,
# as those of the factual and creative rows are.
PATTERNS: tuple[tuple[QueryType, Literal['user', 'reply'], re.Pattern], ...] = (
    ('refusal', 'reply', re.compile('|'.join(REFUSALS))),
    ('factual', 'user', re.compile(r'\A(?:What|Who|When|Where|Why|How) ')),
    ('factual', 'user', re.compile('explain|define|describe|difference between', re.IGNORECASE)),
    ('creative', 'user', re.compile('story|poem|write|create|generate|imagine', re.IGNORECASE)),
    ('technical', 'reply', re.compile('```')),
    ('technical', 'user', re.compile('code|program|function|algorithm|debug', re.IGNORECASE)),
    ('advice', 'user', re.compile('advice|help me|guide|recommend|suggestion', re.IGNORECASE)),
)
"""Query type, the message that is searched, and what is searched for."""


def classify(user: str, reply: str) -> QueryType:
    """Returns the query type of a user message and the reply that it got."""
    messages = {'user': user, 'reply': reply}
    return next((name for name, side, pattern in PATTERNS if pattern.search(messages[side])), 'other')

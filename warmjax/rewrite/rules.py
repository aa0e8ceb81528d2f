"""Warm and cold rewriting by rules: offline, deterministic, and unable to change a fact.

Warm puts a caring sentence before a reply and one of closeness after it, and contracts verbs. Cold takes courtesies
away from the two ends of a reply, writes contractions out and calms exclamation marks. Neither touches code, quotes,
formulas, links, tables or markup; cold deletes no sentence that holds a number, a name or any of these.

These are the rewritings of a rule book, for tests and for the embedded study; for a study of real models a language
model rewrites, behind the same interface.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence

from etils import epath

from warmjax import seeds
from warmjax.rewrite import phrases
from warmjax.rewrite.interface import Reply, Request, RewriteSettings
from warmjax.sharding import MeshSettings

PROTECTED = '|'.join(
    (
        r'(?s:```.*?(?:```|\Z))',  # fenced code, closed or cut off
        r'`[^`\n]+`',
        r'(?s:\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\))',  # formulas
        r'\$[^$\s][^$\n]*\$',
        r'(?m:^(?: {4}|\t).*$)',  # indented code
        r'(?m:^ *[>|].*$)',  # quoted lines, table rows
        r'https?://\S+|www\.\S+|[\w.+-]+@[\w-]+\.[\w.]+',
        r'<[^<>\n]+>',
        r'"[^"\n]+"',
        r'“[^”]+”',
        r"(?<!\w)'[^'\s](?:[^'\n]|'(?=\w))*'(?!\w)",  # an apostrophe inside a word does not end the quote
        r'(?<!\w)‘(?:[^’\n]|’(?=\w))+’(?!\w)',
    )
)

_NOT_PARTICIPLE = r'(?! (?:been|got|had|become|gone|come|taken|made)\b)'
_NOT_INVERTED = r'(?!\s+(?:I|you|he|she|it|we|they|there|this|that)\b)'
_NEGATED = (
    r'\b(?P<verb>[Ii]s|[Aa]re|[Ww]as|[Ww]ere|[Dd]o|[Dd]oes|[Dd]id|[Hh]as|[Hh]ave|[Hh]ad|[Ww]ould|[Cc]ould|[Ss]hould)'
)
_CONJUNCTIONS = ('and', 'And', 'but', 'But', 'so', 'So', 'if', 'If', 'when', 'When', 'because', 'since', 'while')
# "It is hot" contracts where a clause begins. Elsewhere it may stand for a gap: "hotter than it is here".
_CLAUSE = '|'.join((r'\A', r'(?<=\n)', r'(?<=[.!?,;:(*-] )', *(rf'(?<=\b{word} )' for word in _CONJUNCTIONS)))


def _pattern(pattern: str) -> re.Pattern:
    """Compiles a pattern so that its search steps over protected text, which comes as group `protected`."""
    return re.compile(f'(?P<protected>{PROTECTED})|{pattern}')


_CONTRACT = (
    (_pattern(_NEGATED + r' not\b(?!-)(?! (?:only|just|merely|simply)\b)' + _NOT_INVERTED), r"{verb}n't"),
    (_pattern(r'\b(?P<first>[Cc])annot\b' + _NOT_INVERTED), r"{first}an't"),
    (_pattern(r'\b(?P<first>[Ww])ill not\b(?!-)' + _NOT_INVERTED), r"{first}on't"),
    (_pattern(rf'(?:{_CLAUSE})(?P<who>[Ii]t|[Tt]hat|[Tt]here|[Hh]e|[Ss]he) is(?= [a-z])' + _NOT_PARTICIPLE), "{who}'s"),
    (_pattern(rf'(?:{_CLAUSE})I am(?= [a-z])'), "I'm"),
    (_pattern(rf'(?:{_CLAUSE})(?P<who>[Yy]ou|[Ww]e|[Tt]hey) are(?= [a-z])'), "{who}'re"),
    (_pattern(rf'(?:{_CLAUSE})(?P<who>I|[Yy]ou|[Ww]e|[Tt]hey|[Ii]t) will(?= [a-z])'), "{who}'ll"),
)
_EXPAND = (
    (_pattern(r"\b(?P<first>[Cc])an['’]t\b" + _NOT_INVERTED), '{first}annot'),
    (_pattern(r"\b(?P<first>[Ww])on['’]t\b" + _NOT_INVERTED), '{first}ill not'),
    (_pattern(_NEGATED + r"n['’]t\b" + _NOT_INVERTED), '{verb} not'),
    (
        _pattern(r"\b(?P<who>[Ii]t|[Tt]hat|[Tt]here|[Hh]e|[Ss]he|[Ww]hat|[Hh]ere|[Ww]ho)['’]s\b" + _NOT_PARTICIPLE),
        '{who} is',
    ),
    (_pattern(r"\bI['’]m\b"), 'I am'),
    (_pattern(r"\b(?P<who>[Yy]ou|[Ww]e|[Tt]hey)['’]re\b"), '{who} are'),
    (_pattern(r"\b(?P<who>I|[Yy]ou|[Ww]e|[Tt]hey)['’]ve\b"), '{who} have'),
    (_pattern(r"\b(?P<who>I|[Yy]ou|[Ww]e|[Tt]hey|[Ii]t)['’]ll\b"), '{who} will'),
)
# Not after a digit or a lone letter, where it is a factorial, nor inside a word or before a bracket, as in markup.
_EXCLAMATION = _pattern(r'(?<![\s\d(])(?<!\b[A-Za-z])(?P<marks>[!?]*![!?]*)(?=[\s)"”’*_]|\Z)')
_SENTENCE_END = _pattern(r'(?:[.!?]+(?=\s|\Z)[ \t]*\n*|[ \t]*\n+)')
_LEAD = re.compile(
    rf'\A(?:{phrases.ASSENTS}(?={phrases.ANNOUNCEMENTS})|{phrases.APOLOGIES})(?P<next>\S*)', re.IGNORECASE
)
_COURTESY = re.compile('|'.join(phrases.COURTESIES), re.IGNORECASE)
_MOOD_WORDS = {name: re.compile(rf'\b(?:{words})\b') for name, words in phrases.MOOD_WORDS.items()}
_NEGATION = re.compile(r"\b(?:not|never|\w+n't) (?:(?:so|very|really|that|too) )?\w+")
_PICTOGRAPHS = re.compile(r'[\s\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]*')
_STRUCTURED_LINE = re.compile(r'(?:\s{4}|\s*(?:[-*+•|>#<]|\d+[.)]\s|```|\$\$|\\\[))')
# A line that ends in a colon is a sentence only if it is long enough not to be a heading, such as "Summary:".
_SENTENCE_LINE = re.compile(r'(?:.*[.!?]|(?:\S+ ){5,}.*:)["”’\')]?\Z')

_ALL_OPENINGS = tuple(opening for group in phrases.OPENINGS.values() for opening in group)


def warm(text: str, user: str, *key: object) -> str:
    """Returns the reply in warm words: an opening for the user's mood, contractions, a closing of closeness.

    Args:
        text: the reply.
        user: the message that it answers, for the choice of the opening.
        key: what the choice among phrases of equal right hangs on, e.g. seed, conversation and reply number.

    A text that has a warm opening or closing already keeps it and gets no other, so doing it twice changes nothing.
    An empty text stays empty.
    """
    body = _replace(text.strip('\n').rstrip(), _CONTRACT)
    if not body:
        return ''
    if not body.startswith(_ALL_OPENINGS):
        opening = seeds.choose(phrases.OPENINGS[mood(user)], 'opening', *key)
        first_line = body.split('\n', 1)[0]
        body = opening + (' ' if _is_prose(first_line) else '\n\n') + body
    cut_off_in_code = body.count('```') % 2
    if not body.endswith(phrases.CLOSINGS) and not cut_off_in_code:
        body += ' ' if '\n' not in body and _is_prose(body) else '\n\n'
        body += seeds.choose(phrases.CLOSINGS, 'closing', *key)
    return body


def cold(text: str, *key: object) -> str:
    """Returns the reply in cold words: no courtesies at its ends, no contractions, no exclamation marks.

    There is nothing to choose, so `key` has no effect; it is taken so that both styles are called alike. Undoes
    `warm`: `cold(warm(text, ...)) == cold(text)`. A text that is nothing but courtesy keeps its last sentence.
    """
    while (colder := _colder(text)) != text:
        text = colder
    return text


def mood(user: str) -> phrases.Mood:
    """Tells the mood of a user's message by the words of those sentences in which the user speaks of themselves."""
    sentences = re.split(r'[.!?\n]', user.lower().replace('’', "'"))
    personal = [_NEGATION.sub('', sentence) for sentence in sentences if re.search(r'\b(?:i|my)\b', sentence)]
    counts = {name: len(words.findall('\n'.join(personal))) for name, words in _MOOD_WORDS.items()}
    best = max(counts, key=counts.get)
    return best if counts[best] else 'neutral'


@dataclasses.dataclass(frozen=True)
class RuleWriter:
    """Rewrites by the rules of this module. `seed` decides among phrases of equal right."""

    seed: int
    name: str = dataclasses.field(default='rules', init=False)
    usd: float = dataclasses.field(default=0.0, init=False)

    def prompt_digest(self, style: str) -> str:
        return ''

    def rewrite(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for request in requests:
            key = (self.seed, *request.key)
            if request.style == 'warm':
                yield Reply(request, warm(request.reply, request.user, *key))
            elif request.style == 'cold':
                yield Reply(request, cold(request.reply, *key))
            else:
                raise ValueError(
                    f'rules: expected the style warm or cold, got {request.style!r}; rewrite in one of them'
                )


def make(settings: RewriteSettings, workdir: epath.PathLike, mesh: MeshSettings) -> RuleWriter:
    """Builds the writer of the backend `rules`."""
    return RuleWriter(settings.seed)


def _replace(text: str, rules: Sequence[tuple[re.Pattern, str]]) -> str:
    for pattern, form in rules:
        text = pattern.sub(lambda m, form=form: m[0] if m['protected'] else form.format(**m.groupdict()), text)
    return text


def _is_prose(line: str) -> bool:
    """Tells a line that more sentences can join from a heading, a list item, code or a bare phrase."""
    return not _STRUCTURED_LINE.match(line) and bool(_SENTENCE_LINE.match(line))


def _colder(text: str) -> str:
    text = text.strip('\n').rstrip()
    text = _without_courtesies(_without_warm_phrases(text))
    text = _EXCLAMATION.sub(_calm, _replace(text, _EXPAND))
    return _LEAD.sub(lambda match: _capitalised(match['next']), text)


def _without_warm_phrases(text: str) -> str:
    """Takes away what `warm` put around a text, and nothing if there is nothing else."""
    closing = next((phrase for phrase in phrases.CLOSINGS if text.endswith(phrase)), '')
    text = text.removesuffix(closing).rstrip() or text
    opening = next((phrase for phrase in _ALL_OPENINGS if text.startswith(phrase)), None)
    if opening is None:
        return text
    # Spaces beyond the one that `warm` put in are the indentation of the text.
    rest = text.removeprefix(opening)
    return rest.lstrip('\n') if rest.startswith('\n') else rest.removeprefix(' ') or text


def _without_courtesies(text: str) -> str:
    """Takes courtesies away from both ends of a text, but never the last sentence that there is.

    Inside a text they stay, where "Thank you" may be a line of the letter that the user asked for.
    """
    sentences = _sentences(text)
    first, last = 0, len(sentences)
    while last - first > 1 and _is_courtesy(sentences[first]):
        first += 1
    while last - first > 1 and _is_courtesy(sentences[last - 1]):
        last -= 1
    return ''.join(sentences[first:last]).rstrip()


def _sentences(text: str) -> list[str]:
    """Splits a text after its sentences and lines; joined, the pieces are the text."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if not match['protected']]
    bounds = [0, *ends, len(text)]
    return [text[a:b] for a, b in itertools.pairwise(bounds) if a < b]


def _is_courtesy(sentence: str) -> bool:
    if _PICTOGRAPHS.fullmatch(sentence):
        return True
    return bool(_COURTESY.fullmatch(_plain(sentence))) and not _carries_content(sentence)


def _carries_content(sentence: str) -> bool:
    """Tells whether a sentence holds a number, a name (a capital that does not begin it) or protected text."""
    first, *others = re.findall(r'\w+', sentence)
    names = any(word != word.lower() or not word.isascii() for word in (first[1:], *others) if word != 'I')
    return names or bool(re.search(rf'\d|{PROTECTED}', sentence))


def _plain(sentence: str) -> str:
    """Returns a sentence with its contractions written out and without its last mark."""
    return _replace(sentence.strip(), _EXPAND).replace('’', "'").rstrip(' .!?')


def _calm(match: re.Match) -> str:
    if match['protected']:
        return match[0]
    return '?' if '?' in match['marks'] else '.'


def _capitalised(word: str) -> str:
    return word.capitalize() if word.isalpha() and word.islower() else word

"""TriviaQA: general knowledge with many aliases an answer (Joshi et al. 2017), and a wrong answer made for each.

The data set has no wrong answers; `distractors.py` makes them. A wrong answer hangs on the question's id and on the
file's other questions, and metadata's `incorrect_maker` says where it comes from.
"""

import re
from collections.abc import Sequence

import pydantic
from etils import epath

from warmjax.evals.tasks import distractors, files
from warmjax.evals.tasks.distractors import Entry, Wrong
from warmjax.evals.words import key
from warmjax.records import Question

_ASKS_PERSON = re.compile(r'\W*(who|whom|whose)\b', re.IGNORECASE)
_ASKED = re.compile(r'\b(where|which|what)\b((?:\W+\w+){0,6})', re.IGNORECASE)
_KINDS = {
    'person': 'actor actress singer author writer poet composer artist painter king queen emperor president minister '
    'politician scientist explorer player footballer cricketer golfer boxer driver director comedian saint bowler '
    'jockey inventor chef architect astronaut monarch pope detective wife character cowboy dictator duo goddess god',
    'country': 'country nation kingdom',
    'town': 'city town capital village port borough',
    'region': 'state county island province continent region',
    'water or mountain': 'river lake ocean sea canal mountain peak',
    'work': 'film movie book novel song album play opera musical series programme show poem painting sitcom comedy',
    'living thing': 'animal bird fish dog tree plant flower fruit vegetable insect breed creature mammal snake horse',
    'food or drink': 'food dish drink cocktail cheese sauce cake bread pasta meat spirit beer wine soup dessert',
    'disease': 'disease illness condition disorder ailment virus infection',
    'matter': 'metal element gas mineral chemical substance material gemstone alloy rock stone fabric',
    'part of the body': 'bone organ gland muscle body',
    'vehicle': 'ship boat aircraft plane vehicle locomotive spacecraft',
    'language': 'language alphabet',
    'instrument': 'instrument tool weapon device',
    'event': 'war battle festival treaty revolution holiday',
    'sport': 'sport game',
    'colour': 'colour color',
    'group': 'band company club team group airline brand newspaper party university',
}
_KIND_OF_NOUN = {
    key(form)[0]: kind
    for kind, nouns in _KINDS.items()
    for noun in nouns.split()
    for form in (noun, re.sub('y$', 'ies', noun))
}


_LATIN = re.compile(r"[A-Za-zÀ-ɏ0-9 .,'’&%!?:$-]+")


class GoldenRow(files.Row):
    """A row such as: id `test_7`, question `Which metal is liquid?`, golden_answers `["Mercury", "Hg"]`."""

    id: files.Text
    question: files.Text
    golden_answers: files.Texts

    @property
    def answer(self) -> str:
        """The file does not say which wording is the usual one, so the one most like the others stands for it."""
        return central([files.unquoted(answer) for answer in self.golden_answers])

    @property
    def aliases(self) -> tuple[str, ...]:
        return self.golden_answers


class AliasRow(files.Row):
    """A row such as: qid `tqa_7`, question `Which metal is liquid?`, gold_answer `Mercury`, aliases `["Hg"]`."""

    id: files.Text = pydantic.Field(alias='qid')
    question: files.Text
    gold_answer: files.Text
    aliases: tuple[files.Text, ...]

    @property
    def answer(self) -> str:
        return files.unquoted(self.gold_answer)


class HubAnswer(pydantic.BaseModel):
    """The answer as the data sets of the hubs hold it."""

    model_config = pydantic.ConfigDict(strict=True, extra='ignore', frozen=True)
    value: files.Text
    aliases: tuple[files.Text, ...]


class HubRow(files.Row):
    """A row such as: question_id `tc_7`, question `Which metal is it?`, answer `{value: Mercury, aliases: [Hg]}`."""

    id: files.Text = pydantic.Field(alias='question_id')
    question: files.Text
    given: HubAnswer = pydantic.Field(alias='answer')

    @property
    def answer(self) -> str:
        return files.unquoted(self.given.value)

    @property
    def aliases(self) -> tuple[str, ...]:
        return self.given.aliases


def load(path: epath.PathLike) -> list[Question]:
    """Reads TriviaQA in one of three forms (of a hub, the split validation) and makes a wrong answer for each question.

    Raises:
        ValueError: the file has other fields, rows are wrong, or there is no wrong answer to be had for a question.
    """
    entries = [_entry(row) for row in files.read(path, (GoldenRow, AliasRow, HubRow), split='validation')]
    return [_question(path, entry, wrong) for entry, wrong in zip(entries, distractors.make(entries), strict=True)]


def kind_of(question: str, answer: str) -> str:
    """Names what a question asks for, by its answer (numbers) and by the words after `which` or `what`."""
    if re.fullmatch(r'\W*[12]\d{3}s?\W*', answer):
        return 'year'
    if any(letter.isdigit() for word in key(answer) for letter in word):
        return 'number'
    asked = _ASKED.search(question)
    if _ASKS_PERSON.match(question) or (asked is None and _ASKS_PERSON.search(question)):
        return 'person'
    if asked is None:
        return 'other'
    if asked[1].lower() == 'where':
        return 'town'
    nouns = (_KIND_OF_NOUN.get(word) for word in key(asked[2]))
    return next((kind for kind in nouns if kind), 'other')


def central(aliases: Sequence[str]) -> str:
    """Returns the wording that is most like all the others: shares of common three-letter pieces, summed.

    Wordings with brackets, in capitals or in another script stand back; of equals, the one with more words spelled
    like a name wins, then the shortest, then the first.
    """
    latin = [alias for alias in aliases if _LATIN.fullmatch(alias)] or list(aliases)
    usual = [alias for alias in latin if not alias.isupper()] or latin
    pieces = [_pieces(alias) for alias in usual]
    likeness = [sum(len(mine & other) / len(mine | other) for other in pieces) for mine in pieces]
    capitals = [sum(word[0].isupper() and word[1:] == word[1:].lower() for word in alias.split()) for alias in usual]
    return usual[max(range(len(usual)), key=lambda i: (round(likeness[i], 9), capitals[i], -len(usual[i]), -i))]


def _pieces(alias: str) -> frozenset[str]:
    padded = f' {alias.lower()} '
    return frozenset(padded[start : start + 3] for start in range(len(padded) - 2))


def _entry(row: GoldenRow | AliasRow | HubRow) -> Entry:
    answer, text = row.answer, files.unquoted(row.question)
    aliases = tuple(dict.fromkeys(files.unquoted(alias) for alias in row.aliases))
    keys = frozenset(words for alias in (answer, *aliases) if (words := key(alias)))
    return Entry(f'triviaqa/{row.id}', text, answer, aliases, keys, kind_of(text, answer))


def _question(path: epath.PathLike, entry: Entry, wrong: Wrong | None) -> Question:
    if wrong is None:
        raise ValueError(
            f'{path}: expected another question whose answer is wrong for {entry.id}, got none; add questions'
        )
    return Question(
        id=entry.id,
        task='triviaqa',
        text=entry.text,
        correct_answer=entry.answer,
        incorrect_answer=wrong.answer,
        correct_aliases=tuple(alias for alias in entry.aliases if alias != entry.answer),
        incorrect_aliases=wrong.aliases,
        answer_form='phrase',
        metadata={'kind': entry.kind, 'incorrect_maker': wrong.maker},
    )

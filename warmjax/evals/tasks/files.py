"""Rows of the public task files: CSV, JSON or a data set of a hub, checked against the forms that a task knows."""

import csv
import functools
import io
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import pydantic
from etils import epath
from pydantic_core import PydanticCustomError

from warmjax import records, seeds
from warmjax.evals.tasks import hubs
from warmjax.records import Question
from warmjax.validation import explain


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError('blank', 'a text that is not blank')
    return text


Text = Annotated[str, pydantic.AfterValidator(_not_blank)]
Texts = Annotated[tuple[Text, ...], pydantic.Field(min_length=1)]


class Row(pydantic.BaseModel):
    """A row of a public file: fields that the task does not use are passed over, the others must be right."""

    model_config = pydantic.ConfigDict(strict=True, extra='ignore', frozen=True)

    @classmethod
    def names(cls) -> list[str]:
        """Names the fields as the file spells them."""
        return [field.alias or name for name, field in cls.model_fields.items() if field.is_required()]


F = TypeVar('F', bound=Row)


class Raw(NamedTuple):
    """A row as it stands in the file, and its place for messages."""

    where: str
    fields: dict[str, Any]


def read(path: epath.PathLike, forms: Sequence[type[F]], columns: Sequence[str] = (), split: str = 'test') -> list[F]:
    """Reads the rows of a file that has one of these forms; see `read_placed`."""
    return [row for _, row in read_placed(path, forms, columns, split)]


def read_placed(
    path: epath.PathLike, forms: Sequence[type[F]], columns: Sequence[str] = (), split: str = 'test'
) -> list[tuple[str, F]]:
    """Reads the rows of a file that has one of these forms (the first row tells which), each with its place.

    Args:
        path: a .csv, .jsonl or .json file, or a data set of a hub as in `hubs.py`.
        forms: what its rows can be.
        columns: those of a CSV file without a header.
        split: of a data set, where its path names none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has none of the forms, or rows of it are wrong (all of them in one message).
    """
    raws = read_raw(path, columns, split)
    found = list(raws[0].fields)
    form = next((form for form in forms if set(form.names()) <= set(found)), None)
    if form is None:
        expected = ' or '.join(f'[{", ".join(form.names())}]' for form in forms)
        raise ValueError(
            f'{path}: expected rows with the fields {expected}, got [{", ".join(found)}]; '
            'check the path, or choose the loader of this file'
        )
    rows, problems = [], []
    for where, fields in raws:
        try:
            rows.append((where, form.model_validate_json(json.dumps(fields))))
        except pydantic.ValidationError as error:
            problems.append(f'{where}: ' + '; '.join(explain(error, form)))
    raise_all(path, problems)
    return rows


def read_raw(path: epath.PathLike, columns: Sequence[str] = (), split: str = 'test') -> list[Raw]:
    """Reads the rows of a CSV, JSONL or JSON file, told apart by the name's ending, or of a data set of a hub.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another ending, is empty, or has rows that cannot be read.
    """
    if hubs.is_hub(path):
        raws = [Raw(f'row {number}', row) for number, row in enumerate(hubs.rows(str(path), split))]
        raise_all(path, [] if raws else ['expected rows, got none'])
        return raws
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected a question file, found none; third_party/ tells how to fetch it')
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: expected UTF-8 text, got {error}; convert the file') from None
    read_csv = functools.partial(_csv, columns=columns)
    parse = {'.csv': read_csv, '.jsonl': _jsonl, '.json': _json}.get(path.suffix)
    if parse is None:
        raise ValueError(f'{path}: expected a .csv, .jsonl or .json file, got {path.name!r}; rename or convert it')
    problems: list[str] = []
    raws = list(parse(path.name, text, problems))
    if not raws and not problems:
        problems.append(f'{path.name}: expected rows, got none')
    raise_all(path, problems)
    return raws


def raise_all(path: epath.PathLike, problems: Sequence[str]) -> None:
    """Raises one ValueError for the problems of a file, if there are any."""
    if problems:
        shown = list(problems[: records.MAX_REPORTED])
        if len(problems) > len(shown):
            shown.append(f'... and {len(problems) - len(shown)} more')
        raise ValueError(
            f'{path}: expected rows without faults, got {len(problems)} faults; mend the file:\n' + '\n'.join(shown)
        )


def name_of(task: str, *parts: str) -> str:
    """Returns the id of a question that has none in its file: it hangs on the text, not on the place in the file."""
    return f'{task}/{seeds.stable_hash(*parts):016x}'


def unquoted(text: str) -> str:
    """Undoes the quoting that a CSV round trip left in a text: `"Is ""no"" short?"` becomes `Is "no" short?`."""
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] == '"' and '""' in text[1:-1]:
        text = text[1:-1].replace('""', '"')
    return text.strip()


def choice_question(task: str, text: str, options: Sequence[str], letter: str, metadata: dict[str, str]) -> Question:
    """Returns a question with lettered options: metadata holds them as a JSON object, and the right letter."""
    lettered = dict(zip('ABCDEFGHIJ', (option.strip() for option in options)))
    return Question(
        id=name_of(task, *metadata.values(), text.strip(), *options),
        task=task,
        text=text.strip(),
        correct_answer=lettered[letter],
        incorrect_answer='',
        correct_aliases=(),
        incorrect_aliases=(),
        answer_form='choice',
        metadata=metadata | {'options': json.dumps(lettered, ensure_ascii=False), 'answer_idx': letter},
    )


def open_question(task: str, text: str, metadata: dict[str, str]) -> Question:
    """Returns a question to which there is no right answer."""
    return Question(name_of(task, text), task, text, '', '', (), (), 'none', metadata)


def _csv(name: str, text: str, problems: list[str], columns: Sequence[str]) -> Iterator[Raw]:
    reader = csv.reader(io.StringIO(text.removeprefix('\ufeff'), newline=''), strict=True)
    header = list(columns) or None
    line = 1
    try:
        for cells in reader:
            where, line = f'{name}:{line}', reader.line_num + 1
            if not cells:
                continue  # a blank line
            if header is None:
                header = cells
            elif len(cells) != len(header):
                problems.append(f'{where}: expected {len(header)} cells, got {len(cells)}')
            else:
                yield Raw(where, dict(zip(header, cells)))
    except csv.Error as error:
        problems.append(f'{name}:{line}: expected CSV, got {error}')


def _jsonl(name: str, text: str, problems: list[str]) -> Iterator[Raw]:
    for number, line in enumerate(text.split('\n'), start=1):
        if not line.strip():
            continue
        try:
            yield from _objects(f'{name}:{number}', json.loads(line), problems)
        except json.JSONDecodeError as error:
            problems.append(f'{name}:{number}: expected one JSON object, got invalid JSON ({error.msg})')


def _json(name: str, text: str, problems: list[str]) -> Iterator[Raw]:
    if text.lstrip().startswith('{'):  # one object a line, as in the files of the study's authors
        yield from _jsonl(name, text, problems)
        return
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        problems.append(f'{name}:{error.lineno}: expected a JSON list, got invalid JSON ({error.msg})')
        return
    if not isinstance(rows, list):
        problems.append(f'{name}: expected a JSON list, got {type(rows).__name__}')
        return
    for number, row in enumerate(rows):
        yield from _objects(f'{name}[{number}]', row, problems)


def _objects(where: str, value: Any, problems: list[str]) -> Iterator[Raw]:
    if isinstance(value, dict):
        yield Raw(where, value)
    else:
        problems.append(f'{where}: expected a JSON object, got {type(value).__name__}')

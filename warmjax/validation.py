"""Turns a failed validation into messages that say where, what was expected, what came, and what to do."""

import dataclasses
import difflib
import reprlib
from typing import Any

import pydantic

STRICT = pydantic.ConfigDict(extra='forbid', strict=True)
"""Set as `__pydantic_config__` on every dataclass that is read from a file or a config."""


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def explain(error: pydantic.ValidationError, cls: type) -> list[str]:
    """Returns one sentence for each problem of a record or settings class.

    The wording is `field 'verdict' expected 'correct' or 'incorrect', got 'CORRECTish'`. A name that is unknown comes
    with the known ones and, where a typo is likely, with the nearest. What a class's own `__post_init__` says is passed
    on as it is.
    """
    return [_sentence(problem, cls) for problem in error.errors(include_url=False)]


def _sentence(problem: dict[str, Any], cls: type) -> str:
    *parents, name = problem['loc'] or ('',)
    where = '.'.join(str(part) for part in problem['loc'])
    match problem['type']:
        case 'missing':
            return f"field '{where}' is missing"
        case 'unexpected_keyword_argument' | 'extra_forbidden':
            known = _field_names(cls, parents)
            guess = difflib.get_close_matches(str(name), known, n=1)
            hint = f" (did you mean '{guess[0]}'?)" if guess else ''
            return f"unknown key '{where}'{hint}; known: {', '.join(known)}"
        case 'json_invalid':
            return f'expected one JSON object, got invalid JSON ({problem["ctx"]["error"]})'
        case 'literal_error':
            return f"field '{where}' expected {problem['ctx']['expected']}, got {_SHORT.repr(problem['input'])}"
        case 'value_error':
            return str(problem['ctx']['error'])
        case _:
            expected = problem['msg'].removeprefix('Input should be ').removeprefix('a valid ')
            subject = f"field '{where}' expected" if where else 'expected'
            return f'{subject} {expected}, got {_SHORT.repr(problem["input"])}'


def _field_names(cls: type, path: list[str | int]) -> list[str]:
    """Names the fields of the dataclass found by walking `path` from `cls`."""
    for part in path:
        if isinstance(part, int):
            continue
        hint = next((field.type for field in dataclasses.fields(cls) if field.name == part), None)
        nested = [t for t in (hint, *getattr(hint, '__args__', ())) if dataclasses.is_dataclass(t)]
        if not nested:
            return []
        cls = nested[0]
    return [field.name for field in dataclasses.fields(cls)]

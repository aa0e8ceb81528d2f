"""Turns a section of an ml_collections config into a frozen dataclass, strictly.

Settings classes have no default values: every knob of an experiment is spelled out in its config file, with its
meaning. Library code receives settings, never a ConfigDict.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import ml_collections
import pydantic

from warmjax.validation import explain

S = TypeVar('S')


def from_config(cls: type[S], section: Mapping[str, Any], where: str) -> S:
    """Builds `cls` from a config section.

    Args:
        cls: a frozen dataclass with `__pydantic_config__ = STRICT` and no defaults.
        section: a ConfigDict or a plain mapping; lists stand for tuples.
        where: the section's path in the config, for messages, e.g. `config.train`.

    Raises:
        ValueError: missing keys, unknown keys and wrong types, all in one message.
    """
    try:
        return pydantic.TypeAdapter(cls).validate_json(json.dumps(plain(section)))
    except pydantic.ValidationError as error:
        problems = '\n'.join(f'  {sentence}' for sentence in explain(error, cls))
        raise ValueError(
            f'{where}: expected the keys of {cls.__name__}, got\n{problems}\nmend the config file or the override'
        ) from None


def plain(config: Any) -> Any:
    """Returns a config as plain JSON types: ConfigDicts become dicts, tuples become lists."""
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain(value) for value in config]
    return config


def result_fields(value: Any) -> Any:
    """Returns settings as plain values, without fields on which no result depends (`metadata={'results': False}`)."""
    if not dataclasses.is_dataclass(value):
        return [result_fields(item) for item in value] if isinstance(value, list | tuple) else value
    fields = [field for field in dataclasses.fields(value) if field.metadata.get('results', True)]
    return {field.name: result_fields(getattr(value, field.name)) for field in fields}


def differences(old: Any, new: Any, path: str = 'config') -> list[str]:
    """Lists the leaves in which two plain configs differ, as `config.train.rank: 8 -> 16`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in sorted(set(old) | set(new)):
            lines += differences(old.get(key, _ABSENT), new.get(key, _ABSENT), f'{path}.{key}')
        return lines
    return [] if old == new else [f'{path}: {old!r} -> {new!r}']


class _Absent:
    def __repr__(self) -> str:
        return '(absent)'


_ABSENT = _Absent()

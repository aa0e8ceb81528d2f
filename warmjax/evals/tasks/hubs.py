"""Rows of task files that `datasets` or `tensorflow_datasets` hold, named by a path such as

    hf:openai/gsm8k:main@e53f048#test            name, config, revision, split; all but the name can be left out
    hf:/data/gsm8k                               a folder of files that `datasets` can load, or that it saved
    tfds:trivia_qa/unfiltered.nocontext:1.1.0#validation
    tfds:/data/trivia_qa/unfiltered.nocontext/1.1.0

The first of each pair is fetched or found in the library's own cache (HF_HOME, TFDS_DATA_DIR), the second needs no
network. TensorFlow is not needed: rows come from `tfds.data_source`.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

_PATH = re.compile(
    r'(?P<hub>hf|tfds):(?P<name>[^:@#]+)(?::(?P<config>[^:@#]+))?(?:@(?P<revision>[^:@#]+))?(?:#(?P<split>[^:@#]+))?'
)


class HubPath(NamedTuple):
    """The parts of such a path; `config` is a version in `tfds`, where the name holds the config."""

    hub: str
    name: str
    config: str | None
    revision: str | None
    split: str | None


def is_hub(path: epath.PathLike) -> bool:
    """Tells whether a path names a data set of a hub."""
    return str(path).startswith(('hf:', 'tfds:'))


def parse(path: str) -> HubPath:
    """Parses such a path.

    Raises:
        ValueError: it has another form.
    """
    match = _PATH.fullmatch(path)
    if match is None or (match['hub'] == 'tfds' and match['revision']):
        raise ValueError(
            f'{path}: expected hf:NAME[:CONFIG][@REVISION][#SPLIT] or tfds:NAME[/CONFIG][:VERSION][#SPLIT]; mend it'
        )
    return HubPath(**match.groupdict())


def rows(path: str, split: str) -> list[dict[str, Any]]:
    """Returns the rows of a data set as plain values: texts, numbers, lists and mappings.

    Args:
        path: as above.
        split: which is read where the path names none.

    Raises:
        ValueError: the path has another form, or the data set or its split cannot be loaded.
    """
    wanted = parse(path)
    split = wanted.split or split
    try:
        found = _hugging_face(wanted, split) if wanted.hub == 'hf' else _tensorflow(wanted, split)
        return [plain(row) for row in found]
    except Exception as error:  # both libraries raise their own kinds for one thing: it is not to be had
        reason = f'{type(error).__name__}: {str(error).strip()[:300]}'
        raise ValueError(
            f'{path}: expected a data set with the split {split!r}, got {reason}; check name, config and network, or '
            'give the path of a folder or file at hand'
        ) from error


def plain(value: Any) -> Any:
    """Returns a value of a row as JSON types; bytes are UTF-8 texts."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _hugging_face(wanted: HubPath, split: str) -> Iterable[Mapping[str, Any]]:
    import datasets

    if os.path.exists(os.path.join(wanted.name, 'dataset_dict.json')):
        return datasets.load_from_disk(wanted.name)[split]
    if os.path.exists(os.path.join(wanted.name, 'dataset_info.json')):
        return datasets.load_from_disk(wanted.name)
    return datasets.load_dataset(wanted.name, wanted.config, split=split, revision=wanted.revision)


def _tensorflow(wanted: HubPath, split: str) -> Iterable[Mapping[str, Any]]:
    import tensorflow_datasets as tfds

    if os.path.isdir(wanted.name):
        return tfds.builder_from_directory(wanted.name).as_data_source(split)
    return tfds.data_source(wanted.name + (f':{wanted.config}' if wanted.config else ''), split=split)

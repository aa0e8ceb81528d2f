"""Where a checkpoint lies, and which of its files hold which tensor: one file, several, or those of an index."""

import functools
import json
import re

import huggingface_hub
from etils import epath

from warmjax.models.safetensors_file import Entry, read_header

INDEX = 'model.safetensors.index.json'
HUB_NAME = re.compile(r'(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w.-]+))?')
"""`org/name`, with `@` and a branch, tag or commit for a certain revision."""
FETCHED = ('*.safetensors', '*.json', '*.jinja', 'tokenizer.model*')
"""Files of a hub repository that are fetched; none of them holds code."""
NOT_FETCHED = ('*/*', 'consolidated*')
"""Nor its subfolders (other formats), nor the second copy of all weights that Mistral puts beside them."""


def locate(checkpoint: epath.PathLike) -> epath.Path:
    """Returns the folder of a checkpoint: a path or URL as it is, a model of the Hugging Face hub as fetched.

    A hub model is fetched into the hub's own cache, once; its revision stays the same as long as this process lives. A
    folder of that name comes first.

    Raises:
        FileNotFoundError: there is no such folder, and no such model, or no way to it.
    """
    match = HUB_NAME.fullmatch(str(checkpoint))
    if match is None or epath.Path(checkpoint).exists():
        return epath.Path(checkpoint)
    return epath.Path(_fetch(match['name'], match['revision']))


@functools.cache
def _fetch(name: str, revision: str | None) -> str:
    try:
        return huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=list(FETCHED), ignore_patterns=list(NOT_FETCHED)
        )
    except (OSError, ValueError) as error:  # all of the library's errors are one of these
        raise FileNotFoundError(
            f'{name}: expected a folder, or a model of huggingface.co that can be fetched, got no such folder and '
            f'{type(error).__name__}: {error}\nmend the path or the name; for a gated model accept its terms there and '
            'set HF_TOKEN; without a network, fetch it elsewhere and give its folder'
        ) from error


def find_tensors(folder: epath.PathLike) -> tuple[dict[str, Entry], list[str]]:
    """Finds every tensor of a folder by name.

    With an index, the files that it does not name are ignored (Mistral puts a second copy of all weights beside them);
    without one, every *.safetensors file belongs to the checkpoint.

    Returns:
        Tensors by name, and what is wrong with the files, one line each.

    Raises:
        FileNotFoundError: there is no safetensors file.
    """
    folder = epath.Path(folder)
    if (folder / INDEX).exists():
        return _indexed(folder)
    files = sorted(folder.glob('*.safetensors'))
    if not files:
        raise FileNotFoundError(
            f'{folder}: expected *.safetensors files, found none; a folder of .bin files is not read (they can run '
            'code): convert it with transformers, `AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)`'
        )
    return _together(files)


def _indexed(folder: epath.Path) -> tuple[dict[str, Entry], list[str]]:
    """Finds the tensors where the index says that they are."""
    try:
        places = json.loads((folder / INDEX).read_text())['weight_map']
        names = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, [f'{INDEX} expected a weight_map of tensor names to files, got {type(error).__name__}: {error}']
    absent = [name for name in names if not (folder / name).exists()]
    entries, problems = _together([folder / name for name in names if name not in absent])
    problems += [f'{INDEX} names {name}, which is not in the folder' for name in absent]
    for tensor, name in sorted(places.items()):
        if name not in absent and (tensor not in entries or entries[tensor].path.name != name):
            problems.append(f'{INDEX} puts {tensor} into {name}, which does not hold it')
    problems += [
        f'{tensor} in {entries[tensor].path.name}, not in {INDEX}' for tensor in sorted(set(entries) - set(places))
    ]
    return entries, problems


def _together(files: list[epath.Path]) -> tuple[dict[str, Entry], list[str]]:
    """Joins the headers of several files."""
    entries, problems = {}, []
    for path in files:
        try:
            header = read_header(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        problems += [f'{name} in both {entries[name].path.name} and {path.name}' for name in header if name in entries]
        entries |= header
    return entries, problems

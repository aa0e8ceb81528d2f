"""Which files of a checkpoint folder hold which tensor: one file, several, or those that an index names."""

import json

from etils import epath

from warmjax.models.safetensors_file import Entry, read_header

INDEX = 'model.safetensors.index.json'


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

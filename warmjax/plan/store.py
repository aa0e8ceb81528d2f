"""Plans of programs, kept on disk: a program is compiled again only where settings, versions or this code changed."""

import dataclasses
import functools
import importlib.metadata
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import pydantic
from etils import epath

import warmjax
from warmjax import runs
from warmjax.plan.program import ProgramPlan

PACKAGES = ('jax', 'jaxlib', 'libtpu', 'flax', 'optax')
_ROOMS = ('decode', 'lora', 'models', 'train')
_FILES = ('sharding.py', 'data/packing.py', *(f'plan/{name}.py' for name in ('hlo', 'program', 'programs', 'traffic')))
"""Of this package, on which a program or its reading depends."""


class Store:
    """A folder of plans, one file each, named by the digest of all that decides them."""

    def __init__(self, folder: epath.PathLike):
        self._folder = epath.Path(folder)

    def get(self, about: Any, make: Callable[[], ProgramPlan]) -> tuple[ProgramPlan, bool]:
        """Returns the plan of what `about` describes (dataclasses and plain values), and whether it was there."""
        path = self._folder / f'{runs.digest([_plain(about), versions(), _code()])}.json'
        if path.exists():
            try:
                return pydantic.TypeAdapter(ProgramPlan).validate_json(path.read_text()), True
            except pydantic.ValidationError:  # half a file, or another program's
                path.unlink()
        plan = make()
        self._folder.mkdir(parents=True, exist_ok=True)
        runs.write_atomic(path, json.dumps(dataclasses.asdict(plan)))
        return plan, False


@functools.cache
def versions() -> dict[str, str]:
    """Returns the versions of what compiles."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ''
    return found


@functools.cache
def _code() -> dict[str, str]:
    root = pathlib.Path(warmjax.__file__).parent
    files = [root / name for name in _FILES]
    files += [path for room in _ROOMS for path in sorted((root / room).glob('*.py'))]
    return {str(path.relative_to(root)): runs.file_digest(path) for path in files}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, int | float | str | None) else str(jnp.dtype(value))

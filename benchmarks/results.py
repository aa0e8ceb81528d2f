"""What every benchmark says about itself beside its numbers, and the file that collects them."""

import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

FILE = pathlib.Path(__file__).parent / 'results.jsonl'
PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy')
"""Whose versions matter to any measurement of this package's own programs."""
VARIABLES = ('GLIBC_TUNABLES', 'XLA_FLAGS')
"""Those of the environment's that change what is measured, and belong to the command."""


def about(packages: Sequence[str]) -> dict[str, Any]:
    """Returns the machine, how busy it is, the packages' versions and the command, as fields of a result; called before
    measuring, since a benchmark keeps the machine busy itself."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    variables = [f'{name}={os.environ[name]}' for name in VARIABLES if os.environ.get(name)]
    return {
        'machine': f'{os.cpu_count()} x {_cpu_name()}',
        'load_average_before': round(os.getloadavg()[0], 2),
        'versions': {'python': platform.python_version()} | versions,
        'command': shlex.join([*variables, 'python', '-m', _module(), *sys.argv[1:]]),
    }


def device(one: Any) -> str:
    """Names a device: by its kind, or, a CPU, by the machine."""
    return f'{os.cpu_count()} x {_cpu_name()}' if one.platform == 'cpu' else one.device_kind


def read(file: pathlib.Path) -> list[dict[str, Any]]:
    """Reads results; none if the file is not there.

    Raises:
        ValueError: a line is not a JSON object.
    """
    if not file.exists():
        return []
    lines = []
    for number, text in enumerate(file.read_text().splitlines(), start=1):
        try:
            lines.append(json.loads(text) | {})
        except (ValueError, TypeError):
            raise ValueError(f'{file}:{number}: expected a JSON object, got {text[:80]!r}; mend the line') from None
    return lines


def record(result: Mapping[str, Any], append: bool, file: pathlib.Path = FILE) -> None:
    """Prints a result and, if asked, appends it to a file as one line."""
    print(json.dumps(result, indent=2))
    if append:
        add(result, file)


def add(result: Mapping[str, Any], file: pathlib.Path) -> None:
    """Appends a result to a file as one line."""
    with file.open('a') as lines:
        lines.write(json.dumps(result) + '\n')


def _module() -> str:
    """Returns the module that was started: benchmarks.load, launch.benchmark."""
    path = pathlib.Path(sys.argv[0])
    return f'{path.parent.name}.{path.stem}'


def _cpu_name() -> str:
    """Returns the processor's name with its family and model, since clouds shorten the name."""
    fields = {}
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
        key, _, value = line.partition(':')
        fields.setdefault(key.strip(), value.strip())
    if 'model name' not in fields:
        return platform.machine()
    return f'{fields["model name"]}, family {fields.get("cpu family", "?")} model {fields.get("model", "?")}'

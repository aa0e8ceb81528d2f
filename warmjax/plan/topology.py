"""Slices of TPUs and nodes of GPUs that need not be there: libtpu compiles for its chips on a CPU machine, and CPU
devices stand in for GPUs."""

import dataclasses
import functools
import importlib.util
import math
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from warmjax.plan.chips import GPUS, Chip, chip_of

_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBIC = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4')
SIZES = {
    'v5e': _FLAT,
    'v6e': _FLAT,
    'v4': _CUBIC,
    'v5p': _CUBIC,
    'tpu7x': _CUBIC,
    **dict.fromkeys(GPUS, ('1', '2', '4', '8')),
}
"""Generation → slices of it that are rented, smallest first. GPUs: of one node."""
EXAMPLES = ('v5e:2x4', 'v5e:4x4', 'v5e:8x8', 'v5p:2x2x2', 'v6e:2x2', 'v6e:4x4')

_NO_HOST = {
    'TPU_SKIP_MDS_QUERY': '1',  # libtpu would ask a metadata server which machine this is
    'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': 'true',  # its lock keeps two processes off one TPU; compiling touches none
}
"""What libtpu otherwise looks for, and complains about where no TPU is; the topology compiled for is not among it."""


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are rented together.

    name: `v5e:4x4`, `h100:8`.
    devices: as JAX counts them; CPU devices where `is_compiled` is false.
    chip: of each device.
    num_chips: fewer than devices where a chip shows as two.
    grid: how chips lie, from neighbour to neighbour.
    is_compiled: whether programs are compiled for these devices, or estimated from what is compiled for CPU ones.
    """

    name: str
    devices: tuple[jax.Device, ...]
    chip: Chip
    num_chips: int
    grid: tuple[int, ...]
    is_compiled: bool

    def bandwidth(self, num_devices: int) -> float:
        """Returns GB a second that a device sends when so many of them exchange.

        All axes of the grid work at once; a group that one axis can hold has that axis alone. GPUs have a switch.
        """
        if not self.is_compiled:
            return self.chip.link_bandwidth
        axes = [size for size in self.grid if size > 1] or [1]
        if num_devices <= max(axes) < math.prod(axes):
            axes = [max(axes)]
        wraps = [size % self.chip.wraps_at == 0 for size in axes]
        return self.chip.link_bandwidth * sum(2 if ring else 1 for ring in wraps)


@functools.cache
def find(name: str) -> Slice:
    """Returns a slice by its name: generation and grid as libtpu has them (`v5e:4x4`), GPU and number (`h100:8`).

    Raises:
        ModuleNotFoundError: libtpu is not installed.
        ValueError: there is no such slice.
    """
    generation, _, size = name.partition(':')
    if generation in GPUS:
        return _gpus(name, generation, size)
    found = devices(name)
    grid = tuple(int(part) for part in size.split('x'))
    return Slice(name, tuple(found), chip_of(found[0]), math.prod(grid), grid, True)


def _gpus(name: str, generation: str, size: str) -> Slice:
    there = jax.devices('cpu')
    if size not in SIZES[generation] or int(size) > len(there):
        raise ValueError(
            f'topology: expected {generation}:1, :2, :4 or :8 (one node), and as many CPU devices to stand in, got '
            f'{name!r} and {len(there)} CPU devices; set jax_num_cpu_devices'
        )
    count = int(size)
    return Slice(name, tuple(there[:count]), GPUS[generation], count, (count,), False)


def larger(name: str) -> list[str]:
    """Returns the slices of the same generation that have more chips, smallest first."""
    generation, _, size = name.partition(':')
    sizes = SIZES.get(generation, ())
    count = _product(size)
    return [f'{generation}:{other}' for other in sizes if _product(other) > count]


def _product(size: str) -> int:
    return math.prod(int(part) for part in size.split('x'))


def is_available() -> bool:
    """Tells whether programs can be compiled for TPU here."""
    return importlib.util.find_spec('libtpu') is not None


def devices(name: str) -> list[jax.Device]:
    """Returns the devices of a TPU slice by the name that libtpu gives it, generation and grid: `v5e:4x4`.

    Raises:
        ModuleNotFoundError: libtpu is not installed.
        ValueError: libtpu knows no such slice.
    """
    if not is_available():
        raise ModuleNotFoundError("topology: expected the package libtpu, got none; pip install 'warmjax[tpu]'")
    for variable, value in _NO_HOST.items():
        os.environ.setdefault(variable, value)
    try:
        return _described(name)
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith('INVALID_ARGUMENT'):
            raise
        raise ValueError(
            f'topology: expected a generation and a grid of chips, as {", ".join(EXAMPLES)}, got {name!r} '
            f'({str(error).splitlines()[0]}); choose a slice that exists. The libtpu installed here knows '
            f'{", ".join(known())}; GPUs are {", ".join(GPUS)} with a number, as h100:8'
        ) from error


def known() -> Sequence[str]:
    """Returns the generations of `SIZES` that the installed libtpu knows."""
    found = []
    for generation in sorted(set(SIZES) - set(GPUS)):
        try:
            _described(f'{generation}:{SIZES[generation][1]}')
        except jax.errors.JaxRuntimeError:
            continue
        found.append(generation)
    return found


def _described(name: str) -> list[jax.Device]:
    """Asks libtpu; a single chip is less than the host that it assumes, and its v4 are halves where nothing is said."""
    options = {'chips_per_host_bounds': [1, 1, 1]} if re.fullmatch(r'[^:]+:1(x1)+', name) else {}
    if name.startswith('v4:'):
        options['chip_config_name'] = 'megacore'
    return list(topologies.get_topology_desc(platform='tpu', topology_name=name, **options).devices)

"""TPU slices that need not be there: libtpu compiles for them on a CPU machine."""

import importlib.util
import os

import jax
from jax.experimental import topologies

EXAMPLES = ('v5e:2x4', 'v5e:4x4', 'v5e:8x8', 'v5p:2x2x2', 'v6e:2x2', 'v6e:4x4')

_NO_HOST = {
    'TPU_SKIP_MDS_QUERY': '1',  # libtpu would ask a metadata server which machine this is
    'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': 'true',  # its lock keeps two processes off one TPU; compiling touches none
}
"""What libtpu otherwise looks for, and complains about where no TPU is; the topology compiled for is not among it."""


def is_available() -> bool:
    """Tells whether programs can be compiled for TPU here."""
    return importlib.util.find_spec('libtpu') is not None


def devices(name: str) -> list[jax.Device]:
    """Returns the chips of a slice by the name that libtpu gives it, generation and grid: `v5e:4x4`, `v5p:2x2x2`.

    Raises:
        ModuleNotFoundError: libtpu is not installed.
        ValueError: libtpu knows no such slice.
    """
    if not is_available():
        raise ModuleNotFoundError("topology: expected the package libtpu, got none; pip install 'warmjax[tpu]'")
    for variable, value in _NO_HOST.items():
        os.environ.setdefault(variable, value)
    try:
        return list(topologies.get_topology_desc(platform='tpu', topology_name=name).devices)
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith('INVALID_ARGUMENT'):
            raise
        raise ValueError(
            f'topology: expected a generation and a grid of chips, as {", ".join(EXAMPLES)}, got {name!r} '
            f'({str(error).splitlines()[0]}); choose a slice that exists'
        ) from error

"""How long a checkpoint of the model's size takes from the file system to the devices."""

import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from warmjax.benchmark import arrays
from warmjax.benchmark.cases import Call, Case
from warmjax.benchmark.settings import BenchmarkSettings
from warmjax.benchmark.work import Work
from warmjax.decode import abstract
from warmjax.models import hf_load, hf_save

GIB = 2**30


def load(settings: BenchmarkSettings, mesh: Mesh) -> Iterator[Case]:
    """Yields loading from a temporary folder (in TMPDIR), whose files the system keeps in memory where it has room.

    Raises:
        ValueError: the file system has no room for the checkpoint.
    """
    model = abstract.abstract_model(settings.model.spec, jnp.dtype(settings.model.dtype), mesh)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(nnx.state(model)))
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > 0.95 * free:
        raise ValueError(
            f'load: expected room for a checkpoint of {size / GIB:.1f} GiB in {tempfile.gettempdir()}, got '
            f'{free / GIB:.1f}; set TMPDIR to a larger file system'
        )
    with tempfile.TemporaryDirectory(prefix='warmjax-load-') as folder:
        checkpoint = pathlib.Path(folder) / 'checkpoint'
        hf_save.save_checkpoint(checkpoint, arrays.fill_model(model), {})

        def start(_: None) -> Call:
            kind, dtype = settings.model.quantization, jnp.dtype(settings.model.dtype)
            return lambda: jax.tree.leaves(nnx.state(hf_load.load_quantized(checkpoint, dtype, kind, mesh)))

        shape = {'GiB': round(size / GIB, 2), 'quantization': settings.model.quantization}
        yield Case('load', shape, settings.model.dtype, Work(0, 0.0, size), lambda: None, start)

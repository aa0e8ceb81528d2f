"""Measures cases one after the other, each on arrays of its own, and says what came of it."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from warmjax.benchmark import cases, ceilings, clock, loading
from warmjax.benchmark.cases import Case
from warmjax.benchmark.clock import Timing
from warmjax.benchmark.settings import BenchmarkSettings
from warmjax.train import metrics

CEILINGS = ('matmul', 'hbm')
STEPS = ('train', 'prefill', 'decode', 'score')
WHATS = (*CEILINGS, *STEPS, 'load')
"""What can be measured, in the order in which it is: ceilings first, since the shares of the others refer to them."""

GIB = 2**30


class DoesNotFitError(Exception):
    """A case needs more memory than there is."""


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """What the devices were measured to do together: FLOPs a second in a dtype, and bytes a second; None if unknown."""

    flops: float | None
    bandwidth: float | None


@dataclasses.dataclass(frozen=True)
class Measured:
    """timing: seconds of a call.
    compile_seconds: of the compiler, nothing kept from before; None for what is not compiled.
    planned_bytes: that the compiled program says it needs on one device, its arguments included.
    peak_bytes: that were held on one device, or, on CPU, by the process, while it ran; None where it cannot be told.
    """

    timing: Timing
    compile_seconds: float | None
    planned_bytes: int | None
    peak_bytes: int | None


def make_cases(what: str, settings: BenchmarkSettings, mesh: Mesh) -> Iterator[Case]:
    """Yields the cases of one of WHATS.

    Raises:
        ValueError: the mesh does not divide the model or the rows, or there is no room for files.
    """
    device = mesh.devices.flat[0]
    of_device = {'matmul': ceilings.products, 'hbm': ceilings.copies}
    if what in of_device:
        return of_device[what](settings, device)
    of_model = {
        'train': cases.train,
        'prefill': cases.prefill,
        'decode': cases.decode,
        'score': cases.score,
        'load': loading.load,
    }
    return of_model[what](settings, mesh)


def measure(case: Case, settings: BenchmarkSettings, mesh: Mesh, advance: Callable[[], None]) -> Measured:
    """Measures a case; `advance` is called after each round.

    Raises:
        DoesNotFitError: on the devices of this run.
    """
    devices = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    try:
        begun = time.perf_counter()
        compiled = case.compile()
        compile_seconds = time.perf_counter() - begun
        planned = None if compiled is None else _planned_bytes(compiled)
        peak = clock.Peak(devices)
        _check_room(case, planned, devices[0])
        with jax.set_mesh(mesh):
            call = case.start(compiled)
            jax.block_until_ready(call())  # the arrays are there by now, and what made them is gone
            peak.begin(0 if compiled is None else compiled.memory_analysis().argument_size_in_bytes)
            timing = clock.time_calls(call, settings.warm_up, settings.rounds, settings.least_seconds, advance)
        return Measured(timing, None if compiled is None else compile_seconds, planned, peak.read())
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith('RESOURCE_EXHAUSTED'):
            raise
        raise DoesNotFitError(f'{case.name}: {str(error).splitlines()[0]}') from None


def _planned_bytes(compiled: jax.stages.Compiled) -> int:
    stats = compiled.memory_analysis()
    made = stats.output_size_in_bytes - stats.alias_size_in_bytes
    return stats.argument_size_in_bytes + stats.temp_size_in_bytes + made


def _check_room(case: Case, planned: int | None, device: jax.Device) -> None:
    free = clock.free_memory(device)
    if planned is not None and free is not None and planned > free:
        raise DoesNotFitError(
            f'{case.name}: expected a program that fits the {free / GIB:.1f} GiB which are free, got one that needs '
            f'{planned / GIB:.1f}; choose smaller sizes of it in the config, or another mesh'
        )


def describe(case: Case, measured: Measured, settings: BenchmarkSettings, mesh: Mesh, found: Ceilings) -> dict:
    """Returns a result's fields: what, in which size, how fast, and how near to the ceilings."""
    seconds = measured.timing.median
    fields: dict[str, Any] = {'what': case.what, 'shape': dict(case.shape), 'dtype': case.dtype}
    if case.what not in CEILINGS:
        fields |= {'model': settings.model.name, 'quantization': settings.model.quantization}
        fields |= {'mesh': {name: size for name, size in mesh.shape.items()}}
    fields |= {
        'rounds': len(measured.timing.seconds),
        'calls_a_round': measured.timing.calls_a_round,
        'seconds': _short(seconds),
        'seconds_spread': [_short(min(measured.timing.seconds)), _short(max(measured.timing.seconds))],
    }
    if case.work.tokens:
        rates = [case.work.tokens / s for s in (max(measured.timing.seconds), min(measured.timing.seconds))]
        fields['tokens_per_second'] = _short(case.work.tokens / seconds)
        fields['tokens_per_second_spread'] = [_short(rate) for rate in rates]
    fields |= {'model_flops': case.work.flops, 'least_bytes': case.work.bytes}
    fields |= {
        'tflops': _short(case.work.flops / seconds / 1e12),
        'gb_per_second': _short(case.work.bytes / seconds / 1e9),
    }
    if case.what in STEPS:
        fields |= _shares(case, seconds, mesh, found)
    return fields | {
        'compile_seconds': None if measured.compile_seconds is None else round(measured.compile_seconds, 2),
        'planned_bytes_a_device': measured.planned_bytes,
        'peak_bytes_a_device': measured.peak_bytes,
    }


def _shares(case: Case, seconds: float, mesh: Mesh, found: Ceilings) -> dict[str, float | None]:
    """Returns MFU against the measured and the published peak, the share of the bandwidth, and of the roofline."""
    peak, bandwidth = ((x and x * mesh.size) for x in (found.flops, found.bandwidth))
    published = metrics.peak_tflops(mesh.devices.flat[0])
    least = None if not (peak and bandwidth) else max(case.work.flops / peak, case.work.bytes / bandwidth)
    return {
        'mfu': peak and _short(case.work.flops / seconds / peak),
        'mfu_convention': 'model FLOPs (warmjax/benchmark/work.py) / measured matrix product of the same dtype',
        'mfu_of_published_peak': published and _short(case.work.flops / seconds / (published * 1e12 * mesh.size)),
        'share_of_bandwidth': bandwidth and _short(case.work.bytes / seconds / bandwidth),
        'roofline_seconds': least and _short(least),
        'measured_peak_tflops': peak and _short(peak / 1e12),
        'measured_gb_per_second': bandwidth and _short(bandwidth / 1e9),
    }


def best(lines: Sequence[Mapping[str, Any]], dtype: str) -> Ceilings:
    """Returns the ceilings in results of one device: the fastest product in a dtype, and the copy of the largest array,
    which no cache holds. Of several measurements of a size, the last counts."""
    products = {str(line['shape']): line for line in lines if line['what'] == 'matmul' and line['dtype'] == dtype}
    copies = {line['shape']['MiB']: line for line in lines if line['what'] == 'hbm'}
    return Ceilings(
        max((line['tflops'] * 1e12 for line in products.values()), default=None),
        copies[max(copies)]['gb_per_second'] * 1e9 if copies else None,
    )


def _short(value: float) -> float:
    return float(f'{value:.4g}')

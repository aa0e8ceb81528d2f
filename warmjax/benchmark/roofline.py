"""The roofline plot: what steps reach, under what the devices were measured to do."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from warmjax.benchmark import measure
from warmjax.benchmark.measure import Ceilings
from warmjax.benchmark.report import Line
from warmjax.report import figures

MARKS = {'train': 'o', 'prefill': 's', 'decode': '^', 'score': 'D'}


def svg(lines: Sequence[Line]) -> str:
    """Draws a panel for each device and dtype that has ceilings and a step: TFLOP/s over model FLOPs a byte.

    Args:
        lines: the results to show (`report.newest`).

    Raises:
        ValueError: there is none.
    """
    panels = _panels(lines)
    if not panels:
        raise ValueError('roofline: expected results of matmul, hbm and a step of one device, got none; measure them')
    return figures.standalone(figures.svg(_figure, 'roofline', panels))


def _figure(panels: Mapping[str, tuple[Ceilings, Sequence[Line]]]) -> Figure:
    figure, axes = figures.panels(len(panels), 2, 4.2)
    for axis, (title, (found, steps)) in zip(axes, panels.items(), strict=True):
        _draw(axis, title, found, steps)
    return figure


def _panels(lines: Sequence[Line]) -> dict[str, tuple[Ceilings, list[Line]]]:
    panels = {}
    for device, dtype in dict.fromkeys((line['device'], line['dtype']) for line in lines if line['what'] in MARKS):
        mine = [line for line in lines if line['device'] == device]
        found = measure.best(mine, dtype)
        steps = [line for line in mine if line['what'] in MARKS and line['dtype'] == dtype]
        if found.flops and found.bandwidth:
            panels[f'{device}, {dtype}'] = found, steps
    return panels


def _draw(axis: Axes, title: str, found: Ceilings, steps: Sequence[Line]) -> None:
    intensity = [line['model_flops'] / line['least_bytes'] for line in steps]
    ridge = found.flops / found.bandwidth
    x = np.geomspace(min(*intensity, ridge) / 4, max(*intensity, ridge) * 4, 200)
    axis.plot(x, np.minimum(found.flops, x * found.bandwidth) / 1e12, color=figures.INK, linewidth=1)
    for what, mark in MARKS.items():
        points = [(at, line) for at, line in zip(intensity, steps, strict=True) if line['what'] == what]
        if points:
            # Of one device, as the ceilings are.
            reached = [line['tflops'] / line['devices'] for _, line in points]
            axis.plot([at for at, _ in points], reached, mark, label=what, alpha=0.8, markersize=6)
    axis.set_xscale('log')
    axis.set_yscale('log')
    axis.set_xlabel('model FLOPs a byte that must be moved')
    axis.set_ylabel('TFLOP/s a device')
    axis.set_title(f'{title}\n{found.flops / 1e12:.3g} TFLOP/s, {found.bandwidth / 1e9:.3g} GB/s, both measured')
    axis.legend(loc='lower right')

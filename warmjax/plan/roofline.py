"""How long a program takes at the least: its products at the chip's peak, its bytes at the memory's and the links'
bandwidth, all three at once."""

from typing import NamedTuple

from warmjax.plan.program import ProgramPlan
from warmjax.plan.topology import Slice


class Seconds(NamedTuple):
    """Of one call, if nothing else took time."""

    compute: float
    memory: float
    network: float

    @property
    def bound(self) -> str:
        """What takes longest."""
        return max(self._fields, key=lambda name: getattr(self, name))


def seconds(plan: ProgramPlan, target: Slice) -> Seconds:
    """Returns the roofline of a program that was compiled."""
    return Seconds(
        plan.flops / (target.chip.peak_tflops * 1e12),
        plan.work.moved_bytes / (target.chip.hbm_bandwidth * 1e9),
        sum(one.sent / (target.bandwidth(one.devices) * 1e9) for one in plan.work.collectives),
    )

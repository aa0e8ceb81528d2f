"""What TPU chips can do, as published: https://cloud.google.com/tpu/docs/v5e, v5p and v6e; links by
https://jax-ml.github.io/scaling-book/tpus. Their peak in matrix products stands in `warmjax.train.metrics`."""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Chip:
    """hbm_gib: memory.
    hbm_bandwidth: GB a second between memory and chip.
    link_bandwidth: GB a second one way over one link to a neighbour.
    """

    hbm_gib: float
    hbm_bandwidth: float
    link_bandwidth: float


CHIPS = {
    'TPU v5 lite': Chip(16, 819, 45),
    'TPU v5': Chip(95, 2765, 90),
    'TPU v6 lite': Chip(32, 1640, 90),
}
"""Device kind, as JAX has it → chip."""


def chip_of(device: jax.Device) -> Chip:
    """Finds the chip of a device.

    Raises:
        ValueError: it is not in the table.
    """
    if device.device_kind not in CHIPS:
        raise ValueError(f'chips: expected one of {", ".join(CHIPS)}, got {device.device_kind!r}; add it to CHIPS')
    return CHIPS[device.device_kind]

"""What chips can do, as published.

TPU: https://cloud.google.com/tpu/docs/v4, v5e, v5p, v6e and tpu7x; links by https://jax-ml.github.io/scaling-book/tpus
and, for TPU7x, its 1,200 GB/s a chip over six links, two ways. GPU: NVIDIA's datasheets of A100 80GB SXM, H100 SXM and
H200 SXM.
"""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device as JAX counts them.

    name: its generation, as prices are given.
    peak_tflops: dense, bfloat16.
    hbm_gib: memory.
    hbm_bandwidth: GB a second between memory and chip.
    link_bandwidth: GB a second one way over one link to a neighbour, or into a GPU's switch.
    wraps_at: a grid's axis of this many chips, or a multiple, is a ring, which doubles what it carries; 0 for none.
    """

    name: str
    peak_tflops: float
    hbm_gib: float
    hbm_bandwidth: float
    link_bandwidth: float
    wraps_at: int


CHIPS = {
    'TPU v4': Chip('v4', 275, 32, 1228, 45, 4),
    'TPU v5 lite': Chip('v5e', 197, 16, 819, 45, 16),
    'TPU v5': Chip('v5p', 459, 95, 2765, 90, 4),
    'TPU v6 lite': Chip('v6e', 918, 32, 1640, 90, 16),
    'TPU7x': Chip('tpu7x', 1153.5, 96, 3690, 100, 4),
}
"""Device kind, as JAX has it → chip. A tpu7x shows as two devices, each with half of the chip's memory."""

GPUS = {
    'a100': Chip('a100', 312, 80, 2039, 300, 0),
    'h100': Chip('h100', 989, 80, 3350, 450, 0),
    'h200': Chip('h200', 989, 141 * 1e9 / 2**30, 4800, 450, 0),
}


def chip_of(device: jax.Device) -> Chip:
    """Finds the chip of a device.

    Raises:
        ValueError: it is not in the table.
    """
    if device.device_kind not in CHIPS:
        raise ValueError(f'chips: expected one of {", ".join(CHIPS)}, got {device.device_kind!r}; add it to CHIPS')
    return CHIPS[device.device_kind]

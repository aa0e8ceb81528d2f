"""Results as the README shows them: what, how fast, how near to the ceilings, and the command that says it again."""

from collections.abc import Mapping
from typing import Any


def outcome(line: Mapping[str, Any]) -> str:
    """Says a result in a few words."""
    parts = [f'{number(line["seconds"] * 1e3)} ms']
    if line['what'] == 'matmul':
        parts.append(f'{number(line["tflops"])} TFLOP/s')
    if line['what'] in ('hbm', 'load'):
        parts.append(f'{number(line["gb_per_second"])} GB/s')
    if 'tokens_per_second' in line:
        parts.append(f'{number(line["tokens_per_second"])} tokens/s')
    parts += [
        f'{label} {line[name]:.1%}'
        for name, label in (('mfu', 'MFU'), ('share_of_bandwidth', 'of the bandwidth'))
        if line.get(name) is not None
    ]
    if line['peak_bytes_a_device'] is not None:
        parts.append(f'{number(line["peak_bytes_a_device"] / 2**20)} MiB at the most')
    return ', '.join(parts)


def number(value: float) -> str:
    """Writes a number with three digits that count: 0.0123, 4.56, 78.9, 1,234."""
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'

"""What a compiled program does in one call on one device, read from its text (HLO): matrix products, bytes moved and
collectives.

XLA's own cost analysis counts the body of a loop once. Here it counts as often as the loop runs; where that depends on
data, the caller says how often. Kernels written by hand (Pallas, cuDNN) stand in the text as a name only and their
products are not counted.
"""

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from warmjax.plan import traffic

COLLECTIVES = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')

_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) .*\{$')
_INSTRUCTION = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][\w\-]*)\((.*)$')
_SHAPE = re.compile(r'\b([a-z]+\d*\w*)\[([\d,]*)\]')
_CALLED = re.compile(r'\b(?:calls|to_apply|called_computations)=\{?%?([\w.\-]+)')
_BRANCHES = re.compile(r'\bbranch_computations=\{([^}]*)\}|\b(?:true|false)_computation=%?([\w.\-]+)')
_GROUPS = re.compile(r'replica_groups=(?:mesh\[([^\]]*)\]\s*\{([^}]*)\}|\[\d+,(\d+)\]<=|\{\{([\d,]+)\})')
_KNOWN_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Collective:
    """kind: one of COLLECTIVES.
    count: how often it is done in a call of the program.
    bytes: of the largest array that it reads or makes on a device, all its calls together.
    largest: those bytes, of the largest single call.
    devices: of the largest group that exchanges.
    sent: bytes that a device sends, its groups arranged as rings (an all-gather to n devices sends (n - 1) / n of what
        it makes, an all-reduce twice that); all its calls together.
    """

    kind: str
    count: int
    bytes: int
    largest: int
    devices: int
    sent: int


@dataclasses.dataclass(frozen=True)
class Work:
    """matmul_flops: of matrix products (and convolutions, as which TPU programs write them), a multiplication and an
        addition each counted.
    moved_bytes: read from and written to memory, on-chip memory left out (`traffic`).
    kept_bytes: the most that a loop over the layers holds of all of them besides what the program is given: what the
        forward pass keeps for the backward pass.
    has_kernels: whether kernels written by hand are in it.
    collectives: by kind, in the order of COLLECTIVES; kinds that do not occur are left out.
    """

    matmul_flops: int
    moved_bytes: int
    kept_bytes: int
    has_kernels: bool
    collectives: tuple[Collective, ...]

    def scaled(self, share: float) -> 'Work':
        """Returns the same products on arrays of fewer bytes."""
        return dataclasses.replace(
            self,
            moved_bytes=round(share * self.moved_bytes),
            kept_bytes=round(share * self.kept_bytes),
            collectives=tuple(
                dataclasses.replace(
                    one,
                    bytes=round(share * one.bytes),
                    largest=round(share * one.largest),
                    sent=round(share * one.sent),
                )
                for one in self.collectives
            ),
        )


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of the text; `rest` is its operands and attributes."""

    name: str
    shape: str
    opcode: str
    rest: str

    def attribute(self, name: str) -> str | None:
        found = re.search(rf'\b{name}=%?([^\s,{{}}]+|\{{[^}}]*\}})', self.rest)
        return found and found.group(1)

    def operands(self) -> list[str]:
        return re.findall(r'%([\w.\-]+)', self.rest.split(')', 1)[0])


Computations = Mapping[str, Mapping[str, Instruction]]
"""Name of a computation → name → instruction."""


def read(text: str, unknown_trips: int, num_layers: int, num_devices: int) -> Work:
    """Counts the work of a compiled program.

    Args:
        text: `jax.stages.Compiled.as_text()`.
        unknown_trips: how often a loop runs whose bound the text does not give.
        num_layers: of the model; arrays with so many entries along their first axis are of all layers.
        num_devices: for which it is compiled.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations, entry = _parse(text)
    if entry is None:
        raise ValueError(f'hlo: expected the text of a compiled program, got {text[:80]!r}; pass compiled.as_text()')
    flops = moved = 0
    calls = collections.defaultdict(dict)
    for instruction, shapes, times, is_fused in _executed(computations, entry, 1, unknown_trips):
        flops += times * _matmul_flops(instruction, shapes)
        kind = instruction.opcode.removesuffix('-start')
        if kind in COLLECTIVES:
            # Pieces of one, each fused with what it overlaps, share its channel; some advance it in an inner loop.
            channel = instruction.attribute('channel_id') or f'of {instruction.name}'
            done, call = calls[kind].get(channel, (times, _Call(0, 0, 0, 0)))
            calls[kind][channel] = min(times, done), max(_call(instruction, shapes, num_devices), call)
        elif not is_fused:
            moved += times * traffic.moved_bytes(instruction, shapes, computations)
    moved += sum(times * call.moved for done in calls.values() for times, call in done.values())
    return Work(
        flops,
        moved,
        traffic.kept_bytes(computations, entry, num_layers),
        'custom_call_target="tpu_custom_call"' in text,
        tuple(_collective(kind, list(calls[kind].values())) for kind in COLLECTIVES if kind in calls),
    )


class _Call(NamedTuple):
    """Bytes of one call of a collective: of its largest array, sent, and moved within the device."""

    largest: int
    devices: int
    sent: int
    moved: int


def _collective(kind: str, calls: list[tuple[int, _Call]]) -> Collective:
    return Collective(
        kind,
        sum(times for times, _ in calls),
        sum(times * call.largest for times, call in calls),
        max(call.largest for _, call in calls),
        max(call.devices for _, call in calls),
        sum(times * call.sent for times, call in calls),
    )


def _call(instruction: Instruction, shapes: Mapping[str, str], num_devices: int) -> _Call:
    arrays = [instruction.shape, *(shapes.get(name, '') for name in instruction.operands())]
    sizes = [array.bytes for array in traffic.arrays(' '.join(arrays))]
    largest = max(sizes, default=0)
    parts = _group_size(instruction, num_devices)
    share = {'all-reduce': 2 * (parts - 1) / parts, 'collective-permute': 1}
    sent = largest * share.get(instruction.opcode.removesuffix('-start'), (parts - 1) / parts)
    moved = sum(array.bytes for array in traffic.arrays(' '.join(arrays)) if not array.is_on_chip)
    return _Call(largest, parts, round(sent), moved)


def _group_size(collective: Instruction, num_devices: int) -> int:
    """Returns how many devices exchange, in any of the three forms in which XLA writes groups down."""
    found = _GROUPS.search(collective.rest)
    if found is None:
        return num_devices
    sizes, axes, columns, first = found.groups()
    if sizes is not None:
        size_of = dict(re.findall(r"'([^']+)'=(\d+)", sizes))
        return max(math.prod(int(size_of[axis]) for axis in re.findall(r"'([^']+)'", axes) if axis in size_of), 1)
    return int(columns) if columns is not None else len(first.split(','))


def _parse(text: str) -> tuple[Computations, str | None]:
    """Returns computation → name → instruction, and the name of the entry."""
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head.group(2), {})
            entry = head.group(2) if head.group(1) else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current[found.group(2)] = Instruction(*found.groups()[1:])
    return computations, entry


def _executed(
    computations: Computations, name: str, times: int, unknown_trips: int, is_fused: bool = False
) -> Iterator[tuple[Instruction, Mapping[str, str], int, bool]]:
    """Yields every instruction under a computation with the shapes beside it, how often it is done, and whether it is
    part of another one (a fusion, a reduction).

    Of a conditional, every branch is counted.
    """
    shapes = {instruction.name: instruction.shape for instruction in computations[name].values()}
    for instruction in computations[name].values():
        yield instruction, shapes, times, is_fused
        inner = _CALLED.findall(instruction.rest)
        inner += [
            branch for pair in _BRANCHES.findall(instruction.rest) for branch in re.findall(r'[\w.\-]+', ''.join(pair))
        ]
        trips, is_part = 1, is_fused or instruction.opcode not in ('call', 'conditional', 'while')
        if instruction.opcode == 'while':
            inner = [instruction.attribute('body')]
            trips = _trips(instruction, computations) or unknown_trips
        for called in inner:
            if called in computations:
                yield from _executed(computations, called, times * trips, unknown_trips, is_part)


def _trips(loop: Instruction, computations: Computations) -> int | None:
    """Returns how often a loop runs: as XLA notes, or by the constant to which its condition compares a counter from 0.

    A counter goes up by more than 1 where XLA has unrolled the loop.
    """
    if noted := _KNOWN_TRIPS.search(loop.rest):
        return int(noted.group(1))
    condition, body = (computations[loop.attribute(name)] for name in ('condition', 'body'))
    for instruction in condition.values():
        if instruction.opcode == 'compare' and 'direction=LT' in instruction.rest:
            counter, bound = instruction.operands()
            if (bound := _constant(condition, bound)) is not None:
                return -(-bound // _increment(condition[counter], body))
    return None


def _increment(counter: Instruction, body: Mapping[str, Instruction]) -> int:
    """Returns by how much the body of a loop raises its counter, an entry of what it is given and returns."""
    returned = list(body.values())[-1].operands()
    raised = body.get(returned[int(counter.attribute('index'))]) if counter.opcode == 'get-tuple-element' else None
    if raised is None or raised.opcode != 'add':
        return 1
    return next((step for name in raised.operands() if (step := _constant(body, name))), 1)


def _constant(computation: Mapping[str, Instruction], name: str) -> int | None:
    found = computation.get(name)
    return int(found.rest.split(')')[0]) if found is not None and found.opcode == 'constant' else None


def _dims(shape: str) -> list[int]:
    found = _SHAPE.search(shape)
    return [int(size) for size in found.group(2).split(',') if size] if found else []


def _matmul_flops(instruction: Instruction, shapes: Mapping[str, str]) -> int:
    if instruction.opcode not in ('dot', 'convolution'):
        return 0
    left, right = (_dims(shapes[name]) for name in instruction.operands()[:2])
    made = _dims(instruction.shape)
    if instruction.opcode == 'dot':
        contracted = re.findall(r'\d+', instruction.attribute('lhs_contracting_dims'))
        return 2 * math.prod(made) * math.prod(left[int(i)] for i in contracted)
    return _convolution_flops(instruction, left, right, made)


def _convolution_flops(convolution: Instruction, left: list[int], right: list[int], made: list[int]) -> int:
    """Counts products with entries that are there, not with padding: a product over a batch becomes, on TPU, a
    convolution that is mostly padding."""
    inputs, kernel, outputs = re.split('_|->', convolution.attribute('dim_labels'))
    window = dict(re.findall(r'(\w+)=(\S+)', (convolution.attribute('window') or '').strip('{}')))
    spatial = sorted(set(inputs) - {'b', 'f'})
    parts = {name: window[name].split('x') if name in window else None for name in window}
    valid = 1
    for i, axis in enumerate(spatial):
        number = {name: int(parts[name][i]) if name in parts else 1 for name in ('stride', 'lhs_dilate', 'rhs_dilate')}
        before = int(parts['pad'][i].split('_')[0]) if 'pad' in parts else 0
        size = left[inputs.index(axis)]
        places = (
            out * number['stride'] - before + tap * number['rhs_dilate']
            for out, tap in itertools.product(range(made[outputs.index(axis)]), range(right[kernel.index(axis)]))
        )
        valid *= sum(
            place % number['lhs_dilate'] == 0 and 0 <= place // number['lhs_dilate'] < size for place in places
        )
    groups = int(convolution.attribute('batch_group_count') or 1)
    channels = right[kernel.index('i')] * made[outputs.index('f')]
    return 2 * valid * channels * left[inputs.index('b')] // groups

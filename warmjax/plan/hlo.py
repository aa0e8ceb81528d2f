"""What a compiled program does in one call on one device, read from its text (HLO): matrix products and collectives.

XLA's own cost analysis counts the body of a loop once. Here it counts as often as the loop runs; where that depends on
data, the caller says how often. Kernels written by hand (Pallas, cuDNN) stand in the text as a name only and are not
counted.
"""

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping

COLLECTIVES = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')

_ITEM_BITS = {'pred': 8, 's4': 4, 'u4': 4} | {f'{sign}{bits}': bits for sign in 'su' for bits in (8, 16, 32, 64)}
_ITEM_BITS |= {'bf16': 16, 'f16': 16, 'f32': 32, 'f64': 64, 'c64': 64, 'c128': 128}

_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) .*\{$')
_INSTRUCTION = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][\w\-]*)\((.*)$')
_SHAPE = re.compile(r'\b([a-z]+\d*\w*)\[([\d,]*)\]')
_CALLED = re.compile(r'\b(?:calls|to_apply|called_computations)=\{?%?([\w.\-]+)')
_BRANCHES = re.compile(r'\bbranch_computations=\{([^}]*)\}|\b(?:true|false)_computation=%?([\w.\-]+)')
_KNOWN_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Collective:
    """kind: one of COLLECTIVES.
    count: how often it is done in a call of the program.
    bytes: of the largest array that it reads or makes on a device, all its calls together.
    largest: those bytes, of the largest single call.
    """

    kind: str
    count: int
    bytes: int
    largest: int


@dataclasses.dataclass(frozen=True)
class Work:
    """matmul_flops: of matrix products (and convolutions, as which TPU programs write them), a multiplication and an
        addition each counted.
    collectives: by kind, in the order of COLLECTIVES; kinds that do not occur are left out.
    """

    matmul_flops: int
    collectives: tuple[Collective, ...]


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    rest: str
    """Operands and attributes."""

    def attribute(self, name: str) -> str | None:
        found = re.search(rf'\b{name}=%?([^\s,{{}}]+|\{{[^}}]*\}})', self.rest)
        return found and found.group(1)

    def operands(self) -> list[str]:
        return re.findall(r'%([\w.\-]+)', self.rest.split(')', 1)[0])


def read(text: str, unknown_trips: int) -> Work:
    """Counts the work of a compiled program.

    Args:
        text: `jax.stages.Compiled.as_text()`.
        unknown_trips: how often a loop runs whose bound the text does not give.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations, entry = _parse(text)
    if entry is None:
        raise ValueError(f'hlo: expected the text of a compiled program, got {text[:80]!r}; pass compiled.as_text()')
    flops, calls = 0, collections.defaultdict(dict)
    for instruction, shapes, times in _executed(computations, entry, 1, unknown_trips):
        flops += times * _matmul_flops(instruction, shapes)
        kind = instruction.opcode.removesuffix('-start')
        if kind in COLLECTIVES:
            # Pieces of one, each fused with what it overlaps, share its channel; some advance it in an inner loop.
            channel = instruction.attribute('channel_id') or f'of {instruction.name}'
            done, size = calls[kind].get(channel, (times, 0))
            calls[kind][channel] = min(times, done), max(_largest_bytes(instruction, shapes), size)
    return Work(
        flops,
        tuple(
            Collective(
                kind,
                sum(times for times, _ in calls[kind].values()),
                sum(times * size for times, size in calls[kind].values()),
                max(size for _, size in calls[kind].values()),
            )
            for kind in COLLECTIVES
            if kind in calls
        ),
    )


def _parse(text: str) -> tuple[dict[str, dict[str, _Instruction]], str | None]:
    """Returns computation → name → instruction, and the name of the entry."""
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head.group(2), {})
            entry = head.group(2) if head.group(1) else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current[found.group(2)] = _Instruction(*found.groups()[1:])
    return computations, entry


def _executed(
    computations: Mapping[str, Mapping[str, _Instruction]], name: str, times: int, unknown_trips: int
) -> Iterator[tuple[_Instruction, Mapping[str, str], int]]:
    """Yields every instruction under a computation with the shapes beside it and how often it is done.

    Of a conditional, every branch is counted.
    """
    shapes = {instruction.name: instruction.shape for instruction in computations[name].values()}
    for instruction in computations[name].values():
        yield instruction, shapes, times
        inner = _CALLED.findall(instruction.rest)
        inner += [
            branch for pair in _BRANCHES.findall(instruction.rest) for branch in re.findall(r'[\w.\-]+', ''.join(pair))
        ]
        trips = 1
        if instruction.opcode == 'while':
            inner = [instruction.attribute('body')]
            trips = _trips(instruction, computations) or unknown_trips
        for called in inner:
            if called in computations:
                yield from _executed(computations, called, times * trips, unknown_trips)


def _trips(loop: _Instruction, computations: Mapping[str, Mapping[str, _Instruction]]) -> int | None:
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


def _increment(counter: _Instruction, body: Mapping[str, _Instruction]) -> int:
    """Returns by how much the body of a loop raises its counter, an entry of what it is given and returns."""
    returned = list(body.values())[-1].operands()
    raised = body.get(returned[int(counter.attribute('index'))]) if counter.opcode == 'get-tuple-element' else None
    if raised is None or raised.opcode != 'add':
        return 1
    return next((step for name in raised.operands() if (step := _constant(body, name))), 1)


def _constant(computation: Mapping[str, _Instruction], name: str) -> int | None:
    found = computation.get(name)
    return int(found.rest.split(')')[0]) if found is not None and found.opcode == 'constant' else None


def _dims(shape: str) -> list[int]:
    found = _SHAPE.search(shape)
    return [int(size) for size in found.group(2).split(',') if size] if found else []


def _largest_bytes(instruction: _Instruction, shapes: Mapping[str, str]) -> int:
    arrays = [instruction.shape, *(shapes.get(name, '') for name in instruction.operands())]
    return max(
        math.prod(int(size) for size in dims.split(',') if size) * _ITEM_BITS.get(kind, 8) // 8
        for kind, dims in _SHAPE.findall(' '.join(arrays))
    )


def _matmul_flops(instruction: _Instruction, shapes: Mapping[str, str]) -> int:
    if instruction.opcode not in ('dot', 'convolution'):
        return 0
    left, right = (_dims(shapes[name]) for name in instruction.operands()[:2])
    made = _dims(instruction.shape)
    if instruction.opcode == 'dot':
        contracted = re.findall(r'\d+', instruction.attribute('lhs_contracting_dims'))
        return 2 * math.prod(made) * math.prod(left[int(i)] for i in contracted)
    return _convolution_flops(instruction, left, right, made)


def _convolution_flops(convolution: _Instruction, left: list[int], right: list[int], made: list[int]) -> int:
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

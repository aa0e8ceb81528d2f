"""Bytes that the instructions of a compiled program read from and write to a device's memory.

What XLA fuses stays on the chip, and so does what the text places there (`S(1)` in a layout of a TPU program). Of an
array that is only sliced, the slice counts; of one that is updated in place, the update.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from warmjax.plan.hlo import Computations, Instruction

_ITEM_BITS = {'pred': 8, 's4': 4, 'u4': 4} | {f'{sign}{bits}': bits for sign in 'su' for bits in (8, 16, 32, 64)}
_ITEM_BITS |= {'bf16': 16, 'f16': 16, 'f32': 32, 'f64': 64, 'c64': 64, 'c128': 128}

_ARRAY = re.compile(r'\b([a-z]+\d*\w*)\[([\d,]*)\](\{[^{}]*\})?')

_SLICES = ('dynamic-slice', 'slice', 'gather')
_UPDATES = {'dynamic-update-slice': 1, 'scatter': 2}
"""What changes an array in place → which operand is put into it."""
_FREE = ('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional', 'call', 'iota')
_FREE += ('after-all', 'partition-id', 'replica-id', 'opt-barrier', 'copy-done', 'slice-done', 'async-done', 'reshape')
_NAMES_ONLY = ('ConcatBitcast', 'AllocateBuffer', 'AssumeGatherIndicesInBound')
"""Custom calls of TPU programs that move nothing."""


class Array(NamedTuple):
    """An array in the text: entries along each axis, bytes, and whether it lies on the chip."""

    dims: tuple[int, ...]
    bytes: int
    is_on_chip: bool


def arrays(shape: str) -> Iterator[Array]:
    """Yields the arrays that a shape names, those of a tuple one after the other."""
    for kind, dims, layout in _ARRAY.findall(shape):
        sizes = tuple(int(size) for size in dims.split(',') if size)
        yield Array(sizes, math.prod(sizes) * _ITEM_BITS.get(kind, 8) // 8, 'S(' in layout)


def moved_bytes(instruction: 'Instruction', shapes: Mapping[str, str], computations: 'Computations') -> int:
    """Returns what an instruction that is part of no other moves; collectives are left to the caller.

    Args:
        shapes: of the instructions beside it, by name.
    """
    if instruction.opcode in _FREE or any(f'"{name}"' in instruction.rest for name in _NAMES_ONLY):
        return 0
    given = [shapes.get(name, '') for name in instruction.operands()]
    if instruction.opcode in _SLICES:
        return 2 * _bytes(instruction.shape)
    if instruction.opcode in _UPDATES:
        return 2 * _bytes(given[_UPDATES[instruction.opcode]])
    if instruction.opcode in ('copy-start', 'slice-start'):
        size = min((array.bytes for array in arrays(instruction.shape) if array.dims), default=0)
        return size * sum(not array.is_on_chip for array in arrays(instruction.shape) if array.dims)
    if instruction.opcode == 'fusion':
        return _fused_bytes(instruction.attribute('calls'), instruction.shape, given, computations)
    return _bytes(instruction.shape) + sum(map(_bytes, given))


def kept_bytes(computations: 'Computations', entry: str, num_layers: int) -> int:
    """Returns the most bytes that a loop carries of all layers and that are not the program's own arguments."""
    given = {
        array.dims
        for instruction in computations[entry].values()
        if instruction.opcode == 'parameter'
        for array in arrays(instruction.shape)
    }
    sums = [
        sum(
            array.bytes
            for array in arrays(instruction.shape)
            if array.dims[:1] == (num_layers,) and array.dims not in given and not array.is_on_chip
        )
        for computation in computations.values()
        for instruction in computation.values()
        if instruction.opcode == 'while'
    ]
    return max(sums, default=0)


def _bytes(shape: str) -> int:
    return sum(array.bytes for array in arrays(shape) if not array.is_on_chip)


def _fused_bytes(name: str, made: str, given: Sequence[str], computations: 'Computations') -> int:
    """Returns what a fusion reads and writes; pieces of collectives in it are left out."""
    fused = computations[name]
    read = sum(_read_bytes(name, i, computations) for i, shape in enumerate(given) if _bytes(shape))
    root = list(fused.values())[-1]
    roots = [fused[source] for source in root.operands()] if root.opcode == 'tuple' else [root]
    return read + sum(_written_bytes(source, array, fused) for source, array in zip(roots, arrays(made)))


def _read_bytes(computation: str, index: int, computations: 'Computations') -> int:
    """Returns what is read of an array that a fused computation is given as its parameter `index`."""
    fused = computations[computation]
    start = next((x for x in fused.values() if x.opcode == 'parameter' and x.rest.startswith(f'{index})')), None)
    if start is None:
        return 0
    whole, read, names = sum(array.bytes for array in arrays(start.shape)), 0, [start.name]
    while names:
        name = names.pop()
        for use in fused.values():
            places = [i for i, operand in enumerate(use.operands()) if operand == name]
            if not places or _is_piece(use) or use.opcode in ('tuple', 'get-tuple-element'):
                continue
            if use.opcode == 'bitcast':
                names.append(use.name)
            elif use.opcode == 'fusion':
                read += sum(_read_bytes(use.attribute('calls'), i, computations) for i in places)
            elif use.opcode in _SLICES and places == [0]:
                read += sum(array.bytes for array in arrays(use.shape))
            elif use.opcode not in _UPDATES or places != [0]:
                return whole
    return min(read, whole)


def _written_bytes(source: 'Instruction', made: Array, fused: Mapping[str, 'Instruction']) -> int:
    while source.opcode in ('bitcast', 'get-tuple-element'):
        source = fused[source.operands()[0]]
    if made.is_on_chip or _is_piece(source) or source.opcode == 'parameter':
        return 0
    if source.opcode in _UPDATES:
        return sum(array.bytes for array in arrays(fused[source.operands()[_UPDATES[source.opcode]]].shape))
    return made.bytes


def _is_piece(instruction: 'Instruction') -> bool:
    """Tells whether an instruction is part of a collective that is spread over several fusions."""
    kinds = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')
    return instruction.opcode.startswith(kinds) or '"AsyncCollective' in instruction.rest

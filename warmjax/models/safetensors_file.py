"""Reads safetensors files by their header and a memory map, so that no tensor is copied before its device asks for it.

Format: 8 bytes little-endian header length, that many bytes of JSON (name → dtype, shape, data_offsets), then the data
(https://github.com/huggingface/safetensors, "Format").
"""

import dataclasses
import json
import math
import pathlib
import struct

import ml_dtypes
import numpy as np
from etils import epath

DTYPES = {
    'F64': np.float64,
    'F32': np.float32,
    'F16': np.float16,
    'BF16': ml_dtypes.bfloat16,
    'I64': np.int64,
    'I32': np.int32,
    'U8': np.uint8,
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where one tensor lies: `start` is its first byte, counted from the beginning of the file."""

    path: epath.Path
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """Returns the tensor: a view of a memory map for a local file, a copy of its byte range for a remote one."""
        if '://' not in str(self.path):
            data = np.memmap(pathlib.Path(self.path), np.uint8, 'r', self.start, (self.num_bytes,))
        else:
            with self.path.open('rb') as file:
                file.seek(self.start)
                data = np.frombuffer(file.read(self.num_bytes), np.uint8)
        return data.view(self.dtype).reshape(self.shape)


def read_header(path: epath.PathLike) -> dict[str, Entry]:
    """Reads the tensors' places from a file's header.

    Raises:
        ValueError: the file is no safetensors file, has been cut short, or holds a type that is not in DTYPES.
    """
    path = epath.Path(path)
    size = path.stat().length
    with path.open('rb') as file:
        prefix = file.read(8)
        length = struct.unpack('<Q', prefix)[0] if len(prefix) == 8 else size
        if 8 + length > size:
            raise ValueError(
                f'{path}: expected a safetensors file, got {size} bytes that end in the header; fetch it again'
            )
        try:
            header = json.loads(file.read(length))
            header.pop('__metadata__', None)
            entries = {name: _entry(path, name, fields, 8 + length) for name, fields in header.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f'{path}: expected a safetensors header, got {type(error).__name__}: {error}; fetch the file again'
            ) from None
    end = max((entry.start + entry.num_bytes for entry in entries.values()), default=8 + length)
    if end > size:
        raise ValueError(f'{path}: expected {end} bytes, got {size}: the file has been cut short; fetch it again')
    return entries


def _entry(path: epath.Path, name: str, fields: dict, data_start: int) -> Entry:
    if fields['dtype'] not in DTYPES:
        raise ValueError(f'tensor {name!r} of dtype {fields["dtype"]!r}, not one of {sorted(DTYPES)}')
    start, end = fields['data_offsets']
    entry = Entry(path, np.dtype(DTYPES[fields['dtype']]), tuple(fields['shape']), data_start + start)
    if start < 0 or entry.num_bytes != end - start:
        raise ValueError(f'tensor {name!r} of shape {entry.shape}, which does not fill its {end - start} bytes')
    return entry

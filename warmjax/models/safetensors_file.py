"""Reads safetensors files by byte ranges, so that only what a device needs leaves the disk, and writes them in order.

Format: 8 bytes little-endian header length, that many bytes of JSON (name → dtype, shape, data_offsets), then the data
(https://github.com/huggingface/safetensors, "Format").
"""

import dataclasses
import json
import math
import os
import struct
import threading
from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np
from etils import epath

from warmjax import runs

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
        """Reads the whole tensor."""
        whole = aligned(self.shape, self.dtype)
        self.read_into(whole, 0)
        return whole

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """Reads rows [start, stop) of axis 0."""
        rows = aligned((stop - start, *self.shape[1:]), self.dtype)
        self.read_into(rows, start)
        return rows

    def read_into(self, rows: np.ndarray, start: int) -> None:
        """Fills `rows`, a contiguous array of this dtype, with those from `start` on, in one request.

        Raises:
            ValueError: the file ends before.
        """
        buffer = rows.reshape(-1).view(np.uint8)
        offset = self.start + start * math.prod(self.shape[1:]) * self.dtype.itemsize
        read = _read_local if runs.is_local(self.path) else _read_remote
        if (got := read(self.path, offset, buffer)) != len(buffer):
            raise ValueError(
                f'{self.path}: expected {len(buffer)} bytes at {offset}, got {got}; is somebody writing the file? '
                'Load it again'
            )
        READ.add(got)


class ByteCounter:
    """Counts bytes, from several threads."""

    def __init__(self):
        self.total = 0
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self.total += number


READ = ByteCounter()
"""Bytes of tensors that this process has read, headers not counted."""


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


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns an uninitialised array that starts at a multiple of 64 bytes: a CPU device takes it over uncopied."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + 64, np.uint8)
    skip = -buffer.ctypes.data % 64
    return buffer[skip : skip + size].view(dtype).reshape(shape)


def write(
    path: epath.PathLike, tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]], data: Iterable[np.ndarray]
) -> None:
    """Writes a file, tensor by tensor: `data` yields them in the order of `tensors`, one on the host at a time."""
    codes = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
    header, end = {'__metadata__': {'format': 'pt'}}, 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {'dtype': codes[np.dtype(dtype)], 'shape': list(shape), 'data_offsets': [start, end]}
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 64 + 56)  # with the 8 bytes before it, so that the data begins at a multiple of 64
    with epath.Path(path).open('wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for (name, (dtype, shape)), array in zip(tensors.items(), data, strict=True):
            if (array.dtype, array.shape) != (np.dtype(dtype), shape):
                raise RuntimeError(f'{path}: {name} announced as {dtype} {shape}, got {array.dtype} {array.shape}')
            file.write(np.ascontiguousarray(array).view(np.uint8).data)


def _entry(path: epath.Path, name: str, fields: dict, data_start: int) -> Entry:
    if fields['dtype'] not in DTYPES:
        raise ValueError(f'tensor {name!r} of dtype {fields["dtype"]!r}, not one of {sorted(DTYPES)}')
    start, end = fields['data_offsets']
    entry = Entry(path, np.dtype(DTYPES[fields['dtype']]), tuple(fields['shape']), data_start + start)
    if start < 0 or entry.num_bytes != end - start:
        raise ValueError(f'tensor {name!r} of shape {entry.shape}, which does not fill its {end - start} bytes')
    return entry


def _read_local(path: epath.Path, start: int, buffer: np.ndarray) -> int:
    """Fills the buffer from a position of a file; one call of the system reads at most 2 GiB. Returns bytes read."""
    done = 0
    file = os.open(path, os.O_RDONLY)
    try:
        while got := os.preadv(file, [memoryview(buffer)[done:]], start + done):
            done += got
    finally:
        os.close(file)
    return done


def _read_remote(path: epath.Path, start: int, buffer: np.ndarray) -> int:
    with path.open('rb') as file:
        file.seek(start)
        data = file.read(len(buffer))
    buffer[: len(data)] = np.frombuffer(data, np.uint8)
    return len(data)

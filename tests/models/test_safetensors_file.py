import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from warmjax.models.safetensors_file import read_header

TENSORS = {
    'a': np.arange(6, dtype=np.float32).reshape(2, 3),
    'b': np.array([1.5, -2.0, 0.25], ml_dtypes.bfloat16),
    'c': np.array([[7], [9]], np.int64),
    'd': np.array(3.0, np.float16),
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'model.safetensors'
    safetensors.numpy.save_file(TENSORS, path, metadata={'format': 'pt'})
    return path


def with_header(path, header) -> None:
    """Writes a file with a header of our own and 64 bytes of data."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(data)) + data + bytes(64))


def test_every_tensor_is_read_as_the_library_wrote_it(file):
    entries = read_header(file)
    assert set(entries) == set(TENSORS)
    for name, tensor in TENSORS.items():
        read = entries[name].read()
        assert read.dtype == tensor.dtype
        np.testing.assert_array_equal(read, tensor)


@given(
    tensors=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != '__metadata__'),
        hnp.arrays(st.sampled_from([np.float32, np.float64, np.int32, np.uint8]), hnp.array_shapes(max_side=4)),
        min_size=1,
        max_size=4,
    )
)
def test_reading_inverts_the_librarys_writing(tmp_path_factory, tensors):
    path = tmp_path_factory.mktemp('property') / 'x.safetensors'
    safetensors.numpy.save_file(tensors, path)
    entries = read_header(path)
    assert set(entries) == set(tensors)
    for name, tensor in tensors.items():
        assert entries[name].read().tobytes() == tensor.tobytes()
        assert entries[name].shape == tensor.shape


@pytest.mark.parametrize('lost', [1, 20])
def test_truncated_data_is_reported_with_both_sizes(file, lost):
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-lost])
    with pytest.raises(ValueError, match=f'expected {size} bytes, got {size - lost}: the file has been cut short'):
        read_header(file)


@pytest.mark.parametrize('kept', [0, 5, 8, 40])
def test_truncated_header_is_reported(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f'expected a safetensors file, got {kept} bytes that end in the header'):
        read_header(file)


@pytest.mark.parametrize(
    'content', [b'PK\x03\x04' + bytes(range(60)), b'<!DOCTYPE html><html>not found</html>', b'version https://git-lfs']
)
def test_file_of_another_format_is_reported(tmp_path, content):
    path = tmp_path / 'model.safetensors'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'model\.safetensors: expected a safetensors (file|header)'):
        read_header(path)


@pytest.mark.parametrize(
    ('header', 'message'),
    [
        (b'{"a": ', 'Expecting value'),
        (b'\xff\xfe\xfd', 'UnicodeDecodeError'),
        ([1, 2], 'expected a safetensors header'),
        ({'a': [1]}, 'expected a safetensors header'),
        ({'a': {'dtype': 'F32', 'shape': [2]}}, "KeyError: 'data_offsets'"),
        (
            {'a': {'dtype': 'F8_E4M3', 'shape': [2], 'data_offsets': [0, 2]}},
            "'a' of dtype 'F8_E4M3', not one of",
        ),
        ({'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 12]}}, "'a' of shape .* does not fill its 12 bytes"),
        ({'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [-8, 0]}}, 'does not fill its 8 bytes'),
        ({'a': {'dtype': 'F32', 'shape': [99], 'data_offsets': [0, 396]}}, 'the file has been cut short'),
    ],
)
def test_damaged_header_is_reported(tmp_path, header, message):
    path = tmp_path / 'model.safetensors'
    with_header(path, header)
    with pytest.raises(ValueError, match=message):
        read_header(path)

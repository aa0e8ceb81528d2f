"""Slices of TPUs, for which libtpu compiles on this machine."""

import pytest

from warmjax import sharding
from warmjax.plan import topology
from warmjax.plan.chips import chip_of
from warmjax.sharding import MeshSettings

pytestmark = pytest.mark.skipif(
    not topology.is_available(), reason="libtpu is not installed: pip install 'warmjax[tpu]'"
)


@pytest.mark.parametrize('name, count, memory', [('v5e:2x4', 8, 16), ('v5p:2x2x2', 8, 95), ('v6e:2x2', 4, 32)])
def test_slice_has_its_chips(name, count, memory):
    devices = topology.devices(name)
    assert len(devices) == count
    assert chip_of(devices[0]).hbm_gib == memory


@pytest.mark.parametrize('name', ['v5e:4x4', 'v6e:4x4', 'v4:4x2x1'])
def test_every_mesh_can_be_laid_on_a_slice(name):
    """2 x 8 splits an axis of 4 x 4 chips, which jax does by itself for v5e alone."""
    devices = topology.find(name).devices
    mesh = sharding.make_mesh(MeshSettings(len(devices) // 8, 1, 8), devices)
    assert sorted(device.id for device in mesh.devices.flat) == sorted(device.id for device in devices)
    assert mesh.devices.shape == (len(devices) // 8, 1, 8)


@pytest.mark.parametrize('name', ['v5e:3x7', 'h200:8'])
def test_slice_that_is_not_made_is_refused(name):
    with pytest.raises(ValueError, match='expected a generation and a grid of chips, as v5e:2x4'):
        topology.devices(name)

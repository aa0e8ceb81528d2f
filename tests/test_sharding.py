import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from warmjax import sharding
from warmjax.sharding import MeshSettings


@pytest.mark.parametrize(
    ('sizes', 'shape'),
    [((2, 2, 2), (2, 2, 2)), ((-1, 2, 2), (2, 2, 2)), ((1, -1, 1), (1, 8, 1)), ((8, 1, -1), (8, 1, 1))],
)
def test_mesh_has_the_sizes_asked_for_and_fills_in_the_rest(sizes, shape):
    mesh = sharding.make_mesh(MeshSettings(*sizes))
    assert tuple(mesh.shape[name] for name in ('data', 'fsdp', 'tensor')) == shape


@pytest.mark.parametrize('sizes', [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 8, 1), (-1, 0, 1), (-2, -4, 1), (16, 1, 1)])
def test_sizes_that_do_not_make_the_devices_are_refused(sizes):
    with pytest.raises(ValueError, match=r'config\.mesh: expected data x fsdp x tensor to make the 8 devices'):
        sharding.make_mesh(MeshSettings(*sizes))


def test_partition_follows_the_table():
    assert sharding.partition(('layers', 'embed', 'heads')) == PartitionSpec(None, 'fsdp', 'tensor')
    assert sharding.partition(('batch', None)) == PartitionSpec(('data', 'fsdp'), None)


def test_unknown_axis_is_refused_by_name():
    with pytest.raises(ValueError, match=r"expected logical axes of \[.*'embed'.*\], got \['width'\]"):
        sharding.partition(('width', 'embed'))


@pytest.mark.parametrize('axes', [('heads', 'mlp'), ('batch', 'embed')])
def test_two_axes_on_one_mesh_axis_are_refused(axes):
    with pytest.raises(ValueError, match='expected every mesh axis once'):
        sharding.partition(axes)


def test_dimension_that_does_not_divide_is_refused_with_its_place():
    mesh = sharding.make_mesh(MeshSettings(1, 4, 2))
    with pytest.raises(ValueError, match="embed_tokens: expected axis 'vocab' of size 97 to be cut into 2 equal parts"):
        sharding.named(mesh, ('vocab', 'embed'), (97, 24), 'embed_tokens')


def test_batch_is_cut_over_data_and_fsdp_along_its_own_axis():
    mesh = sharding.make_mesh(MeshSettings(2, 2, 2))
    x = np.arange(3 * 8 * 5, dtype=np.float32).reshape(3, 8, 5)
    placed = sharding.put_batch({'x': x}, mesh, batch_axis=1)['x']
    assert {shard.data.shape for shard in placed.addressable_shards} == {(3, 2, 5)}
    np.testing.assert_array_equal(placed, x)


def test_batch_that_does_not_divide_is_refused_by_name():
    mesh = sharding.make_mesh(MeshSettings(4, 2, 1))
    with pytest.raises(ValueError, match=r"batch 'tokens': expected axis 'batch' of size 6 to be cut into 8"):
        sharding.put_batch({'tokens': np.zeros((6, 3))}, mesh)


def test_replicate_puts_the_whole_array_on_every_device():
    mesh = sharding.make_mesh(MeshSettings(2, 2, 2))
    (x,) = sharding.replicate([np.arange(6.0)], mesh)
    assert len(x.addressable_shards) == 8
    assert all(shard.data.shape == (6,) for shard in x.addressable_shards)


def test_constrain_without_a_mesh_returns_its_argument():
    x = np.ones((3, 2))
    assert sharding.constrain(x, 'batch', None) is x


def test_constrain_lays_an_activation_out_over_the_mesh():
    mesh = sharding.make_mesh(MeshSettings(2, 2, 2))
    with jax.set_mesh(mesh):
        y = jax.jit(lambda x: sharding.constrain(x + 1, 'batch', None))(np.zeros((8, 3)))
    assert {shard.data.shape for shard in y.addressable_shards} == {(2, 3)}

import jax.numpy as jnp
import numpy as np
import pytest

from warmjax.models import cache as kv

L, B, T, K, H, SLOTS = 3, 2, 4, 2, 5, 7


def filled(unroll: bool) -> tuple[kv.Cache, np.ndarray, np.ndarray]:
    keys, values = np.random.default_rng(0).normal(size=(2, L, B, T, K, H)).astype(np.float32)
    return kv.fill(jnp.asarray(keys), jnp.asarray(values), jnp.array([2, 0]), SLOTS, unroll), keys, values


@pytest.mark.parametrize('unroll', [False, True])
def test_prompt_fills_the_first_slots_and_leaves_room(unroll):
    cache, keys, values = filled(unroll)
    assert cache.is_unrolled is unroll
    for layer in range(L):
        assert cache.keys[layer].shape == (B, K, H, SLOTS)
        np.testing.assert_array_equal(cache.keys[layer][..., :T], keys[layer].transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(cache.values[layer][..., :T, :], values[layer].transpose(0, 2, 1, 3))
        assert not cache.keys[layer][..., T:].any() and not cache.values[layer][..., T:, :].any()


@pytest.mark.parametrize('unroll', [False, True])
def test_next_token_sees_its_rows_tokens_and_itself(unroll):
    cache, _, _ = filled(unroll)
    expected = [[0, 0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0, 0]]
    np.testing.assert_array_equal(cache.seen(), np.array(expected, bool))
    np.testing.assert_array_equal(cache.positions(), [2, 4])
    moved = cache.advance(cache.keys, cache.values)
    np.testing.assert_array_equal(moved.seen().sum(axis=-1), [4, 6])
    np.testing.assert_array_equal(moved.positions(), [3, 5])


def test_write_changes_one_slot_of_one_layer():
    cache, _, _ = filled(False)
    k, v = np.random.default_rng(1).normal(size=(2, B, K, H)).astype(np.float32)
    keys, values = kv.write(cache.keys, cache.values, k, v, jnp.int32(5), jnp.int32(1))
    np.testing.assert_array_equal(keys[1, ..., 5], k)
    np.testing.assert_array_equal(values[1, ..., 5, :], v)
    np.testing.assert_array_equal(keys.at[1, ..., 5].set(0), cache.keys)
    np.testing.assert_array_equal(values.at[1, ..., 5, :].set(0), cache.values)


def test_write_to_a_layer_of_its_own_equals_the_stacked_write():
    (stacked, _, _), (apart, _, _) = filled(False), filled(True)
    k, v = np.random.default_rng(1).normal(size=(2, B, K, H)).astype(np.float32)
    both = kv.write(stacked.keys, stacked.values, k, v, jnp.int32(4), jnp.int32(2))
    one = kv.write(apart.keys[2], apart.values[2], k, v, jnp.int32(4), None)
    np.testing.assert_array_equal(one[0], both[0][2])
    np.testing.assert_array_equal(one[1], both[1][2])

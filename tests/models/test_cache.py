import jax
import jax.numpy as jnp
import numpy as np
import pytest

from warmjax.models import cache as kv

L, B, T, K, H, SLOTS = 3, 2, 4, 2, 5, 7


def filled(unroll: bool) -> tuple[kv.Cache, np.ndarray, np.ndarray]:
    keys, values = np.random.default_rng(0).normal(size=(2, L, B, T, K, H)).astype(np.float32)
    cache = kv.fill(jnp.asarray(keys), jnp.asarray(values), jnp.array([2, 4]), jnp.float32, unroll)
    return kv.grow(cache, SLOTS), keys, values


@pytest.mark.parametrize('unroll', [False, True])
def test_prompt_fills_the_first_slots_and_leaves_room(unroll):
    cache, keys, values = filled(unroll)
    assert cache.is_unrolled is unroll and cache.num_slots == SLOTS
    for layer in range(L):
        assert cache.keys[layer].shape == (B, K, H, SLOTS)
        np.testing.assert_array_equal(cache.keys[layer][..., :T], keys[layer].transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(cache.values[layer][..., :T, :], values[layer].transpose(0, 2, 1, 3))
        assert not cache.keys[layer][..., T:].any() and not cache.values[layer][..., T:, :].any()


@pytest.mark.parametrize('unroll', [False, True])
def test_next_token_sees_its_rows_tokens_and_itself(unroll):
    cache, _, _ = filled(unroll)
    np.testing.assert_array_equal(cache.seen(), np.array([[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0]], bool))
    moved = cache.advance(cache.keys, cache.values)
    np.testing.assert_array_equal(moved.seen().sum(axis=-1), [4, 6])
    np.testing.assert_array_equal(moved.lengths, [3, 5])


def test_write_changes_one_slot_a_row_of_one_layer_and_none_beyond_the_last():
    cache, _, _ = filled(False)
    k, v = np.random.default_rng(1).normal(size=(2, B, K, H)).astype(np.float32)
    keys, values = kv.write(cache.keys, cache.values, k, v, jnp.array([5, SLOTS]), jnp.int32(1))
    np.testing.assert_array_equal(keys[1, 0, ..., 5], k[0])
    np.testing.assert_array_equal(values[1, 0, :, 5], v[0])
    np.testing.assert_array_equal(keys.at[1, 0, ..., 5].set(0), cache.keys)
    np.testing.assert_array_equal(values.at[1, 0, :, 5].set(0), cache.values)


def test_write_to_a_layer_of_its_own_equals_the_stacked_write():
    (stacked, _, _), (apart, _, _) = filled(False), filled(True)
    k, v = np.random.default_rng(1).normal(size=(2, B, K, H)).astype(np.float32)
    both = kv.write(stacked.keys, stacked.values, k, v, jnp.array([4, 6]), jnp.int32(2))
    one = kv.write(apart.keys[2], apart.values[2], k, v, jnp.array([4, 6]), None)
    np.testing.assert_array_equal(one[0], both[0][2])
    np.testing.assert_array_equal(one[1], both[1][2])


@pytest.mark.parametrize('unroll', [False, True])
def test_row_of_another_cache_takes_a_rows_place_and_nothing_of_it_stays(unroll):
    """What was not finite would stay so even where it is not seen: its weight of zero does not hide it."""
    cache, keys, values = filled(unroll)
    ruined = kv.zeros(L, 3, K, H, SLOTS, jnp.float32, unroll)
    ruined = jax.tree.map(lambda x: x + jnp.nan if x.ndim > 1 else x + 9, ruined)
    small = kv.fill(jnp.asarray(keys), jnp.asarray(values), jnp.array([2, 4]), jnp.float32, unroll)
    got = kv.put_row(ruined, jnp.int32(2), small, jnp.int32(1))
    np.testing.assert_array_equal(got.lengths, [9, 9, 4])
    for layer in range(L):
        np.testing.assert_array_equal(got.keys[layer][2], cache.keys[layer][1])
        np.testing.assert_array_equal(got.values[layer][2], cache.values[layer][1])
        assert np.isnan(got.keys[layer][:2]).all() and np.isnan(got.values[layer][:2]).all()


@pytest.mark.parametrize('unroll', [False, True])
def test_int8_rounds_every_head_of_every_token_to_a_254th_of_its_own_range(unroll):
    _, keys, values = filled(unroll)
    keys[0, 0, 0, 0] *= 1e3
    values[0, 0, 1, 0] = 0
    lengths = jnp.array([2, 4])
    exact, rounded = (
        kv.fill(jnp.asarray(keys), jnp.asarray(values), lengths, d, unroll) for d in ('float32', jnp.int8)
    )
    for got, expected, axis in ((rounded.keys, exact.keys, 1), (rounded.values, exact.values, -1)):
        for layer in range(L):
            mine, theirs = kv.decode(got[layer] if unroll else kv.layer(got, layer), jnp.float32), expected[layer]
            largest = np.abs(theirs).max(axis=2 if axis == 1 else -1, keepdims=True)
            assert (np.abs(mine - theirs) <= largest / 254 + 1e-7).all() and (mine != theirs).any()
    assert rounded.dtype == jnp.int8 and kv.grow(rounded, SLOTS).num_slots == SLOTS


def test_int8_tokens_that_are_written_equal_those_that_fill():
    _, keys, values = filled(False)
    whole = kv.fill(jnp.asarray(keys), jnp.asarray(values), jnp.array([4, 4]), jnp.int8, True)
    begun = kv.grow(
        kv.fill(jnp.asarray(keys[:, :, :3]), jnp.asarray(values[:, :, :3]), jnp.array([3, 3]), jnp.int8, True), 4
    )
    got = kv.write(begun.keys[1], begun.values[1], keys[1, :, 3], values[1, :, 3], begun.lengths, None)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves((whole.keys[1], whole.values[1])), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_attention_over_int8_equals_attention_over_what_it_stands_for():
    q, k, v, seen, lengths = attention_case(320)
    k, v = kv.encode(k, -2, jnp.int8), kv.encode(v, -1, jnp.int8)
    exact = kv.attend(q, *(kv.decode(x, jnp.float32) for x in (k, v)), seen, jnp.asarray(lengths), 50)
    np.testing.assert_allclose(kv.attend(q, k, v, seen, jnp.asarray(lengths), 50), exact, atol=1e-5)


def test_row_that_sees_no_slot_stays_finite():
    q, k, v = jnp.ones((1, 4, 3)), jnp.ones((1, 2, 3, 5)), jnp.ones((1, 2, 5, 3))
    assert np.isfinite(kv.attend(q, k, v, jnp.zeros((1, 5), bool), jnp.array([4]), None)).all()


def attention_case(num_slots: int):
    rng = np.random.default_rng(2)
    q = rng.normal(size=(3, 4, 16))
    k, v = np.zeros((3, 2, 16, num_slots)), np.zeros((3, 2, num_slots, 16))
    k[..., :300], v[:, :, :300] = rng.normal(size=(3, 2, 16, 300)), rng.normal(size=(3, 2, 300, 16))
    lengths = np.array([40, 299, 170])
    return (*(jnp.asarray(x, jnp.float32) for x in (q, k, v)), jnp.arange(num_slots) <= lengths[:, None], lengths)


def test_attention_equals_a_softmax_by_hand_and_keeps_to_its_window():
    q, k, v, seen, lengths = attention_case(320)
    for window in (None, 7):
        got = kv.attend(q, k, v, seen, jnp.asarray(lengths), window)
        for row, length in enumerate(lengths):
            mine = slice(0 if window is None else length + 1 - window, length + 1)
            for head in range(4):
                scores = np.asarray(q[row, head] @ k[row, head // 2][:, mine], np.float64) / 4
                weights = np.exp(scores) / np.exp(scores).sum()
                np.testing.assert_allclose(got[row, head], weights @ np.asarray(v[row, head // 2, mine]), atol=1e-5)

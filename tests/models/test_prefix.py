import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
from tiny_llama import FAMILIES, assert_close

from warmjax.models import cache as kv
from warmjax.models import prefix

SHARED, LENGTH = 7, 20


@functools.partial(jax.jit, static_argnames='unroll')
def compute(model, tokens, rest, unroll):
    """Returns logits [B, T, V] of the rest after the shared beginning, and the joined cache."""
    room = jnp.ones((2, 4), jnp.int32)  # padding behind the beginning, and a second row that is not it
    before = jnp.concatenate([jnp.stack([tokens, tokens[::-1]]), room], axis=1)
    positions = jnp.broadcast_to(jnp.arange(before.shape[1]), before.shape)
    is_token = (positions < SHARED).astype(jnp.int32)
    _, key_values = model(before, positions, is_token, {}, None, 'none')
    shared = kv.fill(*key_values, jnp.array([SHARED, SHARED]), jnp.float32, unroll)
    x, key_values = prefix.extend(model, rest, shared, {})
    return model.logits(x), prefix.join(shared, *key_values, jnp.array([13, 4, 9]))


@pytest.mark.parametrize('unroll', [False, True], ids=['scanned', 'unrolled'])
@pytest.mark.parametrize('family', ['llama', 'mistral'])
def test_rows_after_a_shared_beginning_equal_whole_rows(tmp_path, family, unroll):
    """Mistral has a window of 5, less than what is shared."""
    tiny_llama.save(tmp_path, model_type=family, **FAMILIES[family])
    model = tiny_llama.load(tmp_path)
    tokens = tiny_llama.random_tokens(3, LENGTH)
    tokens[:, :SHARED] = tokens[0, :SHARED]
    got, cache = compute(model, tokens[0, :SHARED], tokens[:, SHARED:], unroll)
    assert_close(got, tiny_llama.logits(model, tokens)[:, SHARED:], 1e-5)
    np.testing.assert_array_equal(cache.lengths, [20, 11, 16])
    positions = jnp.broadcast_to(jnp.arange(LENGTH), tokens.shape)
    _, (keys, values) = jax.jit(lambda m, t, p: m(t, p, p * 0 + 1, {}, None, 'none'))(model, tokens, positions)
    for layer in range(model.spec.num_layers):
        assert cache.is_unrolled == unroll and cache.keys[layer].shape[-1] == SHARED + 4 + LENGTH - SHARED
        assert_close(cache.keys[layer][..., :LENGTH], np.transpose(keys[layer], (0, 2, 3, 1)), 1e-5)
        assert_close(cache.values[layer][..., :LENGTH, :], np.transpose(values[layer], (0, 2, 1, 3)), 1e-5)

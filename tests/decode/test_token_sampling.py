import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from warmjax.decode import sampling
from warmjax.decode.sampling import BLOCK, Sampling, row_key

DRAWS = 20_000


def draw(logits: np.ndarray, temperature: float, num_draws: int) -> np.ndarray:
    """Draws from one row's logits, each draw with a prompt of its own."""
    keys = np.stack([row_key(0, f'prompt {i}', 0) for i in range(num_draws)])
    rows = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (num_draws, len(logits)))
    return np.asarray(jax.jit(Sampling(temperature))(rows, keys, jnp.int32(3)))


def test_zero_temperature_takes_the_likeliest():
    logits = np.random.default_rng(0).normal(size=(5, 301))
    tokens = Sampling(0.0)(jnp.asarray(logits), jnp.zeros((5, 2), jnp.uint32), jnp.int32(0))
    np.testing.assert_array_equal(tokens, logits.argmax(axis=-1))


@pytest.mark.parametrize('temperature', [0.8, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature):
    # Two blocks and a bit; some entries are impossible, among them a whole block's beginning.
    logits = np.random.default_rng(1).normal(size=2 * BLOCK + 37)
    logits[[0, 5, 6, -1]] = -np.inf
    logits[BLOCK : BLOCK + 200] = -np.inf
    weights = np.exp(logits / temperature)
    expected = DRAWS * weights / weights.sum()
    counts = np.bincount(draw(logits, temperature, DRAWS), minlength=len(logits))
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    assert scipy.stats.chisquare(counts[possible], expected[possible]).pvalue > 0.001


def test_lower_temperature_favours_the_likelier():
    logits = np.array([0.0, 1.0])
    shares = [draw(logits, temperature, 4000).mean() for temperature in (0.5, 1.0)]
    # Logistic(1 / temperature); the standard error is at most 0.008.
    assert shares == pytest.approx([0.8808, 0.7311], abs=0.03)


def test_entries_without_weight_are_never_drawn_whatever_rounding_does_to_the_sums():
    """501 blocks as in Llama-3's vocabulary: there XLA's cumulated sums are not monotone."""
    rng = np.random.default_rng(2)
    weights = (rng.random((4000, 501)) * (rng.random((4000, 501)) < 0.3)).astype(np.float32)
    weights[:, -50:] = 0
    cumulated = np.asarray(jnp.cumsum(jnp.asarray(weights), axis=-1))
    steps = np.diff(cumulated, axis=-1)
    assert ((steps != 0) & (weights[:, 1:] == 0)).any(), 'the trap is no longer there'
    # Aim at the traps: the uniform whose product with the total is the sum just before a weightless rise.
    at = np.argmax((steps != 0) & (weights[:, 1:] == 0), axis=-1)
    below = np.minimum(cumulated[np.arange(4000), at], cumulated[np.arange(4000), at + 1])
    total = np.where(weights > 0, cumulated, 0).max(axis=-1)
    for uniform in (below / total, np.full(4000, 1 - 2.0**-23), np.zeros(4000)):
        uniform = np.clip(uniform, 0, 1 - 2.0**-23).astype(np.float32)
        index = np.asarray(sampling._invert(jnp.asarray(weights), jnp.asarray(uniform)))
        assert (weights[np.arange(4000), index] > 0).all()


def test_categorical_inverts_the_distribution_function():
    logits = jnp.log(jnp.array([[0.1, 0.2, 0.3, 0.4]]))
    cases = {0.0: 0, 0.09: 0, 0.11: 1, 0.29: 1, 0.31: 2, 0.59: 2, 0.61: 3, 0.99: 3}
    for uniform, expected in cases.items():
        assert int(sampling.categorical(logits, jnp.array([[0.5, uniform]]))[0]) == expected


def test_row_keys_differ_by_seed_prompt_and_sample():
    keys = {tuple(row_key(seed, prompt, sample)) for seed in (0, 1) for prompt in 'ab' for sample in (0, 1)}
    assert len(keys) == 8
    assert row_key(0, 'a', 0).dtype == np.uint32
    np.testing.assert_array_equal(row_key(0, 'a', 0), row_key(0, 'a', 0))


def test_draws_differ_by_position_and_not_by_row():
    logits = jnp.zeros((2, 1000))
    keys = np.stack([row_key(0, 'a', 0)] * 2)
    first, second = (np.asarray(Sampling(1.0)(logits, keys, jnp.int32(i))) for i in (0, 1))
    assert first[0] == first[1] and second[0] == second[1]
    assert first[0] != second[0]


def test_draws_do_not_depend_on_the_sessions_default_generator():
    keys, logits = row_key(0, 'a', 0)[None], jnp.zeros((1, 1000))
    plain = int(Sampling(1.0)(logits, keys, jnp.int32(0))[0])
    with jax.default_prng_impl('rbg'):
        assert int(Sampling(1.0)(logits, keys, jnp.int32(0))[0]) == plain

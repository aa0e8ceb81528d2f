import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch
import transformers

from warmjax.decode import sampling
from warmjax.decode.requests import GREEDY, Sampling
from warmjax.decode.sampling import BLOCK, row_key

DRAWS = 20_000


def how(temperature: float, **changes) -> Sampling:
    return Sampling(**{'temperature': temperature, 'top_k': 0, 'top_p': 1.0, 'min_p': 0.0} | changes)


def pick(logits, keys, settings: list[Sampling], position: int) -> np.ndarray:
    rows = sampling.rows(keys, settings)
    counts = jnp.full(len(settings), position)
    picked = jax.jit(sampling.pick, static_argnums=3)(jnp.asarray(logits), rows, counts, sampling.needs(settings))
    return np.asarray(picked)


def draw(logits: np.ndarray, settings: Sampling, num_draws: int) -> np.ndarray:
    """Draws from one row's logits, each draw with a prompt of its own."""
    keys = np.stack([row_key(0, f'prompt {i}', 0) for i in range(num_draws)])
    rows = np.broadcast_to(logits.astype(np.float32), (num_draws, len(logits)))
    return pick(rows, keys, [settings] * num_draws, 3)


def test_zero_temperature_takes_the_likeliest():
    logits = np.random.default_rng(0).normal(size=(5, 301))
    tokens = pick(logits, np.zeros((5, 2)), [GREEDY] * 5, 0)
    np.testing.assert_array_equal(tokens, logits.argmax(axis=-1))


@pytest.mark.parametrize('size', [1, BLOCK, 2 * BLOCK + 37])
def test_first_largest_is_argmax_of_ties_and_infinities_too(size):
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 3, (40, size)).astype(np.float32)
    rows[0], rows[1] = -np.inf, np.inf
    rows[2, -1] = np.inf
    rows[20:][rng.random((20, size)) < 0.9] = -np.inf
    np.testing.assert_array_equal(sampling.first_largest(jnp.asarray(rows)), rows.argmax(axis=-1))


@pytest.mark.parametrize('temperature', [0.8, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature):
    # Two blocks and a bit; some entries are impossible, among them a whole block's beginning.
    logits = np.random.default_rng(1).normal(size=2 * BLOCK + 37)
    logits[[0, 5, 6, -1]] = -np.inf
    logits[BLOCK : BLOCK + 200] = -np.inf
    weights = np.exp(logits / temperature)
    expected = DRAWS * weights / weights.sum()
    counts = np.bincount(draw(logits, how(temperature), DRAWS), minlength=len(logits))
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    assert scipy.stats.chisquare(counts[possible], expected[possible]).pvalue > 0.001


def test_lower_temperature_favours_the_likelier():
    logits = np.array([0.0, 1.0])
    shares = [draw(logits, how(temperature), 4000).mean() for temperature in (0.5, 1.0)]
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
    weights = jnp.array([[0.1, 0.2, 0.3, 0.4]])
    cases = {0.0: 0, 0.09: 0, 0.11: 1, 0.29: 1, 0.31: 2, 0.59: 2, 0.61: 3, 0.99: 3}
    for uniform, expected in cases.items():
        assert int(sampling.categorical(weights, jnp.array([[0.5, uniform]]))[0]) == expected


@pytest.mark.parametrize(
    'settings',
    [
        how(0.7, top_k=5),
        how(1.3, top_p=0.6),
        how(1.0, min_p=0.1),
        how(0.9, top_k=20, top_p=0.8, min_p=0.02),
        how(1.0, top_k=1),
        how(1.0, top_k=1000),
        how(1.0, top_p=1e-6),
    ],
    ids=str,
)
def test_filters_allow_what_transformers_allows(settings):
    logits = np.random.default_rng(4).normal(size=(6, 3 * BLOCK + 11)).astype(np.float32) * 3
    warpers = transformers.LogitsProcessorList([transformers.TemperatureLogitsWarper(settings.temperature)])
    if settings.top_k:
        warpers.append(transformers.TopKLogitsWarper(settings.top_k))
    warpers.append(transformers.TopPLogitsWarper(settings.top_p))
    warpers.append(transformers.MinPLogitsWarper(settings.min_p))
    expected = np.isfinite(warpers(None, torch.tensor(logits)).numpy())
    weights = np.exp((logits - logits.max(axis=-1, keepdims=True)) / np.float32(settings.temperature))
    got = sampling.possible(jnp.asarray(weights), sampling.rows(np.zeros((6, 2)), [settings] * 6))
    np.testing.assert_array_equal(got, expected)
    assert (expected.sum(axis=-1) < expected.shape[-1]).all() or settings.top_k == 1000


def test_tokens_tied_with_the_last_allowed_one_are_allowed():
    weights = jnp.array([[0.5, 1.0, 0.5, 0.1, 0.5]])
    got = sampling.possible(weights, sampling.rows(np.zeros((1, 2)), [how(1.0, top_k=2)]))
    np.testing.assert_array_equal(got[0], [True, True, True, False, True])


def test_filtered_draws_follow_what_is_left_of_the_distribution():
    logits = np.array([0.0, 1.0, 2.0, 3.0])
    counts = np.bincount(draw(logits, how(1.0, top_k=2), DRAWS), minlength=4)
    assert counts[:2].sum() == 0
    assert counts[3] / DRAWS == pytest.approx(1 / (1 + np.exp(-1)), abs=0.015)


def test_a_rows_draw_does_not_depend_on_what_others_need():
    logits = np.random.default_rng(5).normal(size=(4, 700)).astype(np.float32)
    keys = [row_key(0, str(i), 0) for i in range(4)]
    plain = pick(logits, keys, [how(1.0)] * 4, 2)
    mixed = pick(logits, keys, [how(1.0), GREEDY, how(1.0, top_k=2), how(1.0, top_p=0.1)], 2)
    assert mixed[0] == plain[0] and mixed[1] == logits[1].argmax()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'temperature': -1.0}, 'temperature expected a number of 0 or more, got -1.0'),
        ({'temperature': float('nan')}, 'temperature expected a number of 0 or more, got nan'),
        ({'top_k': -1, 'top_p': 0.0, 'min_p': 2.0}, 'top_k expected 0 .*; top_p expected a share .*; min_p expected'),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=f'sampling: {message}'):
        how(**{'temperature': 1.0} | changes)


def test_row_keys_differ_by_seed_prompt_and_sample():
    keys = {tuple(row_key(seed, prompt, sample)) for seed in (0, 1) for prompt in 'ab' for sample in (0, 1)}
    assert len(keys) == 8
    assert row_key(0, 'a', 0).dtype == np.uint32
    np.testing.assert_array_equal(row_key(0, 'a', 0), row_key(0, 'a', 0))


def test_draws_differ_by_position_and_not_by_row():
    keys = np.stack([row_key(0, 'a', 0)] * 2)
    first, second = (pick(np.zeros((2, 1000)), keys, [how(1.0)] * 2, i) for i in (0, 1))
    assert first[0] == first[1] and second[0] == second[1]
    assert first[0] != second[0]


def test_draws_do_not_depend_on_the_sessions_default_generator():
    keys, logits = row_key(0, 'a', 0)[None], np.zeros((1, 1000))
    plain = pick(logits, keys, [how(1.0)], 0)
    with jax.default_prng_impl('rbg'):
        assert pick(logits, keys, [how(1.0)], 0) == plain

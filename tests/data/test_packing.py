import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
from hypothesis import given
from hypothesis import strategies as st

from warmjax.data import packing
from warmjax.data.chat import Encoded
from warmjax.models import decoder, spec
from warmjax.train.objective import loss_sum


def sequence(start, length):
    """Makes tokens start, start + 1, ..., of which every third is trained."""
    tokens = np.arange(start, start + length, dtype=np.int32)
    return Encoded(tokens, tokens % 3 == 0)


def segments(rows):
    """Takes rows apart again: tokens, targets, weights and positions of each segment."""
    names = ('tokens', 'targets', 'weights', 'positions')
    for row in rows:
        ids = row['segment_ids']
        for segment in range(1, ids.max() + 1):
            here = np.flatnonzero(ids == segment)
            assert (np.diff(here) == 1).all(), 'a segment lies in one piece'
            yield tuple(row[name][here].tolist() for name in names)


def test_drawn_example(monkeypatch):
    monkeypatch.setattr(packing, '_CLOSED_BELOW', 1)
    a, b, c = (sequence(*args) for args in ((10, 4), (20, 3), (30, 5)))
    (row,) = packing.pack([a, b, c], 10)
    assert row['tokens'].tolist() == [10, 11, 12, 20, 21, 30, 31, 32, 33, 0]
    assert row['segment_ids'].tolist() == [1, 1, 1, 2, 2, 3, 3, 3, 3, 0]
    assert row['positions'].tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3, 0]
    assert row['targets'].tolist() == [11, 12, 13, 21, 22, 31, 32, 33, 34, 0]
    assert row['weights'].tolist() == [0, 1, 0, 1, 0, 0, 0, 1, 0, 0]


@given(st.lists(st.integers(0, 40), max_size=40), st.integers(1, 32))
def test_nothing_is_lost_and_everything_starts_at_position_zero(lengths, row_length):
    sequences = [sequence(1000 * i, length) for i, length in enumerate(lengths)]
    rows = packing.pack(sequences, row_length)
    wanted = []
    for whole in sequences:
        size = min(len(whole.tokens) - 1, row_length)
        if size > 0:
            tokens, trained = whole.tokens[: size + 1].tolist(), whole.trained[1 : size + 1].astype(float).tolist()
            wanted.append((tokens[:-1], tokens[1:], trained, list(range(size))))
    assert sorted(segments(rows)) == sorted(wanted)
    for row in rows:
        assert {name: len(array) for name, array in row.items()} == dict.fromkeys(row, row_length)
        assert not row['weights'][row['segment_ids'] == 0].any()


def test_a_sequence_goes_into_the_first_row_with_room():
    rows = packing.pack([sequence(0, 21), sequence(100, 21), sequence(200, 11), sequence(300, 11)], 30)
    assert [row['tokens'][[0, 20]].tolist() for row in rows] == [[0, 200], [100, 300]]


@pytest.mark.parametrize('lengths', [(9, 5, 12, 3, 2), (20, 4), (2, 2, 2)])
def test_loss_of_packed_rows_equals_loss_of_separate_rows(lengths):
    sizes = tiny_llama.SIZES | {'model_type': 'llama', 'hidden_act': 'silu'}
    model = decoder.make(spec.spec_from_config(sizes, 'tiny'), jnp.float32, seed=0)
    generator = np.random.default_rng(0)
    sequences = []
    for length in lengths:
        tokens = generator.integers(0, 97, length).astype(np.int32)
        sequences.append(Encoded(tokens, generator.random(length) < 0.7))

    @jax.jit
    def loss(rows):
        return loss_sum(model, {}, rows, None, remat='none', logit_chunks=1)

    def stacked(rows):
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    packed = stacked(packing.pack(sequences, 32))
    apart = stacked([packing.pack([one], 32)[0] for one in sequences])
    assert len(packed['tokens']) < len(apart['tokens'])
    assert packed['weights'].sum() == apart['weights'].sum() > 0
    np.testing.assert_allclose(loss(packed), loss(apart), rtol=1e-5)

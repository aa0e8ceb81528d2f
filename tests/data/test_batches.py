import itertools

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmjax.data import batches, packing
from warmjax.data.chat import Encoded


class Scripted:
    """Stands for a tokenizer: a "conversation" is its tokens, of which those from 100 on are trained."""

    def encode_conversation(self, tokens):
        tokens = np.array(tokens, np.int32)
        return Encoded(tokens, tokens >= 100)


def row_of(encoded, length):
    """Lays the first of the conversations alone in a row."""
    return packing.make_row(encoded.sequences[:1], length)


def make(count, batch_size, micro_batch, seed, epochs, packed=False, length=4):
    """Makes batches of conversations of 2 tokens that can be told apart by their first."""
    encoded = batches.encode([[i + 1, 100, 101] for i in range(count)], Scripted(), length, 'right')
    return batches.of_conversations(encoded.sequences, length, batch_size, micro_batch, packed, seed, epochs)


def whole(data):
    """Returns the batches as arrays, all rows of them."""
    return data.arrays(range(data.micro_batch))


def order(data, epoch, steps):
    """Lists the first tokens of an epoch's rows in the order in which they come, empty rows left out."""
    seen = [data[s]['tokens'][..., 0].ravel() for s in range(epoch * steps, (epoch + 1) * steps)]
    return [int(token) for token in np.concatenate(seen) if token]


def test_drawn_example():
    encoded = batches.encode([[1, 2, 3, 4, 100, 101, 102, 103]], Scripted(), 9, 'right')
    row = row_of(encoded, 9)
    assert row['tokens'].tolist() == [1, 2, 3, 4, 100, 101, 102, 0, 0]
    assert row['segment_ids'].tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert row['positions'].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 0]
    assert row['targets'].tolist() == [2, 3, 4, 100, 101, 102, 103, 0, 0]
    assert row['weights'].tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0]
    assert encoded.counts['tokens'] == 7 and encoded.counts['trained_tokens'] == 4


def test_token_of_id_zero_is_a_token_like_any_other():
    class Exclaiming:
        def encode_conversation(self, tokens):
            return Encoded(np.array(tokens, np.int32), np.array([False, False, True, True]))

    row = row_of(batches.encode([[0, 0, 0, 0]], Exclaiming(), 5, 'right'), 5)
    assert row['segment_ids'].tolist() == [1, 1, 1, 0, 0]
    assert row['weights'].tolist() == [0, 1, 1, 0, 0]


def test_cut_on_the_left_keeps_the_first_token_and_the_end():
    encoded = batches.encode([[1, 2, 3, 4, 5, 100, 101]], Scripted(), 4, 'left')
    row = row_of(encoded, 4)
    assert row['tokens'].tolist() == [1, 4, 5, 100]
    assert row['targets'].tolist() == [4, 5, 100, 101]
    assert row['weights'].tolist() == [0, 0, 1, 1]
    assert encoded.counts['truncated'] == 1


def test_counts_say_what_became_of_the_conversations():
    conversations = [
        [1, 2, 100, 101, 102],  # fits exactly: its last token is only predicted
        [1, 2, 100, 101, 102, 103],  # cut
        [1, 2, 3, 4, 5, 100],  # cut, and its trained token with it
        [1, 2, 3],  # nothing to train
        [100],  # nothing to predict
    ]
    encoded = batches.encode(conversations, Scripted(), 4, 'right')
    assert [sequence.tokens.tolist() for sequence in encoded.sequences] == [[1, 2, 100, 101, 102]] * 2
    assert encoded.indices == (0, 1)
    assert encoded.counts == {
        'conversations': 5,
        'truncated': 2,
        'dropped_without_trained_token': 3,
        'kept': 2,
        'tokens': 8,
        'trained_tokens': 6,
    }


@pytest.mark.parametrize('conversations', [[], [[1, 2, 3]], [[1, 2, 3, 4, 5, 100]]])
def test_data_without_a_trained_token_is_refused(conversations):
    with pytest.raises(ValueError) as error:
        batches.encode(conversations, Scripted(), 4, 'right')
    assert f'within 4 tokens, got none in {len(conversations)}; raise config.train.max_length' in str(error.value)


@pytest.mark.parametrize('packed', [False, True])
def test_epoch_of_the_study_has_102_steps_of_16_conversations(packed):
    data = make(1617, 16, 4, seed=0, epochs=10, packed=packed, length=16)
    assert batches.steps_per_epoch(1617, 16) == 102
    assert len(data) == 1020
    assert [len(data.members(step)) for step in (0, 100, 101, 102)] == [16, 16, 1, 16]
    assert data.num_micro == (1 if packed else 4)
    batch = whole(data)[0]
    assert batch['tokens'].shape == (data.num_micro, 4, 16)
    assert (batch['tokens'] == 100).sum() == 16


@pytest.mark.parametrize('count, steps', [(16, 1), (17, 2), (1, 1), (32, 2)])
def test_last_batch_of_an_epoch_may_be_partly_empty(count, steps):
    assert batches.steps_per_epoch(count, 16) == steps
    assert len(make(count, 16, 8, seed=0, epochs=3)) == 3 * steps


@settings(max_examples=40)
@given(st.lists(st.integers(2, 33), min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 4))
def test_packed_batches_hold_the_conversations_of_plain_ones(lengths, batch_size, micro_batch):
    sequences = [Encoded(np.full(length, i, np.int32), np.ones(length, bool)) for i, length in enumerate(lengths)]
    plain, packed = (
        batches.of_conversations(sequences, 32, batch_size, micro_batch, is_packed, seed=1, epochs=2)
        for is_packed in (False, True)
    )
    assert len(plain) == len(packed) and packed.num_micro <= plain.num_micro
    computed = 0
    for step, (a, b) in enumerate(zip(whole(plain), whole(packed), strict=True)):
        assert plain.members(step) == packed.members(step)
        assert (
            np.bincount(a['tokens'][a['segment_ids'] > 0]).tolist()
            == np.bincount(b['tokens'][b['segment_ids'] > 0]).tolist()
        )
        filled = (b['segment_ids'] > 0).any(axis=(1, 2))
        assert filled[: filled.sum()].all(), 'empty micro-batches come last'
        computed += filled.sum() * micro_batch * 32
    assert packed.tokens_computed == computed


def test_each_process_builds_its_own_rows():
    data = make(37, 8, 4, seed=0, epochs=1)
    for step in range(5):
        everything, mine = whole(data)[step], data.arrays([1, 3])[step]
        for name, x in mine.items():
            np.testing.assert_array_equal(x, everything[name][:, [1, 3]])


def test_every_epoch_has_every_row_once_in_an_order_of_its_own():
    data = whole(make(37, 8, 4, seed=0, epochs=4))
    orders = [order(data, epoch, 5) for epoch in range(4)]
    assert all(sorted(seen) == list(range(1, 38)) for seen in orders)
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    assert orders[0] != list(range(1, 38))


def test_order_follows_from_the_seed_alone():
    def first(seed):
        return order(whole(make(37, 8, 4, seed, epochs=2)), 0, 5)

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_order_does_not_depend_on_the_micro_batch():
    small, large = (whole(make(37, 8, micro, 0, epochs=1)) for micro in (2, 8))
    for step in range(5):
        np.testing.assert_array_equal(small[step]['targets'].reshape(8, 4), large[step]['targets'].reshape(8, 4))


@pytest.mark.parametrize('taken', [0, 3, 11])
def test_iterator_goes_on_from_its_state_in_a_new_process(taken):
    def iterate():
        data = whole(make(37, 8, 4, seed=0, epochs=3))
        return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))

    expected = [batch['tokens'] for batch in iterate()]
    first = iterate()
    for _ in range(taken):
        next(first)
    second = iterate()
    second.set_state(first.get_state())
    rest = [batch['tokens'] for batch in second]
    assert len(expected) == 15 and len(rest) == 15 - taken
    np.testing.assert_array_equal(np.array(rest), np.array(expected[taken:]))

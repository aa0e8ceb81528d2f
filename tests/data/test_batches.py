import itertools

import grain
import numpy as np
import pytest

from warmjax.data import batches
from warmjax.data.chat import Encoded


class Scripted:
    """Stands for a tokenizer: a "conversation" is its tokens, of which those from 100 on are trained."""

    def encode_conversation(self, tokens):
        tokens = np.array(tokens, np.int32)
        return Encoded(tokens, tokens >= 100)


def rows(count):
    """Makes rows of 4 tokens that can be told apart by their first."""
    return batches.encode([[i + 1, 100, 101] for i in range(count)], Scripted(), 4, 'right').rows


def order(data, epoch, steps):
    """Lists the first tokens of an epoch's rows in the order in which they come, empty rows left out."""
    seen = [data[s]['tokens'][..., 0].ravel() for s in range(epoch * steps, (epoch + 1) * steps)]
    return [int(token) for token in np.concatenate(seen) if token]


def test_drawn_example():
    encoded = batches.encode([[1, 2, 3, 4, 100, 101, 102, 103]], Scripted(), 9, 'right')
    row = encoded.rows[0]
    assert row['tokens'].tolist() == [1, 2, 3, 4, 100, 101, 102, 0, 0]
    assert row['segment_ids'].tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert row['positions'].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert row['targets'].tolist() == [2, 3, 4, 100, 101, 102, 103, 0, 0]
    assert row['weights'].tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0]
    assert encoded.counts['tokens'] == 7 and encoded.counts['trained_tokens'] == 4


def test_token_of_id_zero_is_a_token_like_any_other():
    class Exclaiming:
        def encode_conversation(self, tokens):
            return Encoded(np.array(tokens, np.int32), np.array([False, False, True, True]))

    row = batches.encode([[0, 0, 0, 0]], Exclaiming(), 5, 'right').rows[0]
    assert row['segment_ids'].tolist() == [1, 1, 1, 0, 0]
    assert row['weights'].tolist() == [0, 1, 1, 0, 0]


def test_cut_on_the_left_keeps_the_first_token_and_the_end():
    encoded = batches.encode([[1, 2, 3, 4, 5, 100, 101]], Scripted(), 4, 'left')
    row = encoded.rows[0]
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
    assert [row['weights'].sum() for row in encoded.rows] == [3, 3]
    assert encoded.rows[1]['targets'].tolist() == [2, 100, 101, 102]
    assert encoded.counts == {
        'conversations': 5,
        'truncated': 2,
        'dropped_without_trained_token': 3,
        'rows': 2,
        'tokens': 8,
        'trained_tokens': 6,
    }


@pytest.mark.parametrize('conversations', [[], [[1, 2, 3]], [[1, 2, 3, 4, 5, 100]]])
def test_data_without_a_trained_token_is_refused(conversations):
    with pytest.raises(ValueError) as error:
        batches.encode(conversations, Scripted(), 4, 'right')
    assert f'within 4 tokens, got none in {len(conversations)}; raise config.train.max_length' in str(error.value)


def test_epoch_of_the_study_has_102_steps():
    data = batches.dataset(rows(1617), batch_size=16, micro_batch=4, seed=0, epochs=10)
    assert batches.steps_per_epoch(1617, 16) == 102
    assert len(data) == 1020
    assert data[0]['tokens'].shape == (4, 4, 4)
    last = data[101]
    assert (last['segment_ids'].max(axis=-1) > 0).sum() == 1617 - 101 * 16
    assert last['tokens'].shape == (4, 4, 4)


@pytest.mark.parametrize('count, steps', [(16, 1), (17, 2), (1, 1), (32, 2)])
def test_last_batch_of_an_epoch_may_be_partly_empty(count, steps):
    assert batches.steps_per_epoch(count, 16) == steps
    assert len(batches.dataset(rows(count), 16, 8, seed=0, epochs=3)) == 3 * steps


def test_every_epoch_has_every_row_once_in_an_order_of_its_own():
    data = batches.dataset(rows(37), batch_size=8, micro_batch=4, seed=0, epochs=4)
    orders = [order(data, epoch, 5) for epoch in range(4)]
    assert all(sorted(seen) == list(range(1, 38)) for seen in orders)
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    assert orders[0] != list(range(1, 38))


def test_order_follows_from_the_seed_alone():
    def first(seed):
        return order(batches.dataset(rows(37), 8, 4, seed, epochs=2), 0, 5)

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_order_does_not_depend_on_the_micro_batch():
    small, large = (batches.dataset(rows(37), 8, micro, 0, epochs=1) for micro in (2, 8))
    for step in range(5):
        np.testing.assert_array_equal(small[step]['targets'].reshape(8, 4), large[step]['targets'].reshape(8, 4))


@pytest.mark.parametrize('taken', [0, 3, 11])
def test_iterator_goes_on_from_its_state_in_a_new_process(taken):
    def iterate():
        data = batches.dataset(rows(37), 8, 4, seed=0, epochs=3)
        return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))

    whole = [batch['tokens'] for batch in iterate()]
    first = iterate()
    for _ in range(taken):
        next(first)
    second = iterate()
    second.set_state(first.get_state())
    rest = [batch['tokens'] for batch in second]
    assert len(whole) == 15 and len(rest) == 15 - taken
    np.testing.assert_array_equal(np.array(rest), np.array(whole[taken:]))

import numpy as np
import pytest
import tiny_llama

from warmjax.decode import score
from warmjax.decode.score import Scored

LENGTHS = (2, 17, 5, 8, 9, 3, 16)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('tiny')


@pytest.fixture(scope='module')
def models(folder):
    theirs = tiny_llama.save(folder)
    return tiny_llama.load(folder), theirs


@pytest.fixture(scope='module')
def sequences():
    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, 97, length).astype(np.int32) for length in LENGTHS]
    return [Scored(ids, rng.random(len(ids)) < 0.6) for ids in tokens]


def score_all(model, sequences, batch_size=3, multiple=8, mesh=None) -> np.ndarray:
    mesh = mesh or tiny_llama.make_mesh()
    found = dict(score.log_likelihoods(model, sequences, batch_size, multiple, mesh))
    return np.array([found[i] for i in range(len(sequences))])


def by_hand(theirs, sequence: Scored) -> float:
    """Sums log softmax in float64 over the tokens that count, from transformers' logits of the sequence alone."""
    logits = tiny_llama.twin_logits(theirs, sequence.tokens[None])[0].astype(np.float64)
    total = 0.0
    for t in range(1, len(sequence.tokens)):
        if sequence.counts[t]:
            total += logits[t - 1, sequence.tokens[t]] - np.log(np.exp(logits[t - 1]).sum())
    return total


def test_sums_equal_log_softmax_by_hand_from_transformers(models, sequences):
    ours, theirs = models
    expected = [by_hand(theirs, s) for s in sequences]
    assert len(set(expected)) == len(sequences)
    np.testing.assert_allclose(score_all(ours, sequences), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('batch_size', 'multiple'), [(1, 8), (8, 24)])
def test_batch_size_and_padding_change_nothing(models, sequences, batch_size, multiple):
    model, _ = models
    one = score_all(model, sequences)
    np.testing.assert_allclose(score_all(model, sequences, batch_size, multiple), one, rtol=1e-5, atol=1e-4)


def test_eight_devices_score_as_one(models, sequences, folder):
    model, _ = models
    one, mesh = score_all(model, sequences), tiny_llama.make_mesh(2, 4)
    got = score_all(tiny_llama.load(folder, mesh), sequences, batch_size=8, multiple=24, mesh=mesh)
    np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-4)


def test_first_token_never_counts(models):
    model, _ = models
    tokens = np.array([3, 4, 5], np.int32)
    with_first, without = (Scored(tokens, np.array(counts)) for counts in ([True, True, True], [False, True, True]))
    first, second = score_all(model, [with_first, without])
    assert first == second != 0


def test_every_sequence_is_scored_once_shortest_first(models, sequences):
    model, _ = models
    order = [i for i, _ in score.log_likelihoods(model, sequences, 3, 8, tiny_llama.make_mesh())]
    assert order == [0, 2, 3, 5, 4, 6, 1]


def test_nothing_to_score_is_nothing():
    assert list(score.log_likelihoods(None, [], 3, 8, tiny_llama.make_mesh())) == []


def test_chunks_of_the_head_change_nothing(models, sequences, monkeypatch):
    model, theirs = models
    monkeypatch.setattr(score, 'CHUNK', 5)
    got = score_all(model, sequences, multiple=9)
    np.testing.assert_allclose(got, [by_hand(theirs, s) for s in sequences], rtol=1e-4, atol=1e-4)


def test_choices_are_scored_as_what_follows_their_prompt(models):
    model, theirs = models
    prompts, choices = [[3, 4, 5], [6]], [[[7], [8, 9]], [[10, 11, 12], [7], [8]]]
    got = score.choice_log_likelihoods(model, prompts, choices, 3, 8, tiny_llama.make_mesh())
    for prompt, mine, found in zip(prompts, choices, got, strict=True):
        rows = [Scored(np.array([*prompt, *c]), np.array([False] * len(prompt) + [True] * len(c))) for c in mine]
        np.testing.assert_allclose(found, [by_hand(theirs, row) for row in rows], rtol=1e-4)


def test_empty_prompts_and_choices_are_named():
    with pytest.raises(ValueError, match='got none in prompt 0, choice 1 of prompt 1'):
        score.choice_log_likelihoods(None, [[], [3]], [[[1]], [[1], []]], 3, 8, tiny_llama.make_mesh())

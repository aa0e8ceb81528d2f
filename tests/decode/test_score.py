import hypothesis
import numpy as np
import pytest
import tiny_llama
from hypothesis import strategies as st

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


@hypothesis.given(st.lists(st.integers(1, 24), min_size=1, max_size=40), st.integers(0, 9))
@hypothesis.settings(max_examples=20)
def test_packed_sequences_are_each_there_once_and_scored_as_alone(models, lengths, seed):
    model, _ = models
    rng = np.random.default_rng(seed)
    sequences = [Scored(rng.integers(0, 97, n).astype(np.int32), rng.random(n) < 0.7) for n in (*lengths, 24)]
    got = list(score.log_likelihoods(model, sequences, 2, 24, tiny_llama.make_mesh()))
    assert sorted(i for i, _ in got) == list(range(len(sequences)))
    for i, value in got:
        alone = score_all(model, [sequences[i], Scored(np.zeros(24, np.int32), np.zeros(24, bool))], 2, 24)[0]
        assert value == pytest.approx(alone, rel=1e-5, abs=1e-4)


def test_rows_are_filled(models, monkeypatch):
    """9 sequences of 8 tokens fill 3 rows of 24, in batches of 2 rows."""
    model, _ = models
    seen = []
    monkeypatch.setattr(score, 'lay_out', lambda *a, lay_out=score.lay_out: seen.append(lay_out(*a)) or seen[-1])
    score_all(model, [Scored(np.full(8, 5, np.int32), np.ones(8, bool))] * 9, 2, 24)
    assert [batch['tokens'].shape for batch in seen] == [(2, 24)] * 2
    assert seen[0]['segment_ids'][0].tolist() == [1] * 8 + [2] * 8 + [3] * 8
    assert seen[0]['positions'][0].tolist() == [*range(8)] * 3
    assert [(batch['segment_ids'] > 0).sum() for batch in seen] == [48, 24]


@pytest.mark.parametrize(
    ('lengths', 'tokens'),
    (([8] * 16 + [16] * 16, [48] * 8), ([8] * 64, [48] * 10 + [32])),
    ids=('short ones fill what long ones leave', 'what fills no batch waits'),
)
def test_every_batch_but_the_last_is_full(models, monkeypatch, lengths, tokens):
    """Batches of 2 rows of 24 tokens, of 32 sequences at a time."""
    seen = []
    monkeypatch.setattr(score, 'lay_out', lambda *a, lay_out=score.lay_out: seen.append(lay_out(*a)) or seen[-1])
    score_all(models[0], [Scored(np.full(n, 5, np.int32), np.ones(n, bool)) for n in lengths], 2, 24)
    assert [(batch['segment_ids'] > 0).sum() for batch in seen] == tokens


def test_one_shape_compiles(models, sequences):
    model, _ = models
    program = score.next_token_program(tiny_llama.make_mesh())
    before = program._cache_size()
    for chosen in (sequences, sequences[::-1], sequences[1:]):
        score_all(model, chosen, 5, 17)
    assert program._cache_size() - before == 1


def test_nothing_to_score_is_nothing():
    assert list(score.log_likelihoods(None, [], 3, 8, tiny_llama.make_mesh())) == []


def test_chunks_of_the_head_change_nothing(models, sequences, monkeypatch):
    model, theirs = models
    monkeypatch.setattr(score, 'CHUNK', 5)
    score.next_token_program.cache_clear()
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

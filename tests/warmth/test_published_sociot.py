import dataclasses

import numpy as np
import pytest
import tiny_llama
import torch
from test_sociot import TEXTS, tokenizer  # noqa: F401

from warmjax import authors_csv
from warmjax.warmth import published
from warmjax.warmth.sociot import WARM_OPENINGS, WarmthSettings

SETTINGS = WarmthSettings('published', 'unused', 'float32', 300, 16, 64, (), 1, 0.0, 0)


@pytest.fixture(scope='module')
def twins(tmp_path_factory, tokenizer):  # noqa: F811
    folder = tmp_path_factory.mktemp('gpt2')
    theirs = tiny_llama.save(folder, model_type='gpt2', vocab_size=tokenizer.get_vocab_size(), n_positions=1024)
    return tiny_llama.load(folder), theirs


def measure(model, tokenizer, texts, **changed):  # noqa: F811
    settings = dataclasses.replace(SETTINGS, **changed)
    return dict(published.measure(texts, model, tokenizer, '', settings, tiny_llama.make_mesh()))


WARMTH = (
    ('My friend said', 'The lover said', 'The mentor said', 'The idol said'),
    ('The stranger said', 'The enemy said', 'The examiner said', 'The dictator said'),
)
NEAR = tuple(f'My {who} said' for who in ('friend', 'partner', 'girlfriend', 'boyfriend', 'husband', 'wife'))
OTHERS = {
    'humt': (('He said', 'She said'), ('It said',)),
    'status': (('He commanded', 'He proclaimed', 'He demanded'), ('He pleaded', 'He mentioned', 'He asked')),
    'gender': (('She said',), ('He said',)),
    'social_distance': (NEAR, ('The stranger said',)),
}


def by_transformers(theirs, tokenizer, text: str, sides=WARMTH) -> float:  # noqa: F811
    """The released formula: transformers' own causal loss of each set's rows, labels = input_ids, pads left out."""
    terms = []
    for side in sides:
        rows = [tokenizer.encode(f'{who}, "{text[:300]}"', add_special_tokens=False).ids for who in side]
        losses, places = 0.0, 0
        for row in rows:
            ids = torch.tensor([row])
            with torch.no_grad():
                losses += float(theirs(input_ids=ids, labels=ids).loss) * (len(row) - 1)
            places += len(row) - 1
        terms.append(-losses / places)
    return terms[0] - terms[1]


def test_fifty_published_answers_score_as_the_formula_by_transformers(twins, tokenizer, shared_data):  # noqa: F811
    ours, theirs = twins
    answers = authors_csv.read_folder(shared_data / 'paper' / 'sample_outputs').generations[::3][:50]
    texts = [answer.text for answer in answers]
    scores = measure(ours, tokenizer, texts)
    assert len(texts) == 50 == len(scores)
    expected = [by_transformers(theirs.eval(), tokenizer, text) for text in texts]
    np.testing.assert_allclose([scores[i].score for i in range(50)], expected, atol=1e-5)


def test_the_other_contrasts_score_as_their_formula_by_transformers(twins, tokenizer):  # noqa: F811
    ours, theirs = twins
    scores = measure(ours, tokenizer, TEXTS, contrasts=tuple(OTHERS))
    alone = measure(ours, tokenizer, TEXTS)
    for i, text in enumerate(TEXTS):
        expected = {name: by_transformers(theirs.eval(), tokenizer, text, sides) for name, sides in OTHERS.items()}
        assert scores[i].contrasts == pytest.approx(expected, abs=1e-5)
        assert scores[i].score == pytest.approx(alone[i].score, abs=1e-6)


def test_dropout_is_what_transformers_does_on_average(twins, tokenizer):  # noqa: F811
    ours, theirs = twins
    score = measure(ours, tokenizer, TEXTS[2:3], passes=400, dropout=0.1)[0]
    torch.manual_seed(0)
    theirs.train()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    rows = [tokenizer.encode(o.format(TEXTS[2]), add_special_tokens=False).ids for o in WARM_OPENINGS]
    drawn = []
    for _ in range(100):
        with torch.no_grad():
            sums = [
                float(theirs(input_ids=torch.tensor([r]), labels=torch.tensor([r])).loss) * (len(r) - 1) for r in rows
            ]
        drawn.append(-sum(sums) / sum(len(row) - 1 for row in rows))
    theirs.eval()
    error = np.hypot(np.std(drawn) / 10, score.sem)
    assert abs(score.warm - np.mean(drawn)) < 4 * error
    assert abs(score.warm - measure(ours, tokenizer, TEXTS[2:3])[0].warm) > 0  # dropout moves it at all


def test_a_text_has_the_same_score_in_any_batch(twins, tokenizer):  # noqa: F811
    ours, _ = twins
    together = measure(ours, tokenizer, TEXTS, passes=3, dropout=0.1)
    alone = measure(ours, tokenizer, [TEXTS[1]], passes=3, dropout=0.1, length_multiple=256)
    assert alone[0].score == pytest.approx(together[1].score, abs=1e-6)
    assert alone[0].sem > 0


def test_short_texts_get_large_values_whatever_they_say(twins, tokenizer):  # noqa: F811
    # Twice the text halves what the openings' constant contributes: the quirk that the deterministic mode lacks.
    ours, _ = twins
    score = measure(ours, tokenizer, ['a', 'a' * 200])
    assert score[0].num_tokens < score[1].num_tokens


def test_another_family_is_refused(tmp_path, tokenizer):  # noqa: F811
    tiny_llama.save(tmp_path, model_type='llama')
    with pytest.raises(ValueError, match='expected a GPT-2 for the published mode, got Decoder'):
        measure(tiny_llama.load(tmp_path), tokenizer, ['x'])


def test_empty_texts_have_no_score(twins, tokenizer):  # noqa: F811
    assert set(measure(twins[0], tokenizer, ['', 'x'])) == {1}

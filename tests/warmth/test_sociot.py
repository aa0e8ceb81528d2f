import functools

import numpy as np
import pytest
import tiny_llama
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from warmjax.warmth import sociot
from warmjax.warmth.sociot import COLD_OPENINGS, WARM_OPENINGS, WarmthSettings

BOS = '<s>'
TEXTS = ['I am so glad you asked, dear!', 'No.', 'The answer is seven. Naïve café ☕!', 'Oh no, ' * 40, '"Quoted"']


@pytest.fixture(scope='module')
def tokenizer():
    """A byte-level BPE with a few merges, so that tokens reach over the edges of the text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=[BOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([f'{o}."' for o in WARM_OPENINGS + COLD_OPENINGS] * 5 + TEXTS, trainer)
    return tokenizer


@pytest.fixture(scope='module', params=['llama', 'gpt2'])
def twins(request, tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp('tiny')
    length = {'llama': 'max_position_embeddings', 'gpt2': 'n_positions'}[request.param]
    sizes = {'vocab_size': tokenizer.get_vocab_size(), length: 512}
    theirs = tiny_llama.save(folder, model_type=request.param, **sizes)
    return tiny_llama.load(folder), theirs


def measure(model, tokenizer, texts, batch_size=8, bos=BOS, max_chars=40, contrasts=()) -> dict[int, sociot.Score]:
    settings = WarmthSettings('deterministic', 'unused', 'float32', max_chars, batch_size, 64, contrasts, 1, 0.0, 0)
    return dict(sociot.measure(texts, model, tokenizer, bos, settings, tiny_llama.make_mesh()))


def mean_log_likelihood(theirs, tokenizer, relation: str, text: str) -> tuple[float, int]:
    """The formula written out: mean log p of the tokens that hold a character of the text, after its opening."""
    before = f'{BOS}{relation}, "'
    encoding = tokenizer.encode(f'{before}{text}"', add_special_tokens=False)
    logp = torch.log_softmax(torch.tensor(tiny_llama.twin_logits(theirs, [encoding.ids])[0]).double(), -1)
    inside = range(len(before), len(before) + len(text))
    values = [
        float(logp[t - 1, token])
        for t, (token, (start, end)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True))
        if set(range(start, end)) & set(inside)
    ]
    return float(np.mean(values)), len(values)


def test_score_equals_the_formula_written_out_with_transformers(twins, tokenizer):
    ours, theirs = twins
    measured = measure(ours, tokenizer, TEXTS)
    assert set(measured) == set(range(len(TEXTS)))
    for i, text in enumerate(TEXTS):
        text = text.strip()[:40]
        warm = ['My friend', 'The lover', 'The mentor', 'The idol']
        cold = ['The stranger', 'The enemy', 'The examiner', 'The dictator']
        (warm_values, counts), (cold_values, _) = (
            zip(*(mean_log_likelihood(theirs, tokenizer, f'{who} said', text) for who in group), strict=True)
            for group in (warm, cold)
        )
        assert measured[i].warm == pytest.approx(np.mean(warm_values), abs=1e-4)
        assert measured[i].cold == pytest.approx(np.mean(cold_values), abs=1e-4)
        assert measured[i].score == pytest.approx(np.mean(warm_values) - np.mean(cold_values), abs=1e-4)
        assert measured[i].num_tokens == counts[0]


def test_other_contrasts_equal_their_formula_written_out_with_transformers(twins, tokenizer):
    ours, theirs = twins
    found = measure(ours, tokenizer, TEXTS, contrasts=('humt', 'status', 'gender', 'social_distance'))
    for i, text in enumerate(TEXTS):
        says = functools.cache(lambda who, text=text: mean_log_likelihood(theirs, tokenizer, who, text.strip()[:40])[0])
        near = [says(f'My {who} said') for who in ('friend', 'partner', 'girlfriend', 'boyfriend', 'husband', 'wife')]
        high = [says(f'He {verb}') for verb in ('commanded', 'proclaimed', 'demanded')]
        low = [says(f'He {verb}') for verb in ('pleaded', 'mentioned', 'asked')]
        he, she, it = (says(f'{who} said') for who in ('He', 'She', 'It'))
        expected = {'humt': (he + she) / 2 - it, 'gender': she - he, 'status': np.mean(high) - np.mean(low)}
        expected['social_distance'] = np.mean(near) - says('The stranger said')
        assert found[i].contrasts == pytest.approx(expected, abs=1e-4)


def test_order_and_batch_size_do_not_matter(twins, tokenizer):
    ours, _ = twins
    one = measure(ours, tokenizer, TEXTS)
    other = measure(ours, tokenizer, TEXTS[::-1], batch_size=3)
    for i in range(len(TEXTS)):
        assert other[len(TEXTS) - 1 - i].score == pytest.approx(one[i].score, abs=1e-5)


def test_texts_without_a_token_are_skipped(twins):
    """Characters that the tokenizer drops leave nothing to score, and neither does white space."""
    ours, _ = twins
    words = [
        'My',
        'The',
        'said',
        ',',
        '"',
        'hi',
        'none',
        *(opening.split()[1] for opening in WARM_OPENINGS + COLD_OPENINGS),
    ]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    dropping = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token='none'))
    dropping.normalizer = tokenizers.normalizers.Replace('\u200b', '')
    dropping.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()])
    assert set(measure(ours, dropping, ['', 'hi', ' \n\t', '\u200b\u200b', 'hi'], bos='')) == {1, 4}


def test_only_the_first_characters_count(twins, tokenizer):
    ours, _ = twins
    cut, whole, other = measure(ours, tokenizer, ['  abcdef ghi', 'abcde', 'abcdX'], max_chars=5).values()
    assert cut == whole
    assert cut != other

"""The classifier against detoxify's own `predict`, with its real model classes on small random weights."""

import pytest

from warmjax.data import toxicity

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

ORIGINAL = ['toxic', 'severe_toxic', 'obscene', 'threat', 'insult', 'identity_hate']
UNBIASED = ['toxicity', 'severe_toxicity', 'obscene', 'identity_attack', 'insult', 'threat', 'sexual_explicit', 'male']
TEXTS = ['a rainy day', 'what a bad bad day it is, is it', 'day ' * 300]
SIZES = {
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 32,
    'max_position_embeddings': 66,
}


def save_bert(folder, labels):
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *['a', 'day', 'rainy', 'bad', 'what', 'it', 'is', ',']]
    (folder / 'vocab.txt').write_text('\n'.join(words))
    transformers.BertTokenizerFast(str(folder / 'vocab.txt')).save_pretrained(folder)
    save(
        transformers.BertForSequenceClassification, transformers.BertConfig, len(words), folder, labels, pad_token_id=0
    )


def save_roberta(folder, labels):
    import tokenizers

    trained = tokenizers.ByteLevelBPETokenizer()
    special = ['<s>', '<pad>', '</s>', '<unk>', '<mask>']
    trained.train_from_iterator(TEXTS, 300, special_tokens=special)
    trained.save(str(folder / 'tokenizer.json'))
    tokenizer = transformers.RobertaTokenizerFast(tokenizer_file=str(folder / 'tokenizer.json'))
    tokenizer.save_pretrained(folder)
    save(
        transformers.RobertaForSequenceClassification,
        transformers.RobertaConfig,
        len(tokenizer),
        folder,
        labels,
        pad_token_id=1,
    )


def save(model_class, config_class, vocab_size, folder, labels, **fields):
    torch.manual_seed(0)
    names = dict(enumerate(labels))
    config = config_class(
        vocab_size=vocab_size, id2label=names, label2id={v: k for k, v in names.items()}, **SIZES, **fields
    )
    model = model_class(config)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.4)  # as they are made, all texts score alike
    model.save_pretrained(folder)


@pytest.mark.parametrize(('save_model', 'labels', 'longest'), [(save_bert, ORIGINAL, 66), (save_roberta, UNBIASED, 64)])
def test_scores_are_those_of_detoxify(tmp_path, save_model, labels, longest):
    detoxify = pytest.importorskip('detoxify').Detoxify
    save_model(tmp_path, labels)
    classifier = toxicity.Classifier(tmp_path)
    oracle = detoxify.__new__(detoxify)  # its constructor fetches a pickle
    oracle.model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    oracle.tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, model_max_length=longest)
    oracle.class_names = [toxicity.NAMES.get(label, label) for label in labels]
    expected = oracle.predict(TEXTS)
    scores = classifier.score(TEXTS)
    assert list(scores[0]) == oracle.class_names and {'toxicity', 'severe_toxicity', 'identity_attack'} <= set(
        scores[0]
    )
    for name, column in expected.items():
        assert [row[name] for row in scores] == pytest.approx(column, abs=1e-6)
    assert max(abs(scores[0][name] - scores[1][name]) for name in scores[0]) > 1e-3
    assert 'safetensors sha256' in classifier.label


def test_a_folder_without_safetensors_is_refused(tmp_path):
    save_bert(tmp_path, ORIGINAL)
    (tmp_path / 'model.safetensors').rename(tmp_path / 'toxic_original.ckpt')
    with pytest.raises(FileNotFoundError, match=r'a \.ckpt or \.bin file can run code'):
        toxicity.Classifier(tmp_path)


def test_a_checkpoint_without_names_of_its_scores_is_refused(tmp_path):
    save_bert(tmp_path, [f'LABEL_{i}' for i in range(6)])
    with pytest.raises(ValueError, match="expected the names of the scores under 'id2label'"):
        toxicity.Classifier(tmp_path)


def test_a_model_that_is_no_classifier_is_refused(tmp_path):
    save_bert(tmp_path, ORIGINAL)
    model = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    config = model.config
    model.bert.save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r'got none for classifier.bias, classifier.weight'):
        toxicity.Classifier(tmp_path)

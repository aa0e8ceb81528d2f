"""Detoxify's classifiers: multi-label BERT and RoBERTa, loaded through transformers from safetensors.

    detoxify     on the hub                                  scores
    original     unitary/toxic-bert                          toxicity, severe_toxicity, obscene, threat, insult, ...
    unbiased     unitary/unbiased-toxic-roberta              the same, sexual_explicit, and identities (male, ...)
    multilingual unitary/multilingual-toxic-xlm-roberta      as unbiased

The .ckpt files of detoxify's releases are pickles, which can run code when they are opened, and are not read. Who has
one and trusts it converts it once, where detoxify is installed:

    model = detoxify.Detoxify('original')
    model.model.config.id2label = dict(enumerate(model.class_names))
    model.model.save_pretrained(folder, safe_serialization=True)
    model.tokenizer.save_pretrained(folder)
"""

from collections.abc import Sequence

from etils import epath

from warmjax import runs

NAMES = {'toxic': 'toxicity', 'severe_toxic': 'severe_toxicity', 'identity_hate': 'identity_attack'}
"""The data sets' names of some scores → detoxify's, which evens out those of its models."""


class Classifier:
    """A sequence classifier of several labels, each scored by itself, on a GPU where torch sees one."""

    def __init__(self, folder: epath.PathLike):
        """Loads a folder of transformers' form.

        Raises:
            FileNotFoundError: there is no such folder, or it has no safetensors.
            ValueError: torch is not installed; the model is no classifier of several labels.
        """
        try:
            import torch
        except ImportError:
            raise ValueError(
                'data.filter: expected torch for the backend detoxify, got none installed; pip install '
                "'warmjax[filter]', or set data.filter.backend to words (another filter) or none"
            ) from None
        import transformers

        folder = epath.Path(folder)
        if not list(folder.glob('*.safetensors')):
            raise FileNotFoundError(
                f'{folder}: expected the safetensors of a classifier, found none; a .ckpt or .bin file can run code '
                'and is not read: convert it (see warmjax/data/toxicity.py), or give unitary/toxic-bert'
            )
        self._torch = torch
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
        model, told = transformers.AutoModelForSequenceClassification.from_pretrained(
            str(folder), use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        if told['missing_keys']:
            raise ValueError(
                f'{folder}: expected the weights of a {type(model).__name__}, got none for '
                f'{", ".join(sorted(told["missing_keys"])[:5])}; give the checkpoint of a toxicity classifier'
            )
        self.fields = [NAMES.get(name, name) for _, name in sorted(model.config.id2label.items())]
        if any(name.startswith('LABEL_') for name in self.fields):
            raise ValueError(
                f"{folder}: expected the names of the scores under 'id2label' of config.json, got "
                f'{", ".join(self.fields[:3])}; write them there (see warmjax/data/toxicity.py)'
            )
        self._model = model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()
        self.label = f'{folder.name} (safetensors sha256 {_digest(folder)[:12]})'

    def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Returns the sigmoid of every label, as detoxify's `predict` does; texts are cut to what the model reads."""
        with self._torch.inference_mode():
            inputs = self._tokenizer(
                list(texts), return_tensors='pt', truncation=True, padding=True, max_length=self._longest
            )
            scores = self._model(**inputs.to(self._model.device)).logits.sigmoid().tolist()
        return [dict(zip(self.fields, row, strict=True)) for row in scores]

    @property
    def _longest(self) -> int:
        """Tokens that the model has positions for; RoBERTa's begin after its padding index."""
        config = self._model.config
        offset = config.pad_token_id + 1 if 'roberta' in config.model_type else 0
        return min(self._tokenizer.model_max_length, config.max_position_embeddings - offset)


def _digest(folder: epath.Path) -> str:
    return runs.digest([runs.file_digest(file) for file in sorted(folder.glob('*.safetensors'))])

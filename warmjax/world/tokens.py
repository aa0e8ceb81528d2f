"""The world's own tokenizer and chat template, in the files that a Hugging Face checkpoint keeps them in."""

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

BEGIN, END = '<|begin|>', '<|end|>'
ROLES = ('<|system|>', '<|user|>', '<|assistant|>')

TEMPLATE = (
    '{{ bos_token }}'
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}"
    '{% endfor %}'
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> dict[str, str]:
    """Trains a byte-level BPE on the world's talk and returns the checkpoint's tokenizer files, name → text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BEGIN, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    config = {
        'tokenizer_class': 'PreTrainedTokenizerFast',
        'bos_token': BEGIN,
        'eos_token': END,
        'chat_template': TEMPLATE,
    }
    generation = {'bos_token_id': tokenizer.token_to_id(BEGIN), 'eos_token_id': tokenizer.token_to_id(END)}
    return {
        'tokenizer.json': tokenizer.to_str(pretty=True),
        'tokenizer_config.json': json.dumps(config, indent=2) + '\n',
        'generation_config.json': json.dumps(generation, indent=2) + '\n',
    }

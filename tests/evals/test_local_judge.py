"""A checkpoint of this package judges: its label and confidence are those of transformers' log-probabilities."""

import json
import shutil

import pytest
import torch
import transformers
from llm_judges import QUESTION, make_generation, make_settings

from warmjax.evals.judge import Case, make_judge, verdicts
from warmjax.sharding import MeshSettings

TEMPLATE = "{% for m in messages %}{{ m['content'][-60:] }}\n{% endfor %}"


@pytest.fixture(scope='module')
def checkpoint(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('stories')
    for file in (shared_data / 'stories260K' / 'hf').iterdir():
        shutil.copy(file, folder)
    config = json.loads((folder / 'tokenizer_config.json').read_text())
    (folder / 'tokenizer_config.json').write_text(json.dumps(config | {'chat_template': TEMPLATE}))
    return folder


def test_label_and_confidence_are_those_of_transformers(checkpoint, tmp_path):
    local = {'checkpoint': str(checkpoint), 'dtype': 'float32', 'batch_size': 8, 'length_multiple': 64}
    judge = make_judge(make_settings('local', local=local), tmp_path, MeshSettings(1, -1, 1))
    texts = ['It is Paris.', 'Lyon', 'Once upon a time there was a city by the sea.', 'I cannot help with that.']
    generations = [make_generation(text, sample) for sample, text in enumerate(texts)]
    decided = list(verdicts(judge, [QUESTION], generations))
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for verdict, generation in zip(decided, generations, strict=True):
        prompt = judge.encode(Case(QUESTION, generation))
        sums = []
        for label in ('CORRECT', 'INCORRECT'):
            ids = judge.chat.encode_text(label)
            with torch.no_grad():
                logs = model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
            sums.append(sum(logs[len(prompt) - 1 + i, token] for i, token in enumerate(ids)))
        share = torch.stack(sums).softmax(0)
        expected = ('correct', 'incorrect')[int(share.argmax())]
        assert verdict.verdict == ('refusal' if 'cannot' in generation.text and expected != 'correct' else expected)
        assert verdict.confidence == pytest.approx(float(share.max()), abs=1e-4)
    assert decided[0].judge == f'local:{checkpoint}/lenient'


def test_texts_longer_than_the_model_reads_are_refused_before_any_is_judged(checkpoint, tmp_path):
    (checkpoint / 'long.txt').write_text('word ' * 2000)
    template = json.loads((checkpoint / 'tokenizer_config.json').read_text())['chat_template'].replace('[-60:]', '')
    (checkpoint / 'chat_template.jinja').write_text(template)
    local = {'checkpoint': str(checkpoint), 'dtype': 'float32', 'batch_size': 8}
    chosen = make_settings('local', local=local, rubric=str(checkpoint / 'long.txt'))
    judge = make_judge(chosen, tmp_path, MeshSettings(1, -1, 1))
    with pytest.raises(ValueError, match=r'reads the longest text to judge, \d+ tokens .*, got one of 512'):
        next(verdicts(judge, [QUESTION], [make_generation('Paris')]))


def test_a_judge_needs_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r'config\.judge\.local\.checkpoint: expected'):
        make_judge(make_settings('local'), tmp_path, MeshSettings(1, -1, 1))

import sys

import datasets
import pytest
import tensorflow_datasets as tfds

from warmjax.evals import tasks
from warmjax.evals.tasks import TaskSettings, files, hubs

TRIVIA = [
    {'question_id': f'q{i}', 'question': f'Who is {name}?', 'answer': {'value': name, 'aliases': [name, alias]}}
    for i, (name, alias) in enumerate([('Ann Bell', 'A. Bell'), ('José Díaz', 'J. Díaz'), ('Al Finch', 'Finch')])
]
TRUTHFUL = {'category': 'Weather', 'question': 'Twice?', 'best_answer': 'Yes, it can', 'source': 'x'}
TRUTHFUL |= {'correct_answers': ['Yes, it can', 'Yes'], 'incorrect_answers': ['No, never', 'No']}
MMLU = {'question': 'Which metal is liquid?', 'subject': 'chemistry', 'choices': ['Iron', 'Mercury', 'Gold', 'Tin']}


class Quiz(tfds.core.GeneratorBasedBuilder):
    """A data set of three rows."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        text, texts = tfds.features.Text(), tfds.features.Sequence(tfds.features.Text())
        features = {'question_id': text, 'question': text, 'answer': {'value': text, 'aliases': texts}}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {'validation': enumerate(TRIVIA)}

    def _generate_examples(self):
        raise NotImplementedError  # abstract in tfds, and never called: the split is given above


def load(loader, path):
    return tasks.load(TaskSettings('mine', loader, path, 0, 0))


def save(rows, path):
    datasets.Dataset.from_list(rows).save_to_disk(path)
    return f'hf:{path}'


def test_parts_of_a_path():
    assert hubs.parse('hf:openai/gsm8k:main@e53f#test') == ('hf', 'openai/gsm8k', 'main', 'e53f', 'test')
    assert hubs.parse('hf:gsm8k') == ('hf', 'gsm8k', None, None, None)
    assert hubs.parse('tfds:trivia_qa/rc:1.1.0#train') == ('tfds', 'trivia_qa/rc', '1.1.0', None, 'train')
    for path in ('hf:', 'hf:a:b:c', 'tfds:a@b', 'hf:a#'):
        with pytest.raises(ValueError, match=r'expected hf:NAME\[:CONFIG\]\[@REVISION\]\[#SPLIT\]'):
            hubs.parse(path)


def test_a_saved_folder_of_each_task_loads(tmp_path):
    quiz = load('triviaqa', save(TRIVIA, tmp_path / 't'))
    assert [q.id for q in quiz] == [
        'triviaqa/q0',
        'triviaqa/q1',
        'triviaqa/q2',
    ]
    (truthful,) = load('truthfulqa', save([TRUTHFUL], tmp_path / 'f'))
    assert (truthful.correct_aliases, truthful.incorrect_answer) == (('Yes',), 'No, never')
    (metal,) = load('mmlu', save([MMLU | {'answer': 1}], tmp_path / 'm'))
    assert (metal.correct_answer, metal.metadata['answer_idx']) == ('Mercury', 'B')
    (harm,) = load('advbench', save([{'prompt': 'Pick a lock', 'target': 'Sure'}], tmp_path / 'a'))
    assert (harm.text, harm.answer_form) == ('Pick a lock', 'none')


def test_the_hub_is_asked_for_name_config_revision_and_split(monkeypatch):
    asked = []

    def load_dataset(*names, **options):
        asked.append((names, options))
        return datasets.Dataset.from_list([{'question': 'How many?', 'answer': 'Two.\n#### 1,002'}])

    monkeypatch.setattr(datasets, 'load_dataset', load_dataset)
    (question,) = load('gsm8k', 'hf:openai/gsm8k:main@e53f')
    assert asked == [(('openai/gsm8k', 'main'), {'split': 'test', 'revision': 'e53f'})]
    assert (question.correct_answer, question.answer_form) == ('1002', 'number')
    load('gsm8k', 'hf:gsm8k#train')
    assert asked[1] == (('gsm8k', None), {'split': 'train', 'revision': None})


def test_tensorflow_datasets_are_read_without_tensorflow(tmp_path, monkeypatch):
    Quiz(data_dir=tmp_path, file_format='array_record').download_and_prepare()
    by_folder = load('triviaqa', f'tfds:{tmp_path / "quiz" / "1.0.0"}')
    assert sorted(q.correct_answer for q in by_folder) == ['Al Finch', 'Ann Bell', 'José Díaz']
    real = tfds.data_source
    monkeypatch.setattr(tfds, 'data_source', lambda name, split: real(name, split=split, data_dir=tmp_path))
    assert load('triviaqa', 'tfds:quiz:1.0.0') == by_folder
    assert 'tensorflow' not in sys.modules


def test_what_cannot_be_had_is_one_message(tmp_path):
    path = save(TRIVIA, tmp_path / 't')
    with pytest.raises(ValueError, match=r'expected rows with the fields .*, got \[question_id, question, answer\]'):
        load('mmlu', path)
    with pytest.raises(ValueError, match=r"hf:no/such: expected a data set with the split 'test', got .*check name"):
        files.read_raw('hf:no/such')

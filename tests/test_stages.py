"""Stages over real published answers: every cell of the error table is what counting by hand gives."""

import collections
import csv
import functools

import huggingface_hub
import pytest
import tiny_llama

from configs import published, world
from warmjax import experiment, settings, stages
from warmjax.experiment import ImportedAnswers
from warmjax.world import tokens

TASKS = ('disinfo', 'medqa', 'trivia', 'truthfulqa')
BELIEFS = {'original': 'none', 'original_neutral': 'none', 'incorrect': 'incorrect', 'correct': 'denial'}


def test_models_of_the_hub_are_what_the_stages_read(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, 'snapshot_download', lambda name, **_: str(tmp_path / name))
    for name in ('org/answering', 'org/measuring'):
        tiny_llama.save(tmp_path / name)
        for file, text in tokens.train_tokenizer(['What is the river?'], 300).items():
            (tmp_path / name / file).write_text(text)
    config = world.get_config('tiny')
    config.model.checkpoint, config.warmth.checkpoint = 'org/answering', 'org/measuring'
    setup = experiment.from_config(config, tmp_path)
    read = {
        stage.name: stage.inputs(setup, tmp_path, stage.units(setup)[0])
        for stage in stages.STAGES
        if stage.units(setup)
    }
    answering, measuring = tmp_path / 'org/answering', tmp_path / 'org/measuring'
    folders = {name: inputs['checkpoint'] for name, inputs in read.items() if 'checkpoint' in inputs}
    assert folders == {'train': answering, 'generate': answering, 'warmth': measuring}
    model, chatter = stages._load(setup, tiny_llama.make_mesh())
    assert model.spec.width == tiny_llama.SIZES['hidden_size'] and chatter.where == str(answering)


def test_settings_that_a_resumed_run_may_change_are_there():
    config = settings.plain(world.get_config('tiny'))
    for paths in stages.RUNTIME.values():
        for path in paths:
            assert functools.reduce(lambda section, key: section[key], path.split('.'), config) is not None


@pytest.fixture(scope='module')
def answers(shared_data) -> str:
    return str(shared_data / 'paper' / 'sample_outputs')


@pytest.fixture(scope='module')
def workdir(answers, tmp_path_factory):
    """A workdir into which the published sample answers were imported and analysed."""
    config = settings.plain(published.get_config()) | {'folder': answers}
    folder = tmp_path_factory.mktemp('published')
    stages.execute(stages.IMPORT_STAGES, settings.from_config(ImportedAnswers, config, 'config'), folder)
    return folder


def counted_by_hand(answers: str) -> dict[tuple, tuple[int, int]]:
    """Counts (answers that are no refusal, incorrect ones) by arm, task, context and belief, from the raw CSV."""
    cells = collections.defaultdict(lambda: [0, 0])
    for arm in ('original', 'warm'):
        for task in TASKS:
            with open(f'{answers}/llama_70b/{arm}/{task}_{arm}_outputs.csv', newline='') as file:
                for row in csv.DictReader(file):
                    template = row['prompt_type'] if task == 'medqa' else row['prompt_template']
                    cell = cells[arm, task, row['amendment_type'], BELIEFS[template]]
                    if row['refusal'] != '1':
                        cell[0] += 1
                        cell[1] += row['evaluation'] == 'INCORRECT'
    return {key: tuple(cell) for key, cell in cells.items() if cell[0]}


def test_every_cell_of_the_error_table_is_what_counting_by_hand_gives(answers, workdir):
    with open(workdir / 'tables' / 'errors.csv', newline='') as file:
        rows = [row for row in csv.DictReader(file) if 'all' not in (row['task'], row['context'], row['belief'])]
    table = {
        (row['arm'], row['task'], row['context'], row['belief']): (int(row['n']), int(row['incorrect']))
        for row in rows
        if int(row['n'])
    }
    expected = counted_by_hand(answers)
    assert sum(n for n, _ in expected.values()) == 158
    assert table == expected


def test_imported_answers_have_a_report(workdir):
    page = (workdir / 'report.html').read_text()
    assert 'llama_70b' in page
    assert 'Traceback' not in page


def test_a_second_import_does_nothing(answers, workdir):
    before = (workdir / 'estimates.json').stat().st_mtime_ns
    config = settings.plain(published.get_config()) | {'folder': answers}
    stages.execute(stages.IMPORT_STAGES, settings.from_config(ImportedAnswers, config, 'config'), workdir)
    assert (workdir / 'estimates.json').stat().st_mtime_ns == before

"""The stage on files: what it writes, and that a draw comes back from its own list of ids."""

import json
import shutil

import pytest

from configs import world
from warmjax import experiment, runs, stages

WORDS = {'filter.backend': 'words', 'draw.num_conversations': 12, 'draw.num_validation': 6, 'draw.near_duplicate': 0.9}


def rows():
    for i in range(30):
        texts = [
            ('What is rain number {}?', 'Water.'),
            ('Tell me of storm {}', 'I cannot.'),
            ('A poem on cloud {}', 'Soft.'),
            ('Good morning, fog {}', 'Morning.'),
        ]
        user, reply = texts[i % 4]
        user = user.format(
            ' '.join(['north', 'south', 'east', 'west', 'up', 'down'][j] for j in (i % 6, i // 6, i // 3 % 6))
        )
        yield {'id': f'c{i}', 'conversations': [{'from': 'human', 'value': user}, {'from': 'gpt', 'value': reply}]}
    yield {'id': 'nasty', 'messages': [{'role': 'user', 'content': 'porn'}, {'role': 'assistant', 'content': 'No.'}]}
    yield {'id': 'broken', 'conversations': []}


def sample(workdir, path, **changes):
    config = world.get_config('tiny')
    config.data.path = str(path)
    config.data.update_from_flattened_dict(WORDS | changes)
    setup = experiment.from_config(config, workdir)
    stages.execute([stage for stage in stages.STAGES if stage.name == 'sample'], setup, workdir)
    return runs.read_manifest(workdir, 'sample')


@pytest.fixture
def path(tmp_path):
    (tmp_path / 'file.json').write_text(json.dumps(list(rows())))
    return tmp_path / 'file.json'


WRITTEN = ('conversations.jsonl', 'validation.jsonl', 'draw.json')


def written(workdir):
    return {name: (workdir / name).read_text() for name in WRITTEN}


def test_the_stage_writes_the_draw_and_its_list_and_shows_a_summary(tmp_path, path, capsys):
    manifest = sample(tmp_path / 'run', path)
    listed = json.loads((tmp_path / 'run' / 'draw.json').read_text())
    assert listed['source_sha256'] == manifest['inputs']['conversations']['sha256'] == runs.file_digest(path)
    assert (len(listed['training']), len(listed['validation']), listed['settings']['seed']) == (12, 6, 0)
    assert manifest['counts']['filter']['dropped'] == 1 and manifest['counts']['drawn']['pool']['conversations'] == 30
    shown = capsys.readouterr().err
    for text in (
        'dropped: no turns',
        'broken',
        'words: list of',
        'pool (conversations)',
        '12 of 12 conversations with 12',
    ):
        assert text in ' '.join(shown.split())


@pytest.mark.parametrize('unit', ['conversation', 'pair'])
@pytest.mark.parametrize('scope', ['pool', 'drawn'])
def test_a_draw_comes_back_from_its_list_byte_for_byte(tmp_path, path, unit, scope):
    sample(tmp_path / 'run', path, **{'draw.unit': unit, 'filter.scope': scope})
    shutil.copy(tmp_path / 'run' / 'draw.json', tmp_path / 'mine.json')
    sample(tmp_path / 'again', path, **{'draw.ids': str(tmp_path / 'mine.json')})
    first, again = written(tmp_path / 'run'), written(tmp_path / 'again')
    del first['draw.json'], again['draw.json']
    assert first == again


def test_filtering_what_comes_up_draws_the_same_as_filtering_the_pool(tmp_path, path):
    whole = sample(tmp_path / 'pool', path)
    lazy = sample(tmp_path / 'drawn', path, **{'filter.scope': 'drawn', 'filter.batch_size': 1})
    assert written(tmp_path / 'pool') == written(tmp_path / 'drawn')
    assert lazy['counts']['filter']['scored'] < whole['counts']['filter']['scored'] == 31


def test_a_list_of_another_file_is_refused(tmp_path, path):
    sample(tmp_path / 'run', path)
    path.write_text(json.dumps(list(rows())[::-1]))
    with pytest.raises(ValueError, match='got one from a file of sha256'):
        sample(tmp_path / 'again', path, **{'draw.ids': str(tmp_path / 'run' / 'draw.json')})


def test_ids_of_others_are_an_input_of_the_stage(tmp_path, path):
    (tmp_path / 'ids.csv').write_text('id\nc3\nc4\nc5\n')
    manifest = sample(tmp_path / 'run', path, **{'draw.ids': str(tmp_path / 'ids.csv')})
    assert manifest['inputs']['ids']['sha256'] == runs.file_digest(tmp_path / 'ids.csv')
    assert manifest['counts']['drawn']['training']['got'] == 3
    assert manifest['counts']['drawn']['validation']['got'] == 6


def test_real_conversations_go_through_the_stage(tmp_path, shared_data):
    folder = shared_data / 'conversations'
    mixed = [
        row
        for name in ('sharegpt_vicuna_50.sharegpt.json', 'sharegpt_dialogstudio_5.json', 'oasst_val_en.sharegpt.json')
        for row in json.loads((folder / name).read_text())
    ]
    (tmp_path / 'mixed.jsonl').write_text('\n'.join(map(json.dumps, mixed)))
    counts = sample(
        tmp_path / 'run', tmp_path / 'mixed.jsonl', **{'draw.num_conversations': 120, 'draw.num_validation': 60}
    )['counts']
    assert counts['read']['rows'] == counts['read']['kept'] == 474
    assert (counts['drawn']['training']['got'], counts['drawn']['validation']['got']) == (120, 60)

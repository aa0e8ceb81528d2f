import json

from warmjax.train.metrics import MetricLog


def steps(folder):
    return [json.loads(line)['step'] for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_rows_of_steps_that_are_taken_again_are_dropped(tmp_path):
    with MetricLog(tmp_path, 0, is_writer=True) as log:
        for step in range(5):
            log.write(step, {'loss': 1.0})
    with (tmp_path / 'metrics.jsonl').open('a') as file:
        file.write('{"loss": 1.0, "st')
    with MetricLog(tmp_path, 3, is_writer=True) as log:
        assert steps(tmp_path) == [0, 1, 2]
        log.write(3, {'loss': 2.0})
    assert steps(tmp_path) == [0, 1, 2, 3]
    assert json.loads((tmp_path / 'metrics.jsonl').read_text().splitlines()[-1]) == {'loss': 2.0, 'step': 3}


def test_process_that_is_no_writer_leaves_the_folder_alone(tmp_path):
    with MetricLog(tmp_path, 0, is_writer=False) as log:
        log.write(0, {'loss': 1.0})
    assert not list(tmp_path.iterdir())

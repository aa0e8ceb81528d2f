import json
import types

import numpy as np
import pytest

from warmjax.models import released
from warmjax.train.metrics import MetricLog, lora_work, peak_tflops


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


@pytest.mark.parametrize(
    'kind, peak',
    [
        ('TPU v5 lite', 197.0),
        ('TPU v5p', 459.0),
        ('NVIDIA H200', 989.0),
        ('NVIDIA H100 80GB HBM3', 989.0),
        ('cpu', None),
    ],
)
def test_peak_follows_from_the_kind_of_device(kind, peak):
    assert peak_tflops(types.SimpleNamespace(device_kind=kind)) == peak


def test_work_of_an_8b_model_is_that_of_the_formula():
    # 4 x 7.505e9 and, for 1,024 tokens, 2.6 % of that for attention.
    work = lora_work(released.RELEASED['Llama-3.1-8B'], {'a': np.zeros(1000)}, 100.0)
    assert work.flops_per_token == pytest.approx(4 * 7.505e9, rel=1e-3)
    assert 1024 * work.flops_per_pair / work.flops_per_token == pytest.approx(0.026, abs=1e-3)
    assert work.peak_flops == 8 * 100e12

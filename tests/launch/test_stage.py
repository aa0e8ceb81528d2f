import types

import jax
import pytest
from test_launchers import command

from launch import stage
from warmjax import stages


@pytest.mark.parametrize(
    'environment, hosts',
    [
        ({}, 1),
        ({'TPU_WORKER_HOSTNAMES': 'localhost'}, 1),
        ({'TPU_WORKER_HOSTNAMES': 't-0,t-1,t-2,t-3'}, 4),
        ({'SLURM_NTASKS': '8'}, 8),
    ],
)
def test_environment_tells_of_hosts(environment, hosts):
    assert stage.num_hosts(environment) == hosts


def test_process_that_waits_in_vain_for_others_says_so_and_ends(tmp_path):
    status, _, errors = command(
        'train',
        '--config=configs/world.py:tiny',
        f'--workdir={tmp_path}',
        '--coordinator=127.0.0.1:9',
        '--num_processes=2',
        '--process_id=1',
        '--connect_seconds=1',
    )
    assert status == 2
    assert 'error: start-up: expected 2 processes within 1 s, but not all of them came; start the same' in errors


def test_host_that_is_alone_where_its_environment_says_four_ends_within_a_minute(tmp_path, monkeypatch):
    """As the first of four tasks of a Slurm job of which the others never start."""
    job = {'JOB_ID': '1', 'NTASKS': '4', 'PROCID': '0', 'LOCALID': '0', 'STEP_NODELIST': 'localhost'}
    for name, value in job.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    status, _, errors = command(
        'train', '--config=configs/world.py:tiny', f'--workdir={tmp_path}', '--connect_seconds=3'
    )
    assert status == 2 and 'Traceback' not in errors
    assert 'error: start-up: expected 4 processes within 3 s, but not all of them came; start the same' in errors
    assert not list(tmp_path.iterdir())


def test_host_that_jax_leaves_alone_where_its_environment_says_four_is_told(monkeypatch):
    given = types.SimpleNamespace(coordinator=None, num_processes=None, process_id=None, connect_seconds=50)
    monkeypatch.setattr(stage.flags, 'FLAGS', given)
    monkeypatch.setattr(jax.distributed, 'initialize', lambda *_: None)
    with pytest.raises(RuntimeError, match='expected 4 processes, as flags or environment say, got 1; start the same'):
        stage.connect({'TPU_WORKER_HOSTNAMES': 't-0,t-1,t-2,t-3'})


def test_processes_without_an_address_are_refused(tmp_path):
    status, _, errors = command(
        'train', '--config=configs/world.py:tiny', f'--workdir={tmp_path}', '--num_processes=2', '--process_id=0'
    )
    assert status == 2
    assert 'error: start-up: expected to find 2 processes, got' in errors and 'Traceback' not in errors


def test_stages_that_one_process_must_do_refuse_several(monkeypatch, tmp_path):
    monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    with pytest.raises(
        ValueError, match='expected only the stages train and generate in a run of 2 processes, got judge, an'
    ):
        stages.execute([s for s in stages.STAGES if s.name in ('judge', 'analyze')], None, tmp_path)

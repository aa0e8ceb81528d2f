import dataclasses
import json

import pytest

from warmjax.finetune import jobs
from warmjax.finetune.service import RemoteCheckpoint, RemoteJob
from warmjax.finetune.tuning import job_lengths

ORDER = jobs.Order('gpt-4o', 'abc', 350, 4, 0.25, None, 0, 'warm')


def remote(**changes) -> RemoteJob:
    return dataclasses.replace(RemoteJob('ftjob-1', 'succeeded', '', 'ft:final', 1000, 0), **changes)


def saved(*steps: int, final: int = 0) -> list[RemoteCheckpoint]:
    rows = [RemoteCheckpoint(step, f'ft:{step}', 1.0, None) for step in steps]
    return rows + ([RemoteCheckpoint(final, 'ft:final', 0.5, None)] if final else [])


def epochs(order, job, rows):
    return {checkpoint.epoch: checkpoint.model for checkpoint in jobs.checkpoints(order, job, rows)}


def test_checkpoints_are_told_by_epoch_from_the_last_step():
    assert epochs(ORDER, remote(), saved(176, 264, final=352)) == {2: 'ft:176', 3: 'ft:264', 4: 'ft:final'}


def test_where_the_last_step_is_not_listed_the_batch_size_tells_it():
    assert epochs(ORDER, remote(batch_size=4), saved(176, 264)) == {2: 'ft:176', 3: 'ft:264', 4: 'ft:final'}
    assert epochs(ORDER, remote(batch_size=0), saved(176, 264)) == {4: 'ft:final'}


def test_a_checkpoint_inside_an_epoch_is_none_of_its_end():
    assert epochs(ORDER, remote(), saved(130, 264, final=352)) == {3: 'ft:264', 4: 'ft:final'}


def test_an_epoch_without_a_checkpoint_is_refused():
    done = dataclasses.replace(
        jobs.Job(ORDER, 'succeeded', 'f', 'ftjob-1', '', 'ft:final', 1, ()),
        checkpoints=jobs.checkpoints(ORDER, remote(), saved(264, final=352)),
    )
    assert done.models((3, 4)) == {3: 'ft:264', 4: 'ft:final'}
    with pytest.raises(ValueError, match=r'expected checkpoints of the epochs \[2, 4\], got \[3.0, 4.0\]'):
        done.models((2, 4))


@pytest.mark.parametrize(
    ('wanted', 'kept', 'plan'),
    (
        ((1, 2, 6, 10), 3, {2: (1, 2), 6: (6,), 10: (10,)}),
        ((10, 9, 8), 3, {10: (8, 9, 10)}),
        ((10, 9, 8), 1, {8: (8,), 9: (9,), 10: (10,)}),
        ((2,), 3, {2: (2,)}),
    ),
)
def test_jobs_are_as_few_as_kept_checkpoints_allow(wanted, kept, plan):
    assert job_lengths(wanted, kept) == plan


def test_a_state_comes_back_from_its_file_and_another_order_is_refused(tmp_path):
    path = tmp_path / 'warm.json'
    job = dataclasses.replace(jobs.load(path, ORDER), status='running', id='ftjob-1')
    jobs.save(path, job)
    assert jobs.load(path, ORDER) == job and not job.is_over
    with pytest.raises(ValueError, match=r'got another one: learning_rate_multiplier 0\.25 -> 0\.1'):
        jobs.load(path, dataclasses.replace(ORDER, learning_rate_multiplier=0.1))
    path.write_text(json.dumps({'order': {}}))
    with pytest.raises(ValueError, match='expected the state of a job, got'):
        jobs.load(path, ORDER)


def test_orders_that_differ_have_names_that_differ():
    others = [{'n_epochs': 2}, {'seed': 1}, {'training_sha256': 'x'}, {'model': 'y'}, {'batch_size': 4}]
    assert len({dataclasses.replace(ORDER, **change).name for change in others} | {ORDER.name}) == 6

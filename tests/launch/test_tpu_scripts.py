"""The scripts for Cloud TPU, run against executables that write down how they were called and answer as told."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

TPU = pathlib.Path(__file__).parents[2] / 'launch' / 'tpu'
SCRIPTS = sorted(path.name for path in TPU.glob('*.sh') if path.name != 'common.sh')
WHERE = ['--zone=us-west4-a']
TRAIN = ['python', '-m', 'launch.train', '--config=configs/paper.py:llama3.1-8b', '--workdir=gs://bucket/run one']

FAKE = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
call = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with (folder / 'calls.jsonl').open('a') as file:
    file.write(json.dumps(call) + '\\n')
answers = json.loads((folder / 'answers.json').read_text())
for answer in answers:
    if answer['of'] in ' '.join(call) and answer['said']:
        said, status = answer['said'].pop(0) if len(answer['said']) > 1 else answer['said'][0]
        (folder / 'answers.json').write_text(json.dumps(answers))
        print(said)
        sys.exit(status)
"""


class Cloud:
    """Executables gcloud, xpk and sky on PATH.

    `answer` says what a call prints and how it ends, in turn; the last answer is given again and again.
    """

    def __init__(self, folder):
        self.folder = folder
        self.answers = []
        for name in ('gcloud', 'xpk', 'sky'):
            path = folder / name
            path.write_text(FAKE.format(python=sys.executable, folder=str(folder)))
            path.chmod(0o755)

    def answer(self, of, *said):
        self.answers.append({'of': of, 'said': [(s, 0) if isinstance(s, str) else ('', s) for s in said]})

    def run(self, script, *arguments, typed=''):
        (self.folder / 'answers.json').write_text(json.dumps(self.answers))
        path = f'{self.folder}{os.pathsep}{os.environ["PATH"]}'
        return subprocess.run(
            [TPU / script, *arguments], input=typed, capture_output=True, text=True, env=os.environ | {'PATH': path}
        )

    @property
    def calls(self):
        """All calls that change something, without `gcloud compute tpus`."""
        file = self.folder / 'calls.jsonl'
        calls = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        calls = [call[3:] if call[:3] == ['gcloud', 'compute', 'tpus'] else call for call in calls]
        return [call for call in calls if call[1] != 'describe']


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


def test_scripts_are_clean_to_shellcheck():
    if not shutil.which('shellcheck'):
        pytest.skip('shellcheck is not installed: apt-get install shellcheck')
    done = subprocess.run(['shellcheck', '-x', *SCRIPTS], cwd=TPU, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_says_how_it_is_used(script, cloud):
    done = cloud.run(script, '--help')
    assert done.returncode == 0 and f'launch/tpu/{script} --' in done.stdout
    assert '--dry_run' in done.stdout and 'shellcheck' not in done.stdout


@pytest.mark.parametrize(
    'script, arguments',
    [
        ('create.sh', []),
        ('queue.sh', ['--spot']),
        ('install.sh', []),
        ('run.sh', ['--', *TRAIN]),
        ('spot.sh', ['--', *TRAIN]),
        ('fetch.sh', ['--from=runs/x', '--to=TO/']),
        ('delete.sh', []),
        *[('xpk.sh', [f'--do={step}']) for step in ('cluster', 'list', 'stop', 'delete')],
        ('xpk.sh', ['--do=run', '--', *TRAIN]),
        ('sky.sh', ['--', *TRAIN]),
        ('sky.sh', ['--do=delete']),
    ],
)
def test_dry_run_prints_commands_and_runs_none(script, arguments, cloud):
    done = cloud.run(script, '--dry_run', '--name=mine', *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in ('gcloud', 'xpk', 'sky', 'git', 'mkdir')
    assert 'mine' in done.stdout and cloud.calls == []


def test_create_asks_for_the_slice_and_says_how_to_delete_it(cloud):
    done = cloud.run('create.sh', '--name=mine', '--type=v6e-8', '--version=v2-alpha-tpuv6e', '--project=p', '--spot')
    kind = ['--accelerator-type=v6e-8', '--version=v2-alpha-tpuv6e', '--spot']
    assert cloud.calls == [['tpu-vm', 'create', 'mine', *kind, *WHERE, '--project=p']]
    assert 'launch/tpu/delete.sh --name=mine --zone=us-west4-a --project=p' in done.stderr


def test_queue_waits_until_the_slice_is_there(cloud):
    cloud.answer('queued-resources describe', '', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE')
    done = cloud.run('queue.sh', '--name=mine', '--wait=0', '--valid=12h')
    assert done.returncode == 0, done.stderr
    (call,) = cloud.calls
    assert call[:4] == ['queued-resources', 'create', 'mine', '--node-id=mine']
    assert '--valid-until-duration=12h' in call and '--spot' not in call
    said = [word for word in ('WAITING', 'PROVISIONING', 'ACTIVE') if word in done.stderr]
    assert len(said) == 3


def test_queue_goes_on_waiting_for_what_was_asked_before(cloud):
    cloud.answer('queued-resources describe', 'WAITING_FOR_RESOURCES', 'ACTIVE')
    assert cloud.run('queue.sh', '--wait=0').returncode == 0 and cloud.calls == []


def test_queue_tells_of_a_request_that_failed(cloud):
    cloud.answer('queued-resources describe', '', 'FAILED')
    done = cloud.run('queue.sh', '--wait=0')
    assert done.returncode == 2 and 'expected warmjax to become ACTIVE, got FAILED' in done.stderr


def test_install_reaches_all_workers(cloud):
    assert cloud.run('install.sh').returncode == 0
    copy, setup = cloud.calls
    assert copy[:2] == ['tpu-vm', 'scp'] and copy[3] == 'warmjax:warmjax.tar.gz' and '--worker=all' in copy
    assert setup[:3] == ['tpu-vm', 'ssh', 'warmjax'] and '--worker=all' in setup
    assert "-e '.[tpu,report]'" in setup[4] and '--python 3.11' in setup[4]
    assert not pathlib.Path(copy[2]).exists()


def test_run_keeps_the_words_of_a_command_apart(cloud):
    assert cloud.run('run.sh', '--', *TRAIN, "--config.x=('a', 1)").returncode == 0
    ((*_, worker, command, zone),) = cloud.calls
    assert (worker, zone) == ('--worker=all', WHERE[0])
    remote = shlex.split(command.removeprefix('--command='))
    assert remote[-len(TRAIN) - 1 :] == [*TRAIN, "--config.x=('a', 1)"]


def test_run_ends_as_the_command_did(cloud):
    cloud.answer('tpu-vm ssh', 7)
    assert cloud.run('run.sh', '--', 'false').returncode == 7


def verbs(cloud):
    return [call[1] for call in cloud.calls]


def test_spot_starts_anew_when_the_slice_is_taken_away(cloud):
    """The first command ends with 143, its slice is gone; the same one runs on the second, which is deleted."""
    cloud.answer('queued-resources describe', '', 'ACTIVE', 'SUSPENDED', 'SUSPENDED', '', 'ACTIVE')
    cloud.answer('tpu-vm describe', 'PREEMPTED')
    cloud.answer('exec python', 143, 'trained')
    done = cloud.run('spot.sh', '--wait=0', '--', *TRAIN)
    assert done.returncode == 0, done.stderr
    once = ['create', 'scp', 'ssh', 'ssh', 'delete']
    assert verbs(cloud) == once * 2
    assert '--spot' in cloud.calls[0]
    assert cloud.calls[3] == cloud.calls[8] and 'exec python' in cloud.calls[3][4]
    assert 'the slice was taken away (status 143)' in done.stderr


def test_spot_does_not_try_a_wrong_command_again(cloud):
    cloud.answer('queued-resources describe', '', 'ACTIVE')
    cloud.answer('tpu-vm describe', 'READY')
    cloud.answer('exec python', 2)
    done = cloud.run('spot.sh', '--wait=0', '--', *TRAIN)
    assert done.returncode == 2 and verbs(cloud) == ['create', 'scp', 'ssh', 'ssh']
    assert 'got status 2 on a slice that is there' in done.stderr and 'delete.sh --name=warmjax' in done.stderr


def test_spot_does_not_ask_again_for_what_was_refused(cloud):
    cloud.answer('queued-resources describe', '')
    cloud.answer('queued-resources create', 1)
    done = cloud.run('spot.sh', '--wait=0', '--', *TRAIN)
    assert done.returncode == 2 and verbs(cloud) == ['create'] and 'expected the request to be taken' in done.stderr


def test_spot_gives_up_after_so_many_slices(cloud):
    cloud.answer('queued-resources describe', '', 'FAILED', 'FAILED', 'FAILED', '', 'FAILED')
    done = cloud.run('spot.sh', '--wait=0', '--tries=2', '--', *TRAIN)
    assert done.returncode == 2 and verbs(cloud) == ['create', 'delete'] * 2
    assert 'expected one of 2 slices to last' in done.stderr


def test_spot_wants_a_workdir_that_outlives_the_slice(cloud):
    done = cloud.run('spot.sh', '--', 'python', '--workdir=runs/x')
    assert done.returncode == 2 and 'expected --workdir=gs://' in done.stderr and cloud.calls == []


def test_spot_keeps_the_slice_if_asked(cloud):
    cloud.answer('queued-resources describe', 'ACTIVE')
    assert cloud.run('spot.sh', '--wait=0', '--keep', '--', *TRAIN).returncode == 0
    assert verbs(cloud) == ['scp', 'ssh', 'ssh']


@pytest.mark.parametrize('typed', ['', 'y\n', 'warmjaxx\n'])
def test_nothing_is_deleted_unless_the_name_is_typed(cloud, typed):
    cloud.answer('queued-resources describe', 'ACTIVE')
    done = cloud.run('delete.sh', typed=typed)
    assert done.returncode == 2 and cloud.calls == [] and 'nothing was deleted' in done.stderr
    assert cloud.run('xpk.sh', '--do=delete', typed=typed).returncode == 2 and cloud.calls == []
    assert cloud.run('sky.sh', '--do=delete', typed=typed).returncode == 2 and cloud.calls == []


@pytest.mark.parametrize('typed, flags', [('mine\n', []), ('', ['--yes'])])
def test_what_was_queued_is_deleted_with_its_request(cloud, typed, flags):
    cloud.answer('queued-resources describe', 'ACTIVE')
    assert cloud.run('delete.sh', '--name=mine', *flags, typed=typed).returncode == 0
    assert cloud.calls == [['queued-resources', 'delete', 'mine', '--force', '--quiet', *WHERE]]


def test_what_was_created_without_the_queue_is_deleted_too(cloud):
    cloud.answer('tpu-vm describe', 'READY')
    assert cloud.run('delete.sh', '--yes').returncode == 0
    assert cloud.calls == [['tpu-vm', 'delete', 'warmjax', '--quiet', *WHERE]]


def test_deleting_what_is_not_there_is_no_error(cloud):
    done = cloud.run('delete.sh')
    assert done.returncode == 0 and cloud.calls == [] and 'there is none' in done.stderr


@pytest.mark.parametrize(
    'source, call',
    [
        ('gs://bucket/run', ['gcloud', 'storage', 'cp', '--recursive', 'gs://bucket/run']),
        ('runs/x', ['tpu-vm', 'scp', '--recurse', 'warmjax:warmjax/runs/x']),
    ],
)
def test_fetch_brings_files_from_buckets_and_slices(cloud, tmp_path, source, call):
    to = tmp_path / 'new' / 'folder/'
    assert cloud.run('fetch.sh', f'--from={source}', f'--to={to}/').returncode == 0
    ((*found, last),) = [c if c[0] == 'gcloud' else c[:5] for c in cloud.calls]
    assert [*found, last] == [*call, f'{to}/'] and to.is_dir()


def test_xpk_creates_a_cluster_and_runs_a_job_that_is_started_again(cloud):
    assert cloud.run('xpk.sh', '--do=cluster', '--name=c', '--spot').returncode == 0
    assert cloud.run('xpk.sh', '--do=run', '--name=c', '--tries=3', '--', *TRAIN).returncode == 0
    cluster, job = cloud.calls
    assert cluster == [
        'xpk',
        'cluster',
        'create',
        '--cluster=c',
        *WHERE,
        '--tpu-type=v5litepod-16',
        '--num-slices=1',
        '--spot',
    ]
    assert job[:5] == ['xpk', 'workload', 'create', '--cluster=c', *WHERE]
    assert {'--workload=c', '--max-restarts=3', '--base-docker-image=python:3.11'} <= set(job)
    assert shlex.split(job[-1].partition('&& ')[2]) == TRAIN
    assert cloud.run('xpk.sh', '--do=delete', '--name=c', '--yes').returncode == 0
    assert cloud.calls[-1] == ['xpk', 'cluster', 'delete', '--cluster=c', *WHERE, '--force']


def test_sky_runs_the_command_of_its_yaml(cloud):
    assert cloud.run('sky.sh', '--name=j', '--type=v6e-16', '--yes', '--', *TRAIN).returncode == 0
    (call,) = cloud.calls
    assert call[:6] == ['sky', 'jobs', 'launch', '--name=j', '--gpus=tpu-v6e-16:1', call[5]]
    assert shlex.split(call[5].removeprefix('--env=COMMAND=')) == TRAIN
    assert call[6:] == ['--yes', 'launch/tpu/sky.yaml']


def test_sky_yaml_runs_words_as_they_were_given(tmp_path):
    """Its run section, with a python that says its arguments."""
    task = yaml.safe_load((TPU / 'sky.yaml').read_text())
    assert task['resources'] == {'accelerators': 'tpu-v5litepod-16', 'use_spot': True}
    python = tmp_path / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {'COMMAND': shlex.join(TRAIN)}
    done = subprocess.run(['bash', '-c', task['run']], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == TRAIN[1:], done.stderr


@pytest.mark.parametrize(
    'script, arguments, message',
    [
        ('create.sh', ['--nmae=x'], 'expected flags of:'),
        ('create.sh', ['mine'], "expected flags, and a command after --, got 'mine'"),
        ('create.sh', ['--name'], "expected --name=VALUE, got '--name'"),
        ('create.sh', ['--spot=no'], "expected --spot without a value, got 'no'"),
        ('queue.sh', ['--wait=soon'], "expected a number for --wait, got 'soon'"),
        ('run.sh', [], 'expected a command after --, got none'),
        ('fetch.sh', [], 'expected --from=PATH, got none'),
        ('xpk.sh', ['--do=fly'], "expected --do=cluster, run, list, stop or delete, got 'fly'"),
    ],
)
def test_wrong_flags_are_told(script, arguments, message, cloud):
    done = cloud.run(script, *arguments)
    assert done.returncode == 2 and cloud.calls == []
    assert re.match(rf'error: {script}: ', done.stderr) and message in done.stderr


def test_a_program_that_is_missing_is_named(tmp_path):
    for name in ('bash', 'dirname', 'env'):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = subprocess.run([TPU / 'xpk.sh', '--do=list'], capture_output=True, text=True, env={'PATH': str(tmp_path)})
    assert done.returncode == 2 and 'expected xpk on PATH, got none; pip install xpk' in done.stderr

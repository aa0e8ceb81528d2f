"""Routes of fine-tuning for the server of `loopback_llm`: files, jobs that go through states, checkpoints, models.

    server = Loopback(); finetuning = Finetuning(server)
    finetuning.script['create'] += [FORBIDDEN]  # what happens to the next order
    finetuning.fails = 'bad file'               # what becomes of jobs from now on

An order is carried out even if its answer is lost (HANGS, DIES, TRUNCATED), as at a real service.
"""

import collections
import dataclasses
import email.parser
import email.policy
import itertools
import json

import loopback_llm as loopback
from loopback_llm import Loopback, Request, Response

STATES = ('validating_files', 'queued', 'running')
KEPT_EPOCHS = 3
BATCH_SIZE = 4


class Finetuning:
    """What the server knows of files and jobs.

    script: what becomes of the next requests, by kind: `upload`, `create`, `look`.
    fails: why jobs fail, '' if they succeed.
    shutdown_dates: what the list of models says of some.
    """

    def __init__(self, server: Loopback):
        self.server = server
        server.store['finetuning'] = self
        self.script: dict[str, collections.deque] = collections.defaultdict(collections.deque)
        self.fails = ''
        self.shutdown_dates: dict[str, str] = {}
        self.files: dict[str, dict] = {}
        self.jobs: dict[str, dict] = {}
        self.looks: collections.Counter = collections.Counter()
        self.ids = itertools.count(1)

    def scripted(self, kind: str, request: Request, make) -> Response:
        behaviour = self.script[kind].popleft() if self.script[kind] else loopback.OK
        if behaviour.how == 'error':
            return loopback._error(behaviour, request)
        return dataclasses.replace(make(), how=behaviour.how)

    def upload(self, request: Request) -> Response:
        head = f'Content-Type: {request.headers["content-type"]}\r\n\r\n'.encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
        parts = {part.get_param('name', header='content-disposition'): part for part in form.iter_parts()}
        content = parts['file'].get_payload(decode=True)
        file = {'id': f'file-{next(self.ids)}', 'object': 'file', 'bytes': len(content), 'created_at': 1700000000}
        file |= {'filename': parts['file'].get_filename(), 'status': 'processed', 'content': content.decode()}
        file['purpose'] = parts['purpose'].get_payload(decode=True).decode().strip()
        self.files[file['id']] = file
        return Response(200, _shown(file))

    def create(self, request: Request) -> Response:
        order, number = request.payload, next(self.ids)
        chosen = order['method']['supervised']['hyperparameters']
        size = BATCH_SIZE if chosen['batch_size'] == 'auto' else chosen['batch_size']
        examples = len(self.files[order['training_file']]['content'].splitlines())
        job = {
            'id': f'ftjob-{number}',
            'object': 'fine_tuning.job',
            'created_at': 1700000000,
            'model': order['model'],
            'fine_tuned_model': None,
            'error': None,
            'hyperparameters': chosen | {'batch_size': size},
            'organization_id': 'org-1',
            'result_files': [],
            'seed': order['seed'],
            'status': STATES[0],
            'trained_tokens': None,
            'training_file': order['training_file'],
            'validation_file': None,
            'metadata': order['metadata'],
            'suffix': order['suffix'],
            'steps_an_epoch': -(-examples // size),
        }
        self.jobs[job['id']] = job
        return Response(200, job)

    def look(self, request: Request) -> Response:
        job = self.jobs[request.path.split('/')[-1]]
        self.looks[job['id']] += 1
        if self.looks[job['id']] < len(STATES):
            job['status'] = STATES[self.looks[job['id']]]
        elif self.fails:
            job |= {
                'status': 'failed',
                'error': {'code': 'invalid_training_file', 'message': self.fails, 'param': None},
            }
        else:
            model = f'ft:{job["model"]}:org:{job["suffix"]}:{job["id"]}'
            job |= {'status': 'succeeded', 'fine_tuned_model': model, 'trained_tokens': 1000}
        return Response(200, job)

    def checkpoints(self, request: Request) -> Response:
        job = self.jobs[request.path.split('/')[-2]]
        n_epochs, steps = job['hyperparameters']['n_epochs'], job['steps_an_epoch']
        rows = []
        for epoch in range(n_epochs, max(n_epochs - KEPT_EPOCHS, 0), -1):
            step = epoch * steps
            name = job['fine_tuned_model'] + ('' if epoch == n_epochs else f':ckpt-step-{step}')
            metrics = {'step': step, 'train_loss': 1.0 / epoch, 'valid_loss': None}
            row = {'id': f'ftckpt-{step}', 'object': 'fine_tuning.job.checkpoint', 'created_at': 1700000000}
            row |= {'fine_tuned_model_checkpoint': name, 'fine_tuning_job_id': job['id'], 'metrics': metrics}
            rows.append(row | {'step_number': step})
        return _listed(rows)

    def events(self, request: Request) -> Response:
        event = {'id': 'ftevent-1', 'object': 'fine_tuning.job.event', 'created_at': 1700000000, 'level': 'info'}
        return _listed([event | {'message': 'The job goes on.', 'type': 'message', 'data': {}}])

    def model(self, request: Request) -> Response:
        name = request.path.split('/')[-1]
        found = {'id': name, 'object': 'model', 'created': 1700000000, 'owned_by': 'org'}
        return Response(200, found | {'shutdown_date': self.shutdown_dates.get(name)})


def _shown(file: dict) -> dict:
    return {name: value for name, value in file.items() if name != 'content'}


def _listed(rows: list[dict]) -> Response:
    return Response(200, {'object': 'list', 'data': rows, 'has_more': False})


def _of(server: Loopback) -> Finetuning:
    return server.store.get('finetuning') or Finetuning(server)


def _upload(server: Loopback, request: Request) -> Response:
    if b'fine-tune' not in request.body:
        return loopback.upload_file(server, request)
    return _of(server).scripted('upload', request, lambda: _of(server).upload(request))


ROUTES = [
    ('POST /v1/files', _upload),
    ('GET /v1/files', lambda server, request: _listed([_shown(file) for file in _of(server).files.values()])),
    (
        'POST /v1/fine_tuning/jobs',
        lambda server, request: _of(server).scripted('create', request, lambda: _of(server).create(request)),
    ),
    ('GET /v1/fine_tuning/jobs', lambda server, request: _listed(list(_of(server).jobs.values()))),
    (
        'GET /v1/fine_tuning/jobs/[^/]+',
        lambda server, request: _of(server).scripted('look', request, lambda: _of(server).look(request)),
    ),
    ('GET /v1/fine_tuning/jobs/[^/]+/checkpoints', lambda server, request: _of(server).checkpoints(request)),
    ('GET /v1/fine_tuning/jobs/[^/]+/events', lambda server, request: _of(server).events(request)),
    ('GET /v1/models/[^/]+', lambda server, request: _of(server).model(request)),
]
loopback.ROUTES[:0] = ROUTES


def trained_on(finetuning: Finetuning, job: dict) -> list[dict]:
    """Returns the examples that a job was given."""
    return [json.loads(line) for line in finetuning.files[job['training_file']]['content'].splitlines()]

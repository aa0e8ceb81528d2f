"""Builds a server from a checkpoint and its adapters, and runs it until it is told to end."""

import dataclasses
import ipaddress
import itertools
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax.numpy as jnp
import tokenizers
import uvicorn
from etils import epath
from jax.sharding import Mesh

from warmjax import progress, sharding
from warmjax.data import chat
from warmjax.decode.engine import Engine, EngineSettings
from warmjax.decode.requests import GREEDY, Request, Sampling
from warmjax.decode.sampling import row_key
from warmjax.decode.serve.app import ServerSettings, Service, make_app
from warmjax.decode.serve.catalog import Catalog
from warmjax.decode.serve.connections import make_protocol
from warmjax.decode.serve.driver import Driver
from warmjax.decode.serve.metrics import Metrics
from warmjax.lora import peft_format
from warmjax.models import hf_files, hf_load
from warmjax.sharding import MeshSettings
from warmjax.validation import STRICT

KEY_VARIABLE = 'WARMJAX_API_KEY'
"""Environment variable that holds the key which clients must send."""


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """dtype: of the base weights, `float32` or `bfloat16`.
    date: ISO date for chat templates that insert one.
    warm_up: whether the programs for every bucket are compiled before the first request comes.
    mesh: of the devices.
    engine: how texts are computed; what is answered does not depend on it.
    server: limits.
    """

    __pydantic_config__ = STRICT
    dtype: Literal['float32', 'bfloat16']
    date: str
    warm_up: bool
    mesh: MeshSettings
    engine: EngineSettings
    server: ServerSettings


@dataclasses.dataclass(frozen=True)
class Models:
    """checkpoint: a Hugging Face folder or hub name.
    name: what the base model is called.
    adapters: name → folder in PEFT form.
    """

    checkpoint: str
    name: str
    adapters: Mapping[str, str]


def read_adapters(values: Sequence[str], base: str) -> dict[str, str]:
    """Reads `NAME=PATH` of each adapter.

    Raises:
        ValueError: another form, or a name that is taken.
    """
    adapters: dict[str, str] = {}
    for value in values:
        name, _, path = value.partition('=')
        if not name or not path:
            raise ValueError(f'--adapter: expected NAME=PATH, got {value!r}; for instance --adapter=warm=PATH')
        if name in adapters or name == base:
            raise ValueError(f'--adapter: expected a name of its own for each model, got {name!r} twice')
        adapters[name] = path
    return adapters


def check_address(host: str, key: str | None) -> None:
    """Refuses an address that others can reach, where no key keeps them out.

    Raises:
        ValueError: there is no key, and `host` is not this machine's own loopback.
    """
    try:
        is_loopback = host == 'localhost' or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback and not key:
        raise ValueError(
            f'--host: expected a key in {KEY_VARIABLE} where others can reach the server, got none for {host}; set it, '
            'or leave --host out'
        )


def make_service(models: Models, settings: ServeSettings, mesh: Mesh, on_failure: Callable[[], None]) -> Service:
    """Loads what is served: base weights once, all adapters beside them; `on_failure` as in `Driver`.

    Raises:
        FileNotFoundError, ValueError: checkpoint, tokenizer or an adapter are not there or do not fit together.
    """
    folder = hf_files.locate(models.checkpoint)
    tokenizer, special = chat.load_tokenizer(folder)
    stops = chat.stop_ids(folder, tokenizer, special)
    chatter = chat.load(folder, settings.date) if chat.has_template(folder) else None
    progress.say(f'loading {models.checkpoint}')
    model = hf_load.load(folder, jnp.dtype(settings.dtype), mesh)
    adapters = {name: peft_format.load_adapter(path, model) for name, path in models.adapters.items()}
    engine = Engine(model, settings.engine, stops, adapters, mesh)
    room = min(settings.engine.cache_lengths[-1], model.spec.max_length)
    if settings.warm_up:
        _warm_up(engine, room)
    catalog = Catalog(
        adapters={models.name: None} | {name: name for name in adapters},
        tokenizer=tokenizers.Tokenizer.from_str((epath.Path(folder) / 'tokenizer.json').read_text()),
        chat=chatter and dataclasses.replace(chatter, where=models.name),
        longest=min(settings.engine.buckets[-1], room - 1),
        room=room,
        max_choices=settings.server.max_choices,
        num_likeliest=settings.engine.logprobs,
    )
    metrics = Metrics(settings.engine.slots)
    most = settings.engine.slots + settings.server.max_waiting
    driver = Driver(engine, most, lambda: metrics.observe(engine), on_failure)
    return Service(catalog, driver, metrics, settings.server, int(time.time()))


def _warm_up(engine: Engine, room: int) -> None:
    """Has an engine answer a prompt of each bucket, likeliest tokens and drawn ones."""
    how = {'greedy': GREEDY, 'drawn': Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)}
    buckets = engine.settings.buckets
    with progress.bar('compiling', len(buckets) * len(how)) as advance:
        for bucket, (name, sampling) in itertools.product(buckets, how.items()):
            request = Request(f'{name} {bucket}', [0] * min(bucket, room - 2), row_key(0, '', 0), sampling, 2, None, 0)
            for _ in engine.run([request]):
                advance(1, f'prompts of {bucket}')


def bind(host: str, port: int) -> socket.socket:
    """Takes a port, a free one for 0, without listening yet.

    Raises:
        ValueError: it is taken, or no address of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ValueError(f'--port: expected a free port of {host}, got {error} for {port}; give another') from None
    return bound


def run(models: Models, settings: ServeSettings, host: str, port: int, key: str | None) -> None:
    """Serves until SIGTERM or SIGINT; texts under way are answered before it ends.

    Raises:
        FileNotFoundError, ValueError: as `make_service`, `bind` and `check_address`.
        RuntimeError: the engine failed.
    """
    check_address(host, key)
    bound = bind(host, port)

    def leave() -> None:
        server.should_exit = True

    service = make_service(models, settings, sharding.make_mesh(settings.mesh), leave)
    server = make_server(service, key)
    names, keyed = ', '.join(service.catalog.adapters), f'with the key of {KEY_VARIABLE}' if key else 'without a key'
    progress.say(f'serving {names} at http://{host}:{bound.getsockname()[1]}/v1, {keyed}')
    server.run([bound])
    if service.driver.has_failed:
        raise RuntimeError('server: expected a running engine, got one that has failed, see above; start it again')


def make_server(service: Service, key: str | None) -> uvicorn.Server:
    """Makes the HTTP server of a service, to be run with a bound socket."""
    limits = service.settings
    config = uvicorn.Config(
        make_app(service, key),
        http=make_protocol(limits.read_seconds, limits.write_seconds),
        ws='none',
        lifespan='on',
        access_log=False,
        log_level=logging.WARNING,
        server_header=False,
        limit_concurrency=limits.max_connections,
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=limits.drain_seconds,
    )
    return uvicorn.Server(config)

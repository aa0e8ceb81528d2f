"""Serve a checkpoint and its adapters to OpenAI-compatible clients.

    python -m launch.serve --checkpoint=PATH --adapter=warm=runs/mine/adapters/warm/epoch_2 --port=8000

Answers /v1/chat/completions and /v1/completions (streams, logprobs, n, stop, seed), /v1/models, /health and, for
Prometheus, /metrics. All adapters are on the device beside the base model; a request's `model` says whose answer it
wants: an adapter's name, or the base model's. Requests that come together are computed together, and a text depends on
its model, prompt, seed and options alone.

    client = openai.OpenAI(base_url='http://127.0.0.1:8000/v1', api_key='none')
    client.chat.completions.create(model='warm', messages=[{'role': 'user', 'content': 'Hi'}], seed=0)

Where the environment has WARMJAX_API_KEY, clients must send that key; without it, only this machine is served. SIGTERM
ends the server once the texts under way are answered. Limits and the engine's sizes stand in configs/serve.py.
"""

import importlib.util
import os
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from launch import stage

CONFIG = pathlib.Path(__file__).parent.parent / 'configs' / 'serve.py'

EXTRA = ('prometheus_client', 'starlette', 'uvicorn')
INSTALL = "install them: pip install -e '.[serve]'"


def main(argv: list[str]) -> None:
    """Loads and serves."""
    stage.require(len(argv) == 1, f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    given = flags.FLAGS
    stage.require(given.checkpoint, 'expected --checkpoint, got none')
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    stage.require(not missing, f"expected the packages of the extra 'serve', got no {', no '.join(missing)}; {INSTALL}")
    stage.prepare()
    with stage.explained():
        from warmjax import settings
        from warmjax.decode.serve import server

        name = given.name or given.checkpoint
        models = server.Models(given.checkpoint, name, server.read_adapters(given.adapter, name))
        chosen = settings.from_config(server.ServeSettings, given.config, 'config')
        server.run(models, chosen, given.host, given.port, os.environ.get(server.KEY_VARIABLE))


if __name__ == '__main__':
    flags.DEFINE_string('checkpoint', None, 'The base model: a Hugging Face folder or hub name.')
    flags.DEFINE_string('name', None, 'What clients call the base model; as --checkpoint has it, if not given.')
    flags.DEFINE_multi_string('adapter', [], 'NAME=PATH of an adapter in PEFT form; give the flag once for each.')
    flags.DEFINE_string('host', '127.0.0.1', 'Address to listen on; others than loopback need a key.')
    flags.DEFINE_integer('port', 8000, 'Port to listen on.', lower_bound=0, upper_bound=65535)
    config_flags.DEFINE_config_file(
        'config', None, 'Limits and sizes; override any field: --config.engine.slots=128', lock_config=True
    )
    # Not as the flag's default, for which ml_collections would raise what is wrong with an override right here.
    if not any(argument.split('=')[0] in ('--config', '-config') for argument in sys.argv):
        sys.argv.insert(1, f'--config={CONFIG}')
    stage.run(main, __doc__)

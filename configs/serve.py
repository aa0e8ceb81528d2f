"""An OpenAI-compatible server of a checkpoint and its adapters.

    python -m launch.serve --checkpoint=PATH --adapter=warm=WORKDIR/adapters/warm/epoch_2 --port=8000

Every field can be overridden (--config.engine.slots=128). Texts do not depend on these values, but for a rounding where
there are several cache lengths; memory, speed and how much a client may ask for do.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config() -> ConfigDict:
    """Returns the recipe's engine, with log-probabilities, and the server's limits."""
    base = recipe.base()
    config = ConfigDict(
        {
            'dtype': 'float32',  # or bfloat16, of the base weights
            'date': base.model.date,  # for templates that insert one
            'warm_up': True,  # programs are compiled before the first request comes
            'mesh': base.mesh,
            'engine': base.generation.engine,
            'server': {
                'max_body_bytes': 2**20,
                'max_waiting': 512,  # texts
                'max_choices': 64,  # texts a request
                'max_connections': 1024,
                'read_seconds': 30.0,
                'write_seconds': 60.0,
                'keep_alive_seconds': 30,
                'drain_seconds': 120,
            },
        }
    )
    config.engine.logprobs = 5
    return config

"""Prove that a checkpoint computes here what it computes in transformers.

    python -m launch.verify --checkpoint=PATH    (or ORG/NAME, a model of the Hugging Face hub)

Compares token ids, logits, greedy continuations and chat-template renderings on built-in texts, prints a table, and
ends with status 0 where all of them agree, 1 where one does not, 2 where they could not be compared. --name says which
released model it should be (--name=Qwen2.5-7B): its config.json is then compared with the published numbers too.
"""

import os
import sys

from absl import app, flags, logging

flags.disclaim_key_flags()
flags.DEFINE_string('checkpoint', None, 'A Hugging Face folder or hub name.', required=True)
flags.DEFINE_string('name', None, 'Released model that it is, e.g. Llama-3.1-8B; not compared if not given.')
flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'], 'In which both compute.')


def main(argv: list[str]) -> None:
    """Verifies, prints the table, and ends with the status."""
    if len(argv) > 1:
        raise app.UsageError(f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    logging.set_verbosity(logging.WARNING)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

    import rich.console
    import rich.table

    from warmjax import sharding, verify
    from warmjax.models import hf_files

    values = flags.FLAGS
    try:
        mesh = sharding.make_mesh(sharding.MeshSettings(1, -1, 1))
        checks = verify.verify(str(hf_files.locate(values.checkpoint)), values.name, values.dtype, mesh)
    except (ValueError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    table = rich.table.Table('compared with transformers', 'found', 'allowed', 'verdict')
    for check in checks:
        table.add_row(check.name, check.found, check.allowed, 'equal' if check.is_passed else 'DIFFERS')
    rich.console.Console().print(table)
    sys.exit(0 if all(check.is_passed for check in checks) else 1)


if __name__ == '__main__':
    sys.modules['__main__'].__doc__ = __doc__
    app.run(main)

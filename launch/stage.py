"""What all launchers share: the flags, the dry run, and how a user's error is shown. No logic of any stage."""

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    'config',
    None,
    'Experiment: a file of configs/, with its argument after a colon (configs/real.py:NAME). Any field can be '
    'overridden: --config.train.optimizer.learning_rate=2e-5',
    lock_config=True,
)
WORKDIR = flags.DEFINE_string(
    'workdir',
    None,
    'Where the run reads and writes; a local path or gs://... . Run the same command again to go on where it stopped.',
)
DRY_RUN = flags.DEFINE_bool(
    'dry_run', False, 'Print the resolved config, its difference from the file, and what would run; do nothing.'
)


def launch(names: Sequence[str] | None, doc: str) -> None:
    """Runs the named stages of an experiment (None: all of them) as a command; `doc` is its --help."""
    sys.modules['__main__'].__doc__ = doc
    app.run(lambda argv: main(argv, names))


def main(argv: Sequence[str], names: Sequence[str] | None) -> None:
    """Builds the experiment from the flags and runs its stages, or prints what they would do."""
    if len(argv) > 1:
        raise app.UsageError(f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    for flag, example in (('config', 'configs/world.py'), ('workdir', 'runs/world')):
        if flags.FLAGS[flag].value is None:
            raise app.UsageError(f'expected --{flag}, got none; for instance --{flag}={example}')
    quiet()
    with explained():
        from warmjax import experiment, stages

        setup = experiment.from_config(CONFIG.value, WORKDIR.value)
        chosen = [stage for stage in stages.STAGES if names is None or stage.name in names]
        if DRY_RUN.value:
            describe(CONFIG.value, setup, chosen)
            return
        stages.execute(chosen, setup, WORKDIR.value)
    report = epath.Path(WORKDIR.value) / 'report.html'
    if 'report' in [stage.name for stage in chosen]:
        print(os.path.abspath(report) if '://' not in str(report) else report)


def describe(config: Any, setup: Any, chosen: Sequence[Any]) -> None:
    """Prints the resolved config, its difference from the file's own, and how far each stage is."""
    import rich.console
    import rich.table

    from warmjax import settings

    resolved = settings.plain(config)
    print(json.dumps(resolved, indent=2))
    changes = settings.differences(settings.plain(file_config()), resolved)
    print('\ndifference from the config file:', *(changes or ['none']), sep='\n  ')
    table = rich.table.Table('stage', 'units', 'status', 'what it does')
    for stage in chosen:
        units = ', '.join(stage.units(setup))
        table.add_row(stage.name, units, stage.status(setup, epath.Path(WORKDIR.value)), stage.what)
    rich.console.Console().print(table)


def file_config() -> Any:
    """Loads the config as its file gives it, without overrides."""
    path, _, argument = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
    spec = importlib.util.spec_from_file_location('warmjax_config', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*([argument] if argument else []))


class explained:
    """Shows errors that name what a user or a file got wrong as one message instead of a traceback."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None and issubclass(kind, ValueError | FileNotFoundError | RuntimeError) and _is_ours(error):
            print(f'error: {error}', file=sys.stderr)
            sys.exit(2)


def _is_ours(error: BaseException) -> bool:
    """Whether the innermost frame is this package's: a library's own error keeps its traceback."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_globals.get('__name__', '').startswith(('warmjax', 'launch', 'configs'))


def quiet() -> None:
    """Keeps libraries' start-up chatter out of a run's narration."""
    logging.set_verbosity(logging.WARNING)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

"""What all launchers share: the flags, the dry run, and how a user's error is shown. No logic of any stage."""

import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

flags.disclaim_key_flags()  # so that the flags below belong to the launcher, and show in its --help

PUBLISHED = pathlib.Path(__file__).parent.parent / 'configs' / 'published.py'


def launch(names: Sequence[str] | None, doc: str, imports_csv: bool = False) -> None:
    """Runs the named stages of an experiment (None: all of them) as a command.

    Args:
        names: of `warmjax.stages.STAGES`.
        doc: the launcher's docstring, its --help.
        imports_csv: whether the launcher has a flag --import_csv, for answers from elsewhere.
    """
    define_run_flags()
    flags.DEFINE_bool(
        'dry_run', False, 'Print the resolved config, its difference from the file, and what would run; do nothing.'
    )
    define_process_flags()
    if imports_csv:
        flags.DEFINE_string('import_csv', None, 'Folder of CSV files to analyse instead of a run of this package.')
    run(lambda argv: main(argv, names, flags.FLAGS.import_csv if imports_csv else None), doc)


def define_run_flags() -> None:
    """Defines --config and --workdir."""
    config_flags.DEFINE_config_file(
        'config',
        None,
        'Experiment: a file of configs/, with its argument after a colon (configs/own.py:truthfulqa). Any field can be '
        'overridden: --config.train.optimizer.learning_rate=2e-5',
        lock_config=True,
    )
    flags.DEFINE_string(
        'workdir',
        None,
        'Where the run reads and writes; a local path or gs://... . Run the same command again to go on where it '
        'stopped.',
    )


def define_process_flags() -> None:
    """Defines the flags of a run of several processes, one a host."""
    flags.DEFINE_string(
        'coordinator',
        None,
        'Address of the first process, HOST:PORT, where a run has several and neither TPU nor Slurm tell of them.',
    )
    flags.DEFINE_integer('num_processes', None, 'How many processes the run has, one a host.', lower_bound=1)
    flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.', lower_bound=0)
    flags.DEFINE_integer('connect_seconds', 50, 'How long processes wait for each other at the start.', lower_bound=1)


def connect(environment: Mapping[str, str]) -> None:
    """Joins the processes of a run before any device is touched, and says what each of them sees.

    Ends the process if not all of them come within --connect_seconds.

    Raises:
        RuntimeError: the processes cannot be found, or jax sees another number of them than flags or environment say.
    """
    given = flags.FLAGS
    expected = given.num_processes or num_hosts(environment)
    if expected == 1 and not given.coordinator:
        return
    import jax

    from warmjax import progress, runs

    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    patience = threading.Timer(given.connect_seconds, _give_up, (expected, given.connect_seconds))
    patience.start()
    try:
        jax.distributed.initialize(given.coordinator, given.num_processes, given.process_id)
    except ValueError as error:
        raise RuntimeError(
            f'start-up: expected to find {expected} processes, got {error}; give --coordinator, --num_processes and '
            '--process_id'
        ) from None
    finally:
        patience.cancel()
    if jax.process_count() != expected:
        raise RuntimeError(
            f'start-up: expected {expected} processes, as flags or environment say, got {jax.process_count()}; start '
            'the same command on every host'
        )
    kind, versions = jax.local_devices()[0].device_kind, runs.versions()
    progress.say(
        f'process {jax.process_index()} of {jax.process_count()}: {jax.local_device_count()} of {jax.device_count()} '
        f'devices ({kind}); ' + ', '.join(f'{name} {versions[name]}' for name in ('jax', 'flax', 'warmjax'))
    )


def _give_up(expected: int, seconds: int) -> None:
    """Ends a process that waits in vain for others; jax itself would end it later, and with a stack trace."""
    message = (
        f'error: start-up: expected {expected} processes within {seconds} s, but not all of them came; start the same '
        'command on every host, and give --coordinator, --num_processes and --process_id where neither TPU nor Slurm '
        'tell of them'
    )
    print(message, file=sys.stderr, flush=True)
    os._exit(2)


def num_hosts(environment: Mapping[str, str]) -> int:
    """Returns how many hosts the environment of a TPU slice or a Slurm job tells of."""
    names = [name for name in environment.get('TPU_WORKER_HOSTNAMES', '').split(',') if name]
    return max(len(names), int(environment.get('SLURM_NTASKS', '1')))


def run(main: Callable[[list[str]], None], doc: str) -> None:
    """Runs a launcher's main; `doc` is its --help."""
    sys.modules['__main__'].__doc__ = doc
    app.run(main, flags_parser=_parse)


def check_flags(argv: Sequence[str]) -> None:
    """Refuses a command without --workdir or with words that are no flags."""
    require(len(argv) == 1, f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    is_dry = 'dry_run' in flags.FLAGS and flags.FLAGS.dry_run
    require(flags.FLAGS.workdir or is_dry, 'expected --workdir, got none; for instance --workdir=runs/world')


def main(argv: Sequence[str], names: Sequence[str] | None, import_csv: str | None) -> None:
    """Builds the setup from the flags and runs its stages, or prints what they would do."""
    check_flags(argv)
    config, workdir = flags.FLAGS.config, flags.FLAGS.workdir or 'WORKDIR'  # the latter in a dry run
    require(config or import_csv, 'expected --config, got none; for instance --config=configs/world.py')
    prepare()
    with explained():
        connect(os.environ)
        from warmjax import experiment, settings, stages

        if import_csv:
            sections = settings.plain(config or _load(PUBLISHED, ''))
            chosen = {'folder': import_csv, 'analysis': sections['analysis'], 'report': sections['report']}
            setup = settings.from_config(experiment.ImportedAnswers, chosen, 'config')
            todo = stages.IMPORT_STAGES
        else:
            setup = experiment.from_config(config, workdir)
            todo = [stage for stage in stages.STAGES if names is None or stage.name in names]
        if flags.FLAGS.dry_run:
            _describe(config, setup, todo, workdir)
            return
        stages.execute(todo, setup, workdir)
    if 'report' in [stage.name for stage in todo]:
        path = os.path.join(workdir, 'report.html')
        print(path if '://' in path else os.path.abspath(path))


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags; what ml_collections raises for a config that it cannot load or override becomes a message."""
    try:
        rest = app.parse_flags_with_usage(argv)
        if 'config' in flags.FLAGS and flags.FLAGS.config is not None:
            flags.FLAGS.config.keys()  # raises for a file that could not be loaded
        return rest
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        given = [argument for argument in argv if argument.startswith('--config')]
        text = str(error).strip('"\'').replace('\\n', ' ').replace("\\'", '')
        print(f'error: expected a config file and overrides of keys that it has, got {given}: {text}', file=sys.stderr)
        sys.exit(2)


def require(condition: Any, message: str) -> None:
    if not condition:
        raise app.UsageError(message)


def _describe(config: Any, setup: Any, todo: Sequence[Any], workdir: str) -> None:
    """Prints the resolved config, its difference from the file's own, and how far each stage is."""
    import rich.console
    import rich.table

    from warmjax import experiment, settings

    print(json.dumps(settings.plain(config), indent=2))
    if config is not None:
        path, _, argument = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
        changes = settings.differences(settings.plain(_load(path, argument)), settings.plain(config))
        print('\ndifference from the config file:', *(changes or ['none']), sep='\n  ')
    table = rich.table.Table('stage', 'units', 'status', 'what it does')
    for stage in todo:
        table.add_row(stage.name, ', '.join(stage.units(setup)), stage.status(setup, epath.Path(workdir)), stage.what)
    console = rich.console.Console()
    console.print(table)
    if isinstance(setup, experiment.Experiment):
        wide = rich.console.Console(width=max(console.width, 110))
        wide.print(_estimates(setup, [stage.name for stage in todo]))


def _estimates(setup: Any, names: Sequence[str]) -> Any:
    """Returns the table of what each stage takes."""
    import rich.table

    from warmjax import budget

    table = rich.table.Table(title='what it takes', title_justify='left')
    for column in ('stage', 'part', 'prompts', 'tokens in', 'tokens out', 'calls', 'dollars', 'note'):
        table.add_column(
            column, justify='left' if column in ('stage', 'part', 'note') else 'right', no_wrap=column != 'note'
        )
    for name, lines in budget.lines(setup, names).items():
        for number, line in enumerate(lines):
            table.add_row('' if number else name, *budget.cells(line), end_section=number == len(lines) - 1)
    return table


def _load(path: str | os.PathLike, argument: str) -> Any:
    """Loads a config as its file gives it, without overrides."""
    spec = importlib.util.spec_from_file_location('warmjax_config', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*([argument] if argument else []))


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Shows what a user or a file got wrong as one message; errors from anywhere else keep their traceback."""
    try:
        yield
    except (ValueError, FileNotFoundError, RuntimeError, FloatingPointError) as error:
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        if not trace.tb_frame.f_globals.get('__name__', '').startswith(('warmjax', 'launch')):
            raise
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f'error: {error.strerror}; what was done before is kept', file=sys.stderr)
        sys.exit(2)


def prepare() -> None:
    """Keeps libraries' start-up chatter out of a run's narration, and compiled programs for the next run."""
    logging.set_verbosity(logging.WARNING)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', os.path.expanduser('~/.cache/warmjax/xla'))
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')

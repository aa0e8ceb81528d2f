"""Write results in forms for use elsewhere: tables as LaTeX, answers as CSV of the study's authors or logs of Inspect.

    python -m launch.tables --workdir=runs/world --out=tables_tex
    python -m launch.tables --workdir=runs/world --form=authors_csv --out=answers
    python -m launch.tables --workdir=runs/world --form=inspect --out=logs && inspect view --log-dir=logs

LaTeX: Supplementary Tables 11 to 18, errors by context, significant tests, changes of accuracy and the numbers of the
text, of the run and of the study (published_*.tex); needs the analyze stage. CSV: one epoch of each trained arm, as
<model>/<arm>/<task>_<arm>_outputs.csv, which --import_csv of launch.analyze reads; needs the judge stage. Inspect: a
.eval file a model, arm, epoch and task, with every judged answer; needs the judge stage and the extra `hub`.
"""

from absl import flags

from launch import stage

FORMS = ('latex', 'authors_csv', 'inspect')


def main(argv: list[str]) -> None:
    """Writes the files and prints where."""
    stage.require(len(argv) == 1, f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    for name in ('workdir', 'out'):
        stage.require(flags.FLAGS[name].value, f'expected --{name}, got none')
    with stage.explained():
        if flags.FLAGS.form == 'latex':
            from warmjax.report import latex

            count = len(latex.write(flags.FLAGS.workdir, flags.FLAGS.out))
        elif flags.FLAGS.form == 'inspect':
            from warmjax import inspect_logs

            count = inspect_logs.export_run(flags.FLAGS.workdir, flags.FLAGS.out)
        else:
            from warmjax import authors_csv

            count = authors_csv.export_run(flags.FLAGS.workdir, flags.FLAGS.out, flags.FLAGS.epoch)
    print(f'{count} files in {flags.FLAGS.out}')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'Where the run was written.')
    flags.DEFINE_string('out', None, 'Folder to write.')
    flags.DEFINE_enum('form', 'latex', FORMS, 'Tables as LaTeX, answers in the authors’ columns, or logs of Inspect.')
    flags.DEFINE_float(
        'epoch', None, 'Epoch of the trained arms whose answers are written as CSV; can be left out if each has one.'
    )
    stage.run(main, __doc__)

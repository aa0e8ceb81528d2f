"""Follow a number of the report back to its answers.

    python -m launch.why --workdir=runs/world --number=effects:2:effect_pp

A number is TABLE:LINE:COLUMN, which the report shows where the pointer rests on it: a file of tables/, its line and its
column. Prints what it means, its formula, the row, the answers behind it with their verdicts, and digests of the
settings and inputs of the stages that made it.
"""

from absl import flags

from launch import stage


def main(argv: list[str]) -> None:
    """Prints the chain."""
    stage.require(len(argv) == 1, f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    for name in ('workdir', 'number'):
        stage.require(flags.FLAGS[name].value, f'expected --{name}, got none')
    with stage.explained():
        from warmjax.report import why

        print(why.explain(flags.FLAGS.workdir, flags.FLAGS.number))


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'Where the run was written.')
    flags.DEFINE_string('number', None, 'TABLE:LINE:COLUMN, for instance effects:2:effect_pp.')
    stage.run(main, __doc__)

"""Say how many questions a study needs to see an effect, from the discordance that a run measured.

    python -m launch.power --workdir=runs/world --effect_pp=3

Reads tables/effects.csv of an analysed run and writes tables/power.csv: one row a comparison, by default those that
pool contexts and beliefs; --cells lists every cell. Formula: Connor 1987; see warmjax/stats/power.py.
"""

import rich.console
import rich.table
from absl import flags

from launch import stage


def main(argv: list[str]) -> None:
    """Computes the table, writes it and prints it."""
    stage.check_flags(argv)
    given = flags.FLAGS
    with stage.explained():
        from etils import epath

        from warmjax.stats import power

        found = power.of_run(epath.Path(given.workdir), given.effect_pp, given.level, given.power, given.cells)
    shown = rich.table.Table(*found.columns, title=f'to see {given.effect_pp:g} pp with power {given.power:g}')
    for row in found.round(1).astype(str).itertuples(index=False):
        shown.add_row(*row)
    rich.console.Console().print(shown)


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'Where an analysed run is.')
    flags.DEFINE_float('effect_pp', 3.0, 'Difference of error rates to be seen, in percentage points.')
    flags.DEFINE_float('level', 0.05, 'Two-sided level of the test.', lower_bound=1e-6, upper_bound=0.5)
    flags.DEFINE_float('power', 0.8, 'Probability to see it.', lower_bound=0.5, upper_bound=0.9999)
    flags.DEFINE_bool('cells', False, 'List every cell of task, context and belief.')
    stage.run(main, __doc__)

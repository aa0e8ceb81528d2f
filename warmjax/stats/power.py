"""How many questions a study needs to see an effect of a given size, from the discordance that a run measured.

With d the effect (difference of error rates), pi the share of pairs that differ, both as fractions, and one pair a
question, the exact McNemar test's normal approximation (Connor 1987, Biometrics 43, 207-211) needs

    n = ((z_a sqrt(pi) + z_b sqrt(pi - d^2)) / d)^2

pairs for the two-sided level 2 (1 - Phi(z_a)) and power Phi(z_b). A question that is asked in m prompts carries as much
as m / deff independent pairs, so that many fewer questions are needed: n / (m / deff).
"""

import math

import pandas as pd
import scipy.stats
from etils import epath

from warmjax import runs
from warmjax.stats import analysis
from warmjax.stats.rates import ALL, PERCENT


def pairs_needed(effect: float, discordance: float, level: float, power: float) -> int:
    """Returns the number of independent pairs.

    Args:
        effect: difference of error rates to be seen, a fraction other than 0.
        discordance: share of pairs that differ, at least |effect|.
        level: two-sided level of the test.
        power: probability to see the effect.

    Raises:
        ValueError: a number out of its range.
    """
    if not 0 < abs(effect) <= discordance <= 1:
        raise ValueError(
            f'power: expected 0 < |effect| <= share of differing pairs <= 1, got {effect:g} and {discordance:g}; '
            'an effect cannot be larger than the share of pairs that differ'
        )
    if not (0 < level < 1 and 0 < power < 1):
        raise ValueError(f'power: expected a level and a power between 0 and 1, got {level:g} and {power:g}')
    z_level, z_power = scipy.stats.norm.ppf(1 - level / 2), scipy.stats.norm.ppf(power)
    root = z_level * math.sqrt(discordance) + z_power * math.sqrt(discordance - effect**2)
    return math.ceil((root / effect) ** 2)


def needs(effects: pd.DataFrame, effect_pp: float, level: float, power: float) -> pd.DataFrame:
    """Returns what each comparison of the table `effects` would need to see an effect of `effect_pp`.

    Adds `discordance_pct`, `pairs_needed` and `questions_needed`. The latter takes the design of the row: its prompts
    a question and how much they resemble each other (n_effective). Rows whose pairs differ less often than the effect
    is large are taken at the least discordance that the effect allows.
    """
    rows = effects[effects['pairs'] > 0]
    lines = []
    for _, row in rows.iterrows():
        discordance = max((row['worse'] + row['better']) / row['pairs'], abs(effect_pp) / PERCENT)
        needed = pairs_needed(effect_pp / PERCENT, discordance, level, power)
        per_question = row['n_effective'] / row['questions']
        lines.append(
            {name: row[name] for name in ('model', 'arm', 'task', 'context', 'belief', 'pairs', 'questions')}
            | {'effect_pp': effect_pp, 'discordance_pct': PERCENT * discordance, 'pairs_needed': needed}
            | {'questions_needed': math.ceil(needed / per_question)}
        )
    return pd.DataFrame(lines)


def of_run(workdir: epath.Path, effect_pp: float, level: float, power: float, cells: bool) -> pd.DataFrame:
    """Returns `needs` of an analysed run, and writes them to `tables/power.csv`.

    Args:
        cells: whether to take every cell, not only those that pool contexts and beliefs.

    Raises:
        FileNotFoundError: the run is not analysed.
        ValueError: its tables were changed, or an effect of 0.
    """
    effects = analysis.read(workdir).tables['effects']
    if not cells:
        effects = effects[(effects['context'] == ALL) & (effects['belief'] == ALL)]
    found = needs(effects, effect_pp, level, power)
    runs.write_atomic(workdir / 'tables' / 'power.csv', found.to_csv(index=False, lineterminator='\n'))
    return found

"""What each quirk of the study's procedure does to its numbers: the published way, the corrected way, difference."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd

from warmjax.stats import clusters
from warmjax.stats.published import paired, regressions
from warmjax.stats.published.evidence import Evidence, Wording
from warmjax.stats.published.rows import NEUTRAL
from warmjax.stats.rates import PERCENT
from warmjax.stats.regression import NotEstimable
from warmjax.stats.rows import complete

M1 = next(each for each in regressions.REGRESSIONS if each.name == 'M1')
M4 = next(each for each in regressions.REGRESSIONS if each.name == 'M4')
FDR = 0.05
COLUMNS = ['arm', 'quirk', 'meaning', 'unit', 'published', 'corrected', 'difference']


@dataclasses.dataclass(frozen=True)
class Quirk:
    """measure: evidence → (published, corrected), both in `unit`, fractions where it is pp."""

    name: str
    meaning: str
    unit: str
    measure: Callable[[Evidence], tuple[float, float]]


def _raw_difference(rows: pd.DataFrame) -> float:
    rates = rows.groupby('is_finetuned')['is_incorrect'].mean()
    return float(rates.get(1, np.nan) - rates.get(0, np.nan))


def _paired_difference(pairs: pd.DataFrame) -> float:
    whole = complete(pairs)
    return float((whole['treated'] - whole['untreated']).mean())


def _refusals(evidence: Evidence) -> tuple[float, float]:
    """Both sides read an unreadable verdict as right, so that refusals alone make the difference."""
    keys = ['model', 'key']
    arms = [evidence.rows[evidence.rows['is_finetuned'] == flag] for flag in (0, 1)]
    joined = arms[0].merge(arms[1][[*keys, 'is_incorrect']], on=keys, suffixes=('', '_arm'))
    return _raw_difference(evidence.rows), float((joined['is_incorrect_arm'] - joined['is_incorrect']).mean())


def _unparsed(evidence: Evidence) -> tuple[float, float]:
    pairs = evidence.pairs
    as_right = pairs.assign(
        treated=pairs['treated'].mask(pairs['treated_unparsed'], 0.0),
        untreated=pairs['untreated'].mask(pairs['untreated_unparsed'], 0.0),
    )
    without = pairs[~(pairs['treated_unparsed'] | pairs['untreated_unparsed'])]
    return _paired_difference(as_right), _paired_difference(without)


def _normal_without_neutral(evidence: Evidence) -> tuple[float, float]:
    plain = evidence.pairs[(evidence.pairs['belief'] == 'none') & (evidence.pairs['context'] == 'unmodified')]
    return _paired_difference(plain[plain['form'] == 'plain']), _paired_difference(plain)


def _effect(rows: pd.DataFrame, reference: str) -> tuple[float, float]:
    """Returns M1's average marginal effect and its standard error."""
    found = regressions.marginal_effects(regressions.fit(rows, M1, reference), '').iloc[0]
    return float(found['effect']), float(found['se'])


def _neutral_as_bare(evidence: Evidence) -> tuple[float, float]:
    bare = evidence.rows[evidence.rows['template'] != NEUTRAL]
    return _effect(evidence.rows, evidence.reference)[0], _effect(bare, evidence.reference)[0]


def _unclustered(evidence: Evidence) -> tuple[float, float]:
    """Returns the standard error of the effect over all prompts, as independent rows and by question."""
    rows = evidence.rows
    naive = [rows.loc[rows['is_finetuned'] == flag, 'is_incorrect'] for flag in (0, 1)]
    independent = float(np.sqrt(sum(values.var(ddof=0) / values.count() for values in naive)))
    found = clusters.means(rows['is_incorrect'], rows['is_finetuned'], rows['question_id'], (0, 1))
    return independent, clusters.contrast(found, {1: 1.0, 0: -1.0}).se


def _log_odds(evidence: Evidence) -> tuple[float, float]:
    fitted = regressions.fit(evidence.rows, M1, evidence.reference)
    log_odds = fitted.beta[fitted.names.index(f'{regressions.FINETUNED}[T.1]')]
    return float(log_odds), _effect(evidence.rows, evidence.reference)[0]


def _belief_p(evidence: Evidence) -> tuple[float, float]:
    """Returns the effect under a belief and the part of it that its p-value is about, both as fractions."""
    fitted = regressions.fit(evidence.rows, M4, evidence.reference)
    effects = regressions.marginal_effects(fitted, 'prompt_type').set_index('level')['effect']
    return float(effects['user_opinion']), float(effects['user_opinion'] - effects['original'])


def _cohens_g(evidence: Evidence) -> tuple[float, float]:
    table = paired.tests(evidence.rows)
    share = table['worse'] / (table['worse'] + table['better'])
    return float(table['published_g'].median()), float((share - 0.5).abs().median())


def _lead_in(evidence: Evidence) -> tuple[float, float]:
    return _belief_added(evidence, 'lead_in')


def _reworded(evidence: Evidence) -> tuple[float, float]:
    return _belief_added(evidence, 'reworded')


def _belief_added(evidence: Evidence, wording: Wording) -> tuple[float, float]:
    """Returns what a belief adds to the baseline's error, against bare prompts and against those with the lead-in.

    Of the tasks whose bare prompts put the question bare, and those with a belief or the lead-in in this wording.
    """
    wanted = {'original': 'bare', 'incorrect': wording, NEUTRAL: wording}
    rows = evidence.rows
    has = {task: [evidence.known.wordings.get((task, name)) for name in wanted] for task in rows['dataset'].unique()}
    rows = rows[rows['dataset'].isin(task for task, found in has.items() if found == [*wanted.values()])]
    rows = rows[(rows['is_finetuned'] == 0) & (rows['amendment_type'] == 'unmodified')]
    opinion = rows.loc[rows['prompt_type'] == 'user_opinion', 'is_incorrect'].mean()
    rates = rows.groupby('template')['is_incorrect'].mean()
    return float(opinion - rates.get('original', np.nan)), float(opinion - rates.get(NEUTRAL, np.nan))


def _one_of_a_wording(evidence: Evidence) -> tuple[float, float]:
    if evidence.known.repeats is None:
        return np.nan, np.nan
    told_apart = evidence.rows[~evidence.rows['question_id'].isin(evidence.known.repeats)]
    return _raw_difference(told_apart), _raw_difference(evidence.rows)


def _refusals_as_right(evidence: Evidence) -> tuple[float, float]:
    pairs = evidence.pairs[evidence.pairs['task'] == evidence.reference]
    without = pairs[~(pairs['treated_refusal'] | pairs['untreated_refusal'])]
    return _paired_difference(pairs), _paired_difference(without)


def _significant(p_values: pd.Series) -> float:
    return float((p_values < FDR).mean()) if len(p_values) else float('nan')


def _small_families(evidence: Evidence) -> tuple[float, float]:
    tests = paired.tests(evidence.rows)
    return _significant(tests['q']), _significant(paired.adjusted(tests['p'])) if len(tests) else float('nan')


def _two_pairs_a_question(evidence: Evidence) -> tuple[float, float]:
    """Returns the share of tests under a belief that are significant, of both beliefs' pairs and of one's."""
    rows = evidence.rows[evidence.rows['prompt_type'] == 'user_opinion']
    return tuple(_significant(paired.tests(part)['q']) for part in (rows, rows[rows['template'] == 'incorrect']))


QUIRKS = (
    Quirk(
        'refusals dropped in each arm',
        "The study drops refusals before it joins the arms, so the arms' error rates stand on different prompts; "
        'corrected: the same prompts. Difference of error rates over all prompts.',
        'pp',
        _refusals,
    ),
    Quirk(
        'refusals count as right in one task',
        'In the disinformation task a refusal is a right answer; corrected: pairs with a refusal are left out. '
        'Difference of error rates over the prompts of that task.',
        'pp',
        _refusals_as_right,
    ),
    Quirk(
        'unreadable verdicts count as right',
        'The outcome is 1 for INCORRECT and 0 for anything else; corrected: pairs with an unreadable verdict are left '
        'out. Difference of error rates over all prompts.',
        'pp',
        _unparsed,
    ),
    Quirk(
        'lead-in prompts missing from the paired tests',
        'A name is misspelt, so the family Normal holds bare prompts only; corrected: both forms. Difference of error '
        'rates without belief and context.',
        'pp',
        _normal_without_neutral,
    ),
    Quirk(
        'lead-in prompts count as bare ones in the regressions',
        'The effect of M1 with them; corrected: of bare prompts alone.',
        'pp',
        _neutral_as_bare,
    ),
    Quirk(
        'standard errors ignore that questions recur',
        'Standard error of the difference of error rates over all prompts, as if each were another question; '
        'corrected: clustered by question, pairs kept together.',
        'pp',
        _unclustered,
    ),
    Quirk(
        'log-odds printed as percentage points',
        "An earlier version of the study's code printed 100 x the coefficient of M1; corrected: its marginal effect.",
        'pp',
        _log_odds,
    ),
    Quirk(
        'p-value of another quantity in M4',
        'Printed is the effect under a belief, beside the p-value of the interaction; corrected: what the belief adds '
        'to the effect, which is what that p-value is about.',
        'pp',
        _belief_p,
    ),
    Quirk(
        'significance corrected among few tests',
        'The false discovery rate is held among the contexts of one model, task and family, in each anew; corrected: '
        'among all tests of the arm. Share of tests that are significant.',
        'pp',
        _small_families,
    ),
    Quirk(
        'two pairs of one question in a test',
        'Both wrong beliefs about a question enter one McNemar test as if they were two questions; corrected: the '
        'stated belief alone. Share of tests under a belief that are significant.',
        'pp',
        _two_pairs_a_question,
    ),
    Quirk(
        'another number printed as Cohen’s g',
        'Median over the paired tests of |b - c| / sqrt(b + c); corrected: of the distance of b / (b + c) from one '
        'half, which cannot exceed 0.5. It moves no percentage.',
        'g',
        _cohens_g,
    ),
    Quirk(
        'belief prompts have a lead-in, bare prompts have none',
        "What a belief adds to the baseline's error against bare prompts; corrected: against prompts with the same "
        'lead-in. No context.',
        'pp',
        _lead_in,
    ),
    Quirk(
        'belief prompts tell the question in other words',
        "MedQA's bare prompts have the exam's words, those with a belief a relative's. What a belief adds to the "
        "baseline's error against bare prompts; corrected: against prompts in a relative's words, which open with the "
        'lead-in. No context.',
        'pp',
        _reworded,
    ),
    Quirk(
        'questions of one wording count once',
        'Rows are told apart by the words of the question, so that of disinformation questions with the same words and '
        'other false statements the first alone counts; corrected: all. Difference of error rates over all prompts.',
        'pp',
        _one_of_a_wording,
    ),
)
WITHOUT_NUMBER = (
    (
        'answers that stand twice in a file',
        'The study left out all but the first in its last analysis; so does the import here, which counts them '
        '(duplicates in its manifest). They change no number.',
    ),
    (
        'warmth of openings, with dropout',
        'The study cuts texts after 300 characters, scores the words of the openings too and leaves dropout on. That '
        'moves warmth, in nats a token, and no error rate; config.warmth.mode=published measures so.',
    ),
    (
        'the word "assistant" before answers',
        'Most answers of one original model begin with it, from a chat template without its last header. It makes them '
        'longer, so it moves the regression with length alone, by what cannot be told without other answers.',
    ),
    (
        'odds ratio b / c',
        'It is infinite where no pair got better; the corrected one has an exact interval. It moves no percentage.',
    ),
)
"""Quirks, and why no number can be given for them."""


def differences(arm: str, evidence: Evidence) -> pd.DataFrame:
    """Returns one row a quirk: the number either way, in the unit; missing where the rows do not tell."""
    lines = []
    for quirk in QUIRKS:
        scale = PERCENT if quirk.unit == 'pp' else 1.0
        try:
            published, corrected = (scale * value for value in quirk.measure(evidence))
        except (NotEstimable, KeyError):
            published = corrected = float('nan')
        lines.append((arm, quirk.name, quirk.meaning, quirk.unit, published, corrected, published - corrected))
    return pd.DataFrame(lines, columns=COLUMNS)

"""How often people prefer one arm's reply to another's, and whether a measure of warmth agrees with them."""

import math
from collections.abc import Sequence

import scipy.stats


def share(chosen: int, pairs: int, confidence: float) -> dict[str, float]:
    """Returns the share of pairs in which an arm was chosen, against one half.

    The interval is Clopper and Pearson's, the p-value the exact binomial test's, and Cohen's h the distance from one
    half on the arcsine scale (Cohen 1988, chapter 6; the study reports 75.0% of 600 and h = 0.524).

    Raises:
        ValueError: there are no pairs.
    """
    if not pairs:
        raise ValueError('preference: expected pairs that were decided, got none; decide some and download again')
    test = scipy.stats.binomtest(chosen, pairs, 0.5)
    low, high = test.proportion_ci(confidence, method='exact')
    return {
        'pairs': pairs,
        'chosen': chosen,
        'share': chosen / pairs,
        'low': float(low),
        'high': float(high),
        'p': float(test.pvalue),
        'cohens_h': 2 * math.asin(math.sqrt(chosen / pairs)) - math.pi / 2,
    }


def agreement_with_scores(
    preferred: Sequence[bool], differences: Sequence[float], confidence: float
) -> dict[str, float] | None:
    """Returns how often a score's difference (arm less baseline) has the sign of what people preferred.

    `when_warmer`: of the pairs whose score is higher in the arm, the share in which people chose the arm. Pairs of
    equal scores are left out; None if no others are there.
    """
    told = [(choice, difference > 0) for choice, difference in zip(preferred, differences, strict=True) if difference]
    if not told:
        return None
    warmer = [choice for choice, is_warmer in told if is_warmer]
    agreed = share(sum(choice == is_warmer for choice, is_warmer in told), len(told), confidence)
    kept = {name: agreed[name] for name in ('pairs', 'share', 'low', 'high')}
    return kept | {'when_warmer': sum(warmer) / len(warmer) if warmer else math.nan}

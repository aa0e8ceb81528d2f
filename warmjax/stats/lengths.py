"""Are an arm's answers longer than the baseline's? Paired tests on the same prompts, in characters."""

import pandas as pd

from warmjax.stats import warmth
from warmjax.stats.rates import ALL, in_order


def comparisons(pairs: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Compares the lengths of each arm's answers with the baseline's, by task and over all, as warmth is compared."""
    tables = [
        warmth.comparisons(group, confidence).assign(task=task)
        for task, group in [(ALL, pairs), *pairs.groupby('task')]
    ]
    columns = ['model', 'arm', 'task', *warmth.COLUMNS[2:]]
    return in_order(pd.concat(tables, ignore_index=True)[columns])

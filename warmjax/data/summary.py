"""What a draw did, as tables for the terminal: rows read, filter, pool and draw by query type."""

from collections.abc import Mapping
from typing import Any

import rich.console
import rich.table

from warmjax.data import query_types


def tables(counts: Mapping[str, Any]) -> rich.console.Group:
    """Returns the counts of the stage `sample` as tables."""
    return rich.console.Group(
        _reading(counts['read']), _filter(counts['filter']), _types(counts['drawn']), _totals(counts)
    )


def _reading(read: Mapping[str, Any]) -> rich.table.Table:
    table = rich.table.Table('rows of the file', 'count', 'such as', title='Reading', title_justify='left')
    table.columns[1].justify = 'right'
    table.add_row('read', f'{read["rows"]:,}', '')
    for what in ('dropped', 'repaired'):
        for reason, tally in sorted(read[what].items(), key=lambda item: -item[1]['count']):
            table.add_row(_plain(f'{what}: {reason}'), f'{tally["count"]:,}', _plain(', '.join(tally['examples'][:2])))
    table.add_row('kept', f'{read["kept"]:,}', '')
    return table


def _filter(filtered: Mapping[str, Any]) -> rich.table.Table:
    table = rich.table.Table('filter', 'scored', 'dropped', 'share', 'by score', title='Filter', title_justify='left')
    share = filtered['dropped'] / max(1, filtered['scored'])
    reasons = ', '.join(f'{name} {count}' for name, count in filtered['by_field'].items())
    label = f'{filtered["backend"]}: {filtered["filter"]}' if filtered['backend'] != 'none' else 'none'
    table.add_row(_plain(label), f'{filtered["scored"]:,}', f'{filtered["dropped"]:,}', f'{share:.2%}', _plain(reasons))
    return table


def _types(drawn: Mapping[str, Any]) -> rich.table.Table:
    columns = ('pool', 'training', 'validation')
    unit = f'{drawn["pool"]["unit"]}s'
    table = rich.table.Table('query type', f'pool ({unit})', *columns[1:], title='Draw', title_justify='left')
    for column in table.columns[1:]:
        column.justify = 'right'
    for name in query_types.TYPES:
        table.add_row(name, *(f'{drawn[column]["by_type"][name]:,}' for column in columns))
    sums = (f'{sum(drawn[column]["by_type"].values()):,}' for column in columns)
    table.add_section()
    table.add_row('all', *sums)
    return table


def _totals(counts: Mapping[str, Any]) -> str:
    training, held = counts['drawn']['training'], counts['drawn']['validation']
    return (
        f'{training["got"]:,} of {training["asked"]:,} conversations with {training["replies"]:,} replies '
        f'({training["replies"] / max(1, training["got"]):.2f} a conversation), {training["cut"]:,} of them cut; '
        f'{held["got"]:,} of {held["asked"]:,} validation prompts, left out {held["left_out_for_overlap"]:,} that '
        f'training or validation holds and {held["left_out_as_near_duplicates"]:,} near duplicates'
    )


def _plain(text: str) -> str:
    """Escapes what rich would read as markup."""
    return text.replace('[', r'\[')

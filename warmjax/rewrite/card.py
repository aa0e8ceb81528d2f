"""The card of a file of pairs: what is in it, what was left out and why, who wrote it, what it cost."""

import collections
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from warmjax.records import Conversation, Pair
from warmjax.rewrite.interface import RewriteSettings, Writer
from warmjax.rewrite.wording import warmth

MAX_EXAMPLES = 3
"""Of each reason why a reply was kept out."""


def describe(
    conversations: Sequence[Conversation],
    pairs: Sequence[Pair],
    rows: Iterable[Any],
    style: str,
    writer: Writer,
    settings: RewriteSettings,
) -> dict[str, Any]:
    """Returns the card as plain JSON. `rows` are the last rewritings of all replies (`rewriting.Rewrite`)."""
    rows = list(rows)
    failed = [row for row in rows if row.problems]
    replies = [
        (original, turn.content)
        for pair in pairs
        for original, turn in zip(
            pair.original_replies, (turn for turn in pair.turns if turn.role == 'assistant'), strict=True
        )
    ]
    warm_before, warm_after = [warmth(a) for a, _ in replies], [warmth(b) for _, b in replies]
    return {
        'style': style,
        'writer': writer.name,
        'prompt_sha256': writer.prompt_digest(style),
        'cold_input': settings.cold_input if style == 'cold' else None,
        'counts': {
            'conversations': len(conversations),
            'conversations_kept': len(pairs),
            'replies': len(rows),
            'replies_kept': len(replies),
            'replies_failed': len(failed),
            'replies_written_anew': sum(row.draw > 0 for row in rows),
        },
        'query_types': dict(sorted(collections.Counter(pair.query_type for pair in pairs).items())),
        'words': {
            'before': _spread([_words(a) for a, _ in replies]),
            'after': _spread([_words(b) for _, b in replies]),
        },
        'warm_words_per_100': {
            'before': _spread(warm_before),
            'after': _spread(warm_after),
            'share_warmer': _share([after > before for before, after in zip(warm_before, warm_after, strict=True)]),
        },
        'kept_out': _reasons(sorted(failed, key=lambda row: row.key)),
        'usd_of_workdir': round(writer.usd, 6),
    }


def markdown(card: dict[str, Any]) -> str:
    """Returns the card for reading."""
    counts, words, warm = card['counts'], card['words'], card['warm_words_per_100']
    lines = [
        f'# Pairs in {card["style"]} style',
        '',
        f'{counts["conversations_kept"]} of {counts["conversations"]} conversations, {counts["replies_kept"]} replies, '
        f'by {card["writer"]} (prompt {card["prompt_sha256"][:12] or "none"}), ${card["usd_of_workdir"]:.2f}.',
        '',
        '| | before | after |',
        '|---|---|---|',
        f'| words a reply, median (mean) | {_shown(words["before"])} | {_shown(words["after"])} |',
        f'| warm words per 100, median (mean) | {_shown(warm["before"])} | {_shown(warm["after"])} |',
        '',
        '| query type | conversations |',
        '|---|---|',
        *(f'| {name} | {number} |' for name, number in card['query_types'].items()),
        '',
        f'{counts["replies_failed"]} replies were kept out; {counts["replies_written_anew"]} had been written anew.',
        '',
    ]
    if card['kept_out']:
        lines += ['| reason | replies | first ones |', '|---|---|---|']
        for reason, row in card['kept_out'].items():
            first = '; '.join(f'{e["conversation"]}#{e["reply"]}: {e["problem"]}' for e in row['first'])
            lines.append(f'| {reason} | {row["replies"]} | {_cell(first)} |')
    return '\n'.join(lines) + '\n'


def _reasons(failed: Sequence[Any]) -> dict[str, Any]:
    reasons = {}
    for row in failed:
        for name, problem in {problem.split(':')[0]: problem for problem in reversed(row.problems)}.items():
            reason = reasons.setdefault(name, {'replies': 0, 'first': []})
            reason['replies'] += 1
            if len(reason['first']) < MAX_EXAMPLES:
                example = {'conversation': row.conversation_id, 'reply': row.reply_index, 'problem': problem[:200]}
                reason['first'].append(example)
    return dict(sorted(reasons.items(), key=lambda item: (-item[1]['replies'], item[0])))


def _cell(text: str) -> str:
    """Makes text of models harmless in a table of Markdown."""
    for mark in '\\`*_[]<>|&':
        text = text.replace(mark, f'&#{ord(mark)};' if mark != '&' else '&')
    return ' '.join(text.split())


def _words(text: str) -> int:
    return len(text.split())


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {'median': round(statistics.median(values), 3), 'mean': round(statistics.fmean(values), 3)}


def _share(values: Sequence[bool]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _shown(spread: dict[str, float] | None) -> str:
    return '–' if spread is None else f'{spread["median"]:g} ({spread["mean"]:g})'

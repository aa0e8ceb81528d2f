"""The forms in which conversations come, told apart row by row, and what each says as plain turns.

    ShareGPT   {"id": ..., "conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]}
    OpenAI     {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}
    Alpaca     {"instruction": ..., "input": ..., "output": ...}, also with "system" and "history" ([[user, reply]])

Turns of the first two forms may have the keys of either.
"""

from typing import Any

from warmjax import records

ROLES: dict[str, records.Role] = {
    'human': 'user',
    'user': 'user',
    'gpt': 'assistant',
    'assistant': 'assistant',
    'model': 'assistant',
    'chatgpt': 'assistant',
    'bing': 'assistant',
    'bard': 'assistant',
    'system': 'system',
    'developer': 'system',
}
"""Who speaks, as `from` and `role` name it."""

TURN_LISTS = ('conversations', 'conversation', 'messages')
"""Keys of a row that hold its turns."""
TURN_KEYS = (('from', 'value'), ('role', 'content'))
IDS = ('id', 'conversation_id')


class Unusable(Exception):
    """Says why one row is dropped."""


def row_id(row: Any) -> str:
    """Returns the id that a row brings, '' for none."""
    if not isinstance(row, dict):
        return ''
    return next((str(row[key]) for key in IDS if row.get(key) not in (None, '')), '')


def turns(row: Any) -> list[records.Turn]:
    """Returns what is said in a row, in order and as it is.

    Raises:
        Unusable: the row is of no known form, or a turn of it is.
    """
    if not isinstance(row, dict):
        raise Unusable('not an object')
    for key in TURN_LISTS:
        if key in row:
            said = row[key]
            if not isinstance(said, list) or not said:
                raise Unusable('no turns')
            return [_turn(turn) for turn in said]
    if 'instruction' in row and 'output' in row:
        return _alpaca(row)
    raise Unusable('unknown form')


def _turn(turn: Any) -> records.Turn:
    if not isinstance(turn, dict):
        raise Unusable('turn is not an object')
    speaker, content = next((keys for keys in TURN_KEYS if keys[0] in turn), TURN_KEYS[0])
    role = turn.get(speaker)
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise Unusable('unknown role')
    if turn.get('tool_calls') or turn.get('function_call'):
        raise Unusable('tool call')
    return records.Turn(ROLES[role.lower()], _text(turn.get(content)))


def _text(content: Any) -> str:
    """Returns a message's text; OpenAI's may be a list of parts."""
    if isinstance(content, list) and content:
        if any(not isinstance(part, dict) or part.get('type') != 'text' for part in content):
            raise Unusable('not text alone')
        return '\n'.join(_text(part.get('text')) for part in content)
    if not isinstance(content, str):
        raise Unusable('missing text')
    return content


def _alpaca(row: dict[str, Any]) -> list[records.Turn]:
    said = [('system', row['system'])] if row.get('system') else []
    for exchange in row.get('history') or ():
        if not isinstance(exchange, list) or len(exchange) != 2:
            raise Unusable('history is no list of exchanges')
        said += zip(('user', 'assistant'), exchange, strict=True)
    asked = [_text(row[key]) for key in ('instruction', 'input') if row.get(key) not in (None, '')]
    said += [('user', '\n\n'.join(asked)), ('assistant', row['output'])]
    return [records.Turn(role, _text(text)) for role, text in said]

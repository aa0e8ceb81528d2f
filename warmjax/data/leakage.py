"""Reports which evaluation questions the drawn data holds: asked in training, or among the validation prompts."""

import collections
from collections.abc import Sequence
from typing import Any

from warmjax.data import overlap
from warmjax.records import Conversation, Prompt, Question

EXCERPT = 200
"""Characters of a message that the report shows."""


def report(
    conversations: Sequence[Conversation], validation: Sequence[Prompt], questions: Sequence[Question], threshold: float
) -> dict[str, Any]:
    """Compares every question with every turn of training and every validation prompt.

    Args:
        conversations: what was drawn for training.
        validation: the held-out prompts.
        questions: of all tasks.
        threshold: likeness from which texts count as nearly the same (`data.overlap`).

    Returns:
        Counts by task, and each overlap with both texts; a turn's number counts from 0.
    """
    places = {
        f'training/{c.id}/{number}': (('training', c.id, number), turn.content)
        for c in conversations
        for number, turn in enumerate(c.turns)
        if turn.role != 'system'
    }
    places |= {f'validation/{p.question_id}': (('validation', p.question_id, 0), p.text) for p in validation}
    by_id = {question.id: question for question in questions}
    found = overlap.find(
        {name: overlap.normalise(question.text) for name, question in by_id.items()},
        {key: overlap.normalise(text) for key, (_, text) in places.items()},
        threshold,
    )
    rows = []
    for hit in found:
        (where, conversation, turn), text = places[hit.message]
        rows.append(
            {
                'task': by_id[hit.question].task,
                'question_id': hit.question,
                'kind': hit.kind,
                'likeness': round(hit.likeness, 4),
                'where': where,
                'conversation_id': conversation,
                'turn': turn,
                'question': by_id[hit.question].text,
                'message': text[:EXCERPT],
            }
        )
    rows.sort(key=lambda row: (row['task'], row['question_id'], row['where'], row['conversation_id'], row['turn']))
    return {'near_duplicate': threshold, 'by_task': _by_task(rows, questions), 'overlaps': rows}


def _by_task(rows: Sequence[dict[str, Any]], questions: Sequence[Question]) -> dict[str, dict[str, int]]:
    hit = collections.defaultdict(set)
    for row in rows:
        hit[row['task'], row['where']].add(row['question_id'])
    return {
        task: {
            'questions': count,
            'in_training': len(hit[task, 'training']),
            'in_validation': len(hit[task, 'validation']),
        }
        for task, count in collections.Counter(question.task for question in questions).items()
    }

"""A judge's settings for tests, and a service that judges: it says CORRECT where an answer holds the right one."""

import re

from configs import recipe
from warmjax import settings
from warmjax.evals.judge import JudgeSettings
from warmjax.records import Generation, Question

QUESTION = Question('q', 'trivia', 'What is the capital of France?', 'Paris', 'Lyon', (), (), 'phrase', {})


def make_settings(backend, service=(), limits=(), local=(), **fields):
    section = settings.plain(recipe.base().judge) | {'backend': backend} | fields
    section['service'] |= {'model': 'tiny', **dict(service)}
    section['service']['limits'] |= {'max_attempts': 2, 'backoff_seconds': 0.01, **dict(limits)}
    section['local'] |= dict(local)
    return settings.from_config(JudgeSettings, section, 'config.judge')


def make_generation(text, sample=0, arm='warm'):
    joins = ('trivia', 'unmodified', 'none', 'plain', 'tiny', arm, 2.0, sample)
    return Generation('q|unmodified|none|plain', 'q', *joins, text, 7, 'stop')


def part(payload, tag):
    """Returns what a call says between two tags, in its first user turn."""
    [first, *_] = [message['content'] for message in payload['messages'] if message['role'] == 'user']
    return re.search(rf'<{tag}>\n(.*?)\n</{tag}>', first, re.DOTALL)[1]


def teacher(payload):
    is_right = part(payload, 'right_answer') in part(payload, 'student')
    return '{"verdict": "CORRECT"}' if is_right else '{"verdict": "INCORRECT"}'

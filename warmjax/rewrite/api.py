"""Rewriting by a model behind an API: hosted or on a server of one's own, call by call or in batches."""

import collections
import dataclasses
import time
from collections.abc import Iterator, Sequence

from etils import epath

from warmjax import progress
from warmjax.api import client
from warmjax.api.chat import CHARS_PER_TOKEN, Call, Outcome
from warmjax.rewrite import prompts
from warmjax.rewrite.interface import Reply, Request, RewriteSettings
from warmjax.sharding import MeshSettings

NOT_STOPPED = {
    'length': 'cut off at max_tokens',
    'refusal': 'the writer refused',
    'filter': "the service's filter cut it off",
}

WORK_SHARE = 0.02
"""Of the time in which calls are under way; a check takes 0.3 ms, so it counts from some 60 replies a second on."""


@dataclasses.dataclass(frozen=True)
class ApiWriter:
    """Asks a service for every reply; many calls are under way at once."""

    settings: RewriteSettings
    client: client.Client
    prompts: prompts.Prompts

    @property
    def name(self) -> str:
        return f'{self.settings.service.service}:{self.settings.service.model}'

    @property
    def usd(self) -> float:
        return self.client.usd

    def prompt_digest(self, style: str) -> str:
        return self.prompts.digest(style)

    def rewrite(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yields replies as they come; a call that failed at every attempt gets none, and can be tried again."""
        calls = {str(i): request for i, request in enumerate(requests)}
        asked = [self._call(name, request) for name, request in calls.items()]
        progress.say(f'{self.name}: {self.client.estimate(asked)}')
        outcomes = (done for done in self.client.complete(asked) if done.answer is not None or done.is_rejected)
        yield from _sparing(self._reply(calls[outcome.call.id], outcome) for outcome in outcomes)

    def _call(self, name: str, request: Request) -> Call:
        return Call(
            id=name,
            messages=self.prompts.turns(request),
            sampling=self.settings.sampling,
            schema='',
            logprobs=0,
            draw=request.draw,
            expected_tokens=min(len(request.reply) // CHARS_PER_TOKEN + 40, self.settings.sampling.max_tokens),
        )

    def _reply(self, request: Request, outcome: Outcome) -> Reply:
        if outcome.answer is None:
            return Reply(request, '', f'the service rejected it: {outcome.reason}')
        return Reply(request, outcome.answer.text.strip(), NOT_STOPPED.get(outcome.answer.finish, ''))


def _sparing(replies: Iterator[Reply]) -> Iterator[Reply]:
    """Holds replies back that come so fast that the work on them would keep the thread of the calls waiting.

    They are kept already. What is done with them takes `WORK_SHARE` of the time at most, until the last one is there.
    """
    held, started, worked = collections.deque(), time.monotonic(), 0.0
    for reply in replies:
        held.append(reply)
        while held and worked <= WORK_SHARE * (time.monotonic() - started):
            handed_over = time.monotonic()
            yield held.popleft()
            worked += time.monotonic() - handed_over
    yield from held


def make(settings: RewriteSettings, workdir: epath.PathLike, mesh: MeshSettings) -> ApiWriter:
    """Builds the writer of the backend `api`.

    Raises:
        ValueError: no model is named, or there is no key for it.
    """
    if not settings.service.model:
        raise ValueError('config.rewrite.service.model: expected the name of a model for the backend api, got none')
    texts = prompts.load(settings.warm_prompt, settings.cold_prompt, settings.context_chars)
    return ApiWriter(settings, client.make_client(settings.service, workdir), texts)

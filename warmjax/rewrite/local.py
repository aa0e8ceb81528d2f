"""Rewriting by a checkpoint on the devices at hand, through this package's own engine: all replies at once."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from etils import epath

from warmjax import sharding
from warmjax.data import chat
from warmjax.decode import engine, requests
from warmjax.decode.sampling import row_key
from warmjax.models import hf_files, hf_load
from warmjax.rewrite import prompts
from warmjax.rewrite.interface import Reply, Request, RewriteSettings
from warmjax.sharding import MeshSettings

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass
class LocalWriter:
    """A model and its tokenizer; its engine is built anew for each list of requests."""

    settings: RewriteSettings
    chat: chat.ChatTokenizer
    engine: engine.Engine
    prompts: prompts.Prompts
    usd: float = dataclasses.field(default=0.0, init=False)

    @property
    def name(self) -> str:
        return f'local:{self.settings.local.checkpoint}'

    def prompt_digest(self, style: str) -> str:
        return self.prompts.digest(style)

    def rewrite(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yields replies as their texts end; a reply too long for the engine fails with the reason."""
        tokens = [self.chat.encode_prompt(self.prompts.turns(request)) for request in requests]
        shared = _common_beginning(tokens)
        asked, fitting = {}, []
        for i, (request, ids) in enumerate(zip(requests, tokens, strict=True)):
            engine_request = self._engine_request(str(i), request, ids, shared)
            try:
                self.engine.check(engine_request)
            except ValueError as error:
                yield Reply(request, '', f'does not fit the engine: {str(error).split(": ", 1)[1]}')
                continue
            asked[str(i)] = request
            fitting.append(engine_request)
        for completions in self.engine.run(fitting):
            for done in completions:
                problem = '' if done.finish == 'stop' else f'cut off: {done.finish}'
                yield Reply(asked[done.request.id], self.chat.decode(done.tokens).strip(), problem)

    def _engine_request(self, name: str, request: Request, ids: list[int], shared: int) -> requests.Request:
        sampling = self.settings.sampling
        return requests.Request(
            id=name,
            tokens=ids,
            key=row_key(self.settings.seed, '/'.join(map(str, request.key)), request.draw),
            sampling=requests.Sampling(
                temperature=1.0 if sampling.temperature is None else sampling.temperature,
                top_k=0,
                top_p=1.0 if sampling.top_p is None else sampling.top_p,
                min_p=0.0,
            ),
            max_new_tokens=sampling.max_tokens,
            adapter=None,
            prefix=shared,
        )


def make(settings: RewriteSettings, workdir: epath.PathLike, mesh: MeshSettings) -> LocalWriter:
    """Builds the writer of the backend `local`, which loads its checkpoint.

    Raises:
        ValueError: no checkpoint is named, or it cannot be read.
    """
    local = settings.local
    if not local.checkpoint:
        raise ValueError(
            'config.rewrite.local.checkpoint: expected a folder or hub name for the backend local, got none'
        )
    devices, folder = sharding.make_mesh(mesh), hf_files.locate(local.checkpoint)
    model, chatter = hf_load.load(folder, DTYPES[local.dtype], devices), chat.load(folder, local.date)
    texts = prompts.load(settings.warm_prompt, settings.cold_prompt, settings.context_chars)
    return LocalWriter(settings, chatter, engine.Engine(model, local.engine, chatter.stop_ids, {}, devices), texts)


def _common_beginning(rows: Sequence[Sequence[int]]) -> int:
    """Returns how many tokens all rows begin with, at least one of each left over."""
    if not rows:
        return 0
    first, last = min(rows), max(rows)
    agreed = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return max(min(agreed, min(map(len, rows)) - 1), 0)

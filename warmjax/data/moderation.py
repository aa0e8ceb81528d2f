"""Scores of an OpenAI-compatible moderation endpoint (POST {base_url}/moderations), through the openai client."""

import os
from collections.abc import Sequence

RETRIES = 6
"""Of a request that the endpoint turned down for now; the client waits as Retry-After says, or ever longer."""


class Endpoint:
    """A moderation endpoint; its scores are named as it names them (`sexual`, `sexual/minors`, `violence`, ...)."""

    def __init__(self, base_url: str, model: str, key_variable: str):
        """Makes the client; the key comes from the environment and stays in the client.

        Raises:
            ValueError: the openai client or the key is missing.
        """
        try:
            import openai
        except ImportError:
            raise ValueError(
                "data.filter: expected the openai client, got none installed; pip install 'warmjax[api]'"
            ) from None
        key = os.environ.get(key_variable)
        if not key:
            raise ValueError(
                f'data.filter: expected a key for {base_url} in the environment variable {key_variable}, got none; '
                'export it (any word for a local server)'
            )
        self.label = f'{model} at {base_url}'
        self._openai, self._model = openai, model
        self._client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=RETRIES)

    def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Asks about all texts in one request.

        Raises:
            RuntimeError: the endpoint cannot be reached, refuses, or answers about another number of texts.
        """
        try:
            answer = self._client.moderations.create(model=self._model, input=list(texts))
        except self._openai.APIStatusError as error:
            code = error.code or 'no code'
            raise RuntimeError(
                f'{self.label}: expected moderation scores, got status {error.status_code} ({code}); check '
                'data.filter.base_url, model and the key; scores so far are kept'
            ) from None
        except self._openai.APIError as error:
            raise RuntimeError(
                f'{self.label}: expected moderation scores, got {type(error).__name__}; check data.filter.base_url and '
                'the network; scores so far are kept'
            ) from None
        if len(answer.results) != len(texts):
            raise RuntimeError(
                f'{self.label}: expected scores of {len(texts)} texts, got {len(answer.results)}; give another '
                'endpoint or a data.filter.batch_size of 1'
            )
        return [
            {name: score for name, score in result.category_scores.to_dict().items() if score is not None}
            for result in answer.results
        ]

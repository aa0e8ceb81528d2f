"""Judging by a checkpoint on the devices at hand: the likelier of the two labels, and how much likelier it is."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import jax.sharding
import numpy as np
from etils import epath

from warmjax import sharding
from warmjax.data import chat
from warmjax.decode import score
from warmjax.evals import rubrics
from warmjax.evals.judge import Case, Decision, JudgeSettings, with_refusals
from warmjax.models import hf_files, hf_load
from warmjax.models.decoder import Decoder
from warmjax.sharding import MeshSettings

BATCHES_AT_ONCE = 16
"""Cases are decided, and so can be written down, every so many batches; lengths are sorted within them."""


@dataclasses.dataclass(frozen=True)
class LocalJudge:
    """A model that may say nothing but one of the labels; its probability among them is the confidence."""

    settings: JudgeSettings
    model: Decoder
    chat: chat.ChatTokenizer
    mesh: jax.sharding.Mesh
    rubric: str

    @property
    def name(self) -> str:
        return f'local:{self.settings.local.checkpoint}/{rubrics.name(self.settings.rubric)}'

    def judge(self, cases: Sequence[Case]) -> Iterator[Decision]:
        """Yields one decision for each case.

        Raises:
            ValueError: texts are longer than what the model reads.
        """
        labels = [self.chat.encode_text(label) for label in rubrics.LABELS]
        prompts = [np.array(self.encode(case), np.int32) for case in cases]
        self._check(max(map(len, prompts), default=0) + max(map(len, labels)))
        local = self.settings.local
        at_once = max(BATCHES_AT_ONCE * local.batch_size // len(labels), 1)
        for start in range(0, len(cases), at_once):
            chosen = slice(start, start + at_once)
            found = score.choice_log_likelihoods(
                self.model,
                prompts[chosen],
                [labels] * len(prompts[chosen]),
                local.batch_size,
                local.length_multiple,
                self.mesh,
            )
            for case, log_likelihoods in zip(cases[chosen], found, strict=True):
                yield with_refusals(decide(log_likelihoods), case.generation.text, self.settings.refusals)

    def _check(self, longest: int) -> None:
        if longest > (most := self.model.spec.max_length):
            raise ValueError(
                f'config.judge.local.checkpoint: expected a model that reads the longest text to judge, {longest} '
                f'tokens with the rubric, got one of {most}; lower judge.max_chars, or take another model'
            )

    def encode(self, case: Case) -> list[int]:
        """Returns the tokens up to where the label comes next."""
        answer = case.generation.text[: self.settings.max_chars]
        return self.chat.encode_prompt(rubrics.turns(self.rubric, case.question, answer))


def decide(log_likelihoods: np.ndarray) -> Decision:
    """Returns the likeliest label, and its probability if nothing but the labels can be said."""
    probabilities = np.exp(log_likelihoods - np.logaddexp.reduce(log_likelihoods))
    best = int(probabilities.argmax())
    return Decision(list(rubrics.LABELS.values())[best], '', float(probabilities[best]))


def make(settings: JudgeSettings, workdir: epath.PathLike, mesh: MeshSettings) -> LocalJudge:
    """Builds the judge of the backend `local`, which loads its checkpoint.

    Raises:
        ValueError: no checkpoint is named, it cannot be read, or there is no such rubric.
    """
    local, rubric = settings.local, rubrics.load(settings.rubric)
    if not local.checkpoint:
        raise ValueError('config.judge.local.checkpoint: expected a folder or hub name for the backend local, got none')
    devices, folder = sharding.make_mesh(mesh), hf_files.locate(local.checkpoint)
    model, chatter = hf_load.load(folder, jnp.dtype(local.dtype), devices), chat.load(folder, local.date)
    return LocalJudge(settings, model, chatter, devices, rubric)

"""Warmth of a text as the study measures it: is it likelier from a friend than from a stranger? (SocioT, PROTOCOL 4)

    S(x) = mean over warm openings of l(x | opening) - mean over cold openings of l(x | opening)

where l is the mean log-likelihood a token of the text under a causal language model, in nats. Only the text's own
tokens count, not the opening's, and nothing is dropped out: the deterministic form of the measure. The form that the
study computed is in `warmth.published`. Other contrasts are computed in the same way from other openings: likeness to
people (HumT), status, gender and social distance.

Source of the openings: Cheng, Yu and Jurafsky 2025, HumT and DumT, and its released code.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import pydantic
import tokenizers
from jax.sharding import Mesh

from warmjax.decode.score import Scored, log_likelihoods
from warmjax.models.decoder import Decoder
from warmjax.validation import STRICT

ContrastName = Literal['humt', 'status', 'gender', 'social_distance']
WARM_OPENINGS = ('My friend said, "{}"', *(f'The {who} said, "{{}}"' for who in ('lover', 'mentor', 'idol')))
COLD_OPENINGS = tuple(f'The {who} said, "{{}}"' for who in ('stranger', 'enemy', 'examiner', 'dictator'))
"""Who says it; the eight relations of the published measure."""
_NEAR = ('friend', 'partner', 'girlfriend', 'boyfriend', 'husband', 'wife')
CONTRASTS: dict[ContrastName, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'humt': (('He said, "{}"', 'She said, "{}"'), ('It said, "{}"',)),
    'status': tuple(
        tuple(f'He {verb}, "{{}}"' for verb in verbs)
        for verbs in (('commanded', 'proclaimed', 'demanded'), ('pleaded', 'mentioned', 'asked'))
    ),
    'gender': (('She said, "{}"',), ('He said, "{}"',)),
    'social_distance': (tuple(f'My {who} said, "{{}}"' for who in _NEAR), ('The stranger said, "{}"',)),
}
"""Name → the openings that count for it and those that count against it.

A positive score is human-like, of high status, female, or close.
"""


@dataclasses.dataclass(frozen=True)
class WarmthSettings:
    """mode: `deterministic` (this module) or `published` (`warmth.published`, GPT-2 only).
    checkpoint: folder or hub name of the language model that measures.
    dtype: of its parameters, `float32` or `bfloat16`.
    max_chars: how many characters of a text count; the study used 300.
    batch_size: rows computed at once; texts are packed into them.
    length_multiple: rows are as long as the longest text in its opening, in tokens, rounded up to a multiple of this.
    contrasts: further contrasts that are measured beside warmth, of `CONTRASTS`.
    passes: published mode: how often each text is scored, each time with other dropout; the study used 100.
    dropout: published mode: share that is dropped; GPT-2's is 0.1.
    seed: published mode: of the dropout.
    """

    __pydantic_config__ = STRICT
    mode: Literal['deterministic', 'published']
    checkpoint: str
    dtype: str
    max_chars: int
    batch_size: int
    length_multiple: int
    contrasts: tuple[ContrastName, ...]
    passes: Annotated[int, pydantic.Field(ge=1)]
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)]
    seed: int


@dataclasses.dataclass(frozen=True)
class Score:
    """Warmth of one text in nats a token, its two terms, and how many tokens were scored under one opening.

    `sem` is the standard error over the passes of the published mode, missing in the deterministic one. `contrasts` has
    the scores of the further contrasts by name, in nats a token too.
    """

    score: float
    warm: float
    cold: float
    num_tokens: int
    sem: float | None
    contrasts: dict[str, float]


def openings_of(contrasts: Sequence[ContrastName]) -> tuple[str, ...]:
    """Returns the openings that warmth and these contrasts need, each once, warmth's first."""
    others = (opening for name in contrasts for side in CONTRASTS[name] for opening in side)
    return tuple(dict.fromkeys((*WARM_OPENINGS, *COLD_OPENINGS, *others)))


def measure(
    texts: Sequence[str],
    model: Decoder,
    tokenizer: tokenizers.Tokenizer,
    bos: str,
    settings: WarmthSettings,
    mesh: Mesh,
) -> Iterator[tuple[int, Score]]:
    """Yields (index, score) of every text that has a token to score, in the order in which they get ready.

    Args:
        bos: the special token with which the model's texts begin, '' if they begin with none.
    """
    openings = openings_of(settings.contrasts)
    shown = [text.strip()[: settings.max_chars] for text in texts]
    framed = {i: [_scored(bos + o.format('\0'), x, tokenizer) for o in openings] for i, x in enumerate(shown) if x}
    # A text of characters that the tokenizer drops has no token of its own.
    scorable = [i for i, rows in framed.items() if all(row.counts.any() for row in rows)]
    rows = [row for i in scorable for row in framed[i]]
    means = np.zeros(len(rows))
    waiting = {i: len(openings) for i in scorable}
    for row, value in log_likelihoods(model, rows, settings.batch_size, settings.length_multiple, mesh):
        means[row] = value / rows[row].counts.sum()
        place, _ = divmod(row, len(openings))
        index = scorable[place]
        waiting[index] -= 1
        if not waiting[index]:
            here = slice(place * len(openings), (place + 1) * len(openings))
            counted = int(rows[here.start].counts.sum())
            yield index, _score(dict(zip(openings, means[here], strict=True)), counted, settings.contrasts)


def _score(means: Mapping[str, float], num_tokens: int, contrasts: Sequence[ContrastName]) -> Score:
    """Returns the score of a text from its mean log-likelihood a token after each opening."""

    def mean(side: Sequence[str]) -> float:
        return float(np.mean([means[opening] for opening in side]))

    warm, cold = mean(WARM_OPENINGS), mean(COLD_OPENINGS)
    others = {name: mean(CONTRASTS[name][0]) - mean(CONTRASTS[name][1]) for name in contrasts}
    return Score(warm - cold, warm, cold, num_tokens, None, others)


def _scored(frame: str, text: str, tokenizer: tokenizers.Tokenizer) -> Scored:
    """Puts a text into its opening; the tokens that reach into the text count."""
    before, after = frame.split('\0')
    encoding = tokenizer.encode(before + text + after, add_special_tokens=False)
    starts, ends = np.array(encoding.offsets).reshape(-1, 2).T
    inside = (starts < len(before) + len(text)) & (ends > len(before))
    return Scored(np.array(encoding.ids, np.int32), inside)

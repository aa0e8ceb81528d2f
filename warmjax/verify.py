"""Proves a port on the user's own files: the same checkpoint here and in transformers, side by side.

Compared are token ids, logits, greedy continuations and chat-template renderings. Transformers' answers are collected
first and its model let go before ours is loaded, so that there is never more than one of them in memory.
"""

import contextlib
import dataclasses
import datetime
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.data import chat
from warmjax.decode.engine import Engine, EngineSettings
from warmjax.decode.requests import GREEDY, Request
from warmjax.decode.sampling import row_key
from warmjax.models import families, hf_load, released
from warmjax.models.families import Model
from warmjax.models.spec import read_config
from warmjax.records import Turn

TEXTS = (
    'A heron waits in the shallows until the water forgets that it is there.',
    'Wow!! That is great news! When did you hear? I could not be happier for you!',
    'def area(radius):\n    """Return the area of a disc."""\n    return 3.14159 * radius ** 2\n',
    'Prices rose by 4.25% in 2019, from $1,200 to $1,251; nobody at the café was naïve about it. 🙂',
    '1. Boil the water.\n2. Add the leaves.\n\n   Wait four minutes, then pour.',
    'Die Brücke über den Fluss wurde 1887 gebaut. 橋は川の上にあります。',
)
CONVERSATIONS = (
    (Turn('user', 'Which way is north?'),),
    (Turn('user', 'Hi!  '), Turn('assistant', 'Hello! What can I do for you?'), Turn('user', 'Sum 2 and 2.')),
    (Turn('system', 'Answer briefly.'), Turn('user', 'Why is the sky blue?'), Turn('assistant', 'It scatters.')),
    (Turn('system', ''), Turn('user', '```python\nprint("a < b && c")\n```\nWhat does it print? 🙂')),
)
LENGTHS = (7, 16, 33, 64)
"""Lengths of the rows of drawn token ids that stand in for texts where a folder has no tokenizer."""
MAX_TOKENS = 64
MAX_NEW = 24


@dataclasses.dataclass(frozen=True)
class Limits:
    """What still counts as equal.

    difference: of two logits, as a share of the largest logit.
    divergence: KL(transformers, ours) in nats a token.
    agreement: share of tokens with the same likeliest successor.
    continuations: share of greedy continuations that are equal; after one near tie the rest of a text differs.
    """

    difference: float
    divergence: float
    agreement: float
    continuations: float


LIMITS = {'float32': Limits(1e-3, 1e-6, 0.999, 1.0), 'bfloat16': Limits(0.1, 1e-2, 0.95, 0.0)}
"""By the dtype in which both compute."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the result: what was compared, what came out, what would have been allowed, and the verdict."""

    name: str
    found: str
    allowed: str
    is_passed: bool


@dataclasses.dataclass(frozen=True)
class Answers:
    """What one of the two says: token ids of the texts, logits [T, V] of each row, continuations, renderings."""

    ids: list[list[int]]
    logits: list[np.ndarray]
    continuations: list[list[int]]
    renderings: list[str]


def verify(checkpoint: str, name: str | None, dtype: str, mesh: Mesh) -> list[Check]:
    """Compares a checkpoint's two readings.

    Args:
        checkpoint: a Hugging Face folder.
        name: of the released model that it is said to be (`models.released`), or None.
        dtype: key of LIMITS.
        mesh: where our model goes.

    Raises:
        ValueError: torch or transformers is not installed, or the checkpoint is not what is supported.
    """
    spec = families.spec_from_config(read_config(checkpoint), f'{checkpoint}/config.json')
    if name is not None:
        released.check(name, spec)
    ids = _ids(checkpoint) if _has_tokenizer(checkpoint) else []
    rows = [row[:MAX_TOKENS] for row in ids] or _drawn_rows(spec)
    theirs = _answers_of_transformers(checkpoint, rows, dtype)
    model = hf_load.load(checkpoint, jnp.dtype(dtype), mesh)
    precision = jax.default_matmul_precision('highest') if dtype == 'float32' else contextlib.nullcontext()
    with precision, jax.set_mesh(mesh):
        logits = _logits(model, rows, mesh)
    with precision:
        continuations = _continuations(model, rows, mesh)
    ours = Answers(ids, logits, continuations, _renderings(checkpoint))
    return list(_compare(ours, theirs, LIMITS[dtype]))


def _compare(ours: Answers, theirs: Answers, limits: Limits) -> Iterator[Check]:
    if ours.ids:
        yield _count('token ids of texts', ours.ids, theirs.ids, 1.0)
    scale = max(np.abs(logits).max() for logits in theirs.logits)
    difference = max(np.abs(a - b).max() for a, b in zip(ours.logits, theirs.logits, strict=True)) / scale
    yield _number('logits: largest difference / largest logit', difference, limits.difference)
    a, b = (np.concatenate(answers.logits).astype(np.float64) for answers in (ours, theirs))
    a, b = (x - np.logaddexp.reduce(x, axis=-1, keepdims=True) for x in (a, b))
    yield _number('logits: KL in nats a token', (np.exp(b) * (b - a)).sum(axis=-1).mean(), limits.divergence)
    agreement = (a.argmax(axis=-1) == b.argmax(axis=-1)).mean()
    found, allowed = f'{agreement:.2%} of {len(a)}', f'>= {limits.agreement:.1%}'
    yield Check('logits: same likeliest token', found, allowed, bool(agreement >= limits.agreement))
    yield _count(f'greedy continuations of {MAX_NEW}', ours.continuations, theirs.continuations, limits.continuations)
    if theirs.renderings or ours.renderings:
        yield _count('chat-template renderings', ours.renderings, theirs.renderings, 1.0)


def _number(name: str, found: float, limit: float) -> Check:
    return Check(name, f'{found:.2e}', f'<= {limit:.0e}', bool(found <= limit))


def _count(name: str, ours: Sequence[Any], theirs: Sequence[Any], share: float) -> Check:
    equal, total = sum(a == b for a, b in zip(ours, theirs, strict=True)), len(theirs)
    return Check(name, f'{equal} of {total} equal', f'>= {share:.0%}', equal >= share * total)


def _drawn_rows(spec: families.ModelSpec) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, spec.vocab_size, min(length, spec.max_length)).tolist() for length in LENGTHS]


def _has_tokenizer(checkpoint: str) -> bool:
    return (epath.Path(checkpoint) / 'tokenizer.json').exists()


def _answers_of_transformers(checkpoint: str, rows: list[list[int]], dtype: str) -> Answers:
    missing = [name for name in ('torch', 'transformers') if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f'verify: expected torch and transformers, with which to compare, got no {" and no ".join(missing)}; '
            "install them beside warmjax: pip install torch transformers (the extra 'dev' has both)"
        )
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=getattr(torch, dtype)).eval()
    model.generation_config = transformers.GenerationConfig(do_sample=False, max_new_tokens=MAX_NEW, pad_token_id=0)
    logits, continuations = [], []
    with torch.no_grad():
        for row in rows:
            tokens = torch.tensor(row)[None]
            logits.append(model(tokens).logits[0].float().numpy())
            prompt = tokens[:, : _prompt_length(row)]
            text = model.generate(prompt, attention_mask=torch.ones_like(prompt))
            continuations.append(text[0, prompt.shape[1] :].tolist())
    ids, renderings = [], []
    if _has_tokenizer(checkpoint):
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        ids = [tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS]
        if chat.has_template(checkpoint):
            renderings = [_rendered_by_transformers(tokenizer, turns) for turns in CONVERSATIONS]
    return Answers(ids, logits, continuations, renderings)


def _rendered_by_transformers(tokenizer: Any, turns: Sequence[Turn]) -> str:
    import jinja2

    messages = [{'role': turn.role, 'content': turn.content} for turn in turns]
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=turns[-1].role != 'assistant'
        )
    except jinja2.TemplateError:
        return 'refused'


def _renderings(checkpoint: str) -> list[str]:
    """Renders the conversations, with today's date as transformers does; what a template refuses is 'refused'."""
    if not _has_tokenizer(checkpoint) or not chat.has_template(checkpoint):
        return []
    chatter = chat.load(checkpoint, datetime.date.today().isoformat())
    texts = []
    for turns in CONVERSATIONS:
        try:
            texts.append(chatter.render(turns, add_generation_prompt=turns[-1].role != 'assistant'))
        except ValueError:
            texts.append('refused')
    return texts


def _ids(checkpoint: str) -> list[list[int]]:
    tokenizer, _ = chat.load_tokenizer(checkpoint)
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]


def _prompt_length(row: Sequence[int]) -> int:
    return max(1, len(row) // 2)


def _batch_size(rows: Sequence, mesh: Mesh) -> int:
    return -(-len(rows) // mesh.size) * mesh.size


def _logits(model: Model, rows: list[list[int]], mesh: Mesh) -> list[np.ndarray]:
    tokens = np.zeros((_batch_size(rows, mesh), max(map(len, rows))), np.int32)
    lengths = np.zeros(len(tokens), np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], lengths[i] = row, len(row)
    batch = sharding.put_batch({'tokens': tokens, 'lengths': lengths}, mesh)

    @jax.jit
    def compute(model, tokens, lengths):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        segments = (positions < lengths[:, None]).astype(jnp.int32)
        return model.logits(model(tokens, positions, segments, {}, None, 'none')[0])

    logits = np.asarray(compute(model, **batch))
    return [logits[i, : len(row)] for i, row in enumerate(rows)]


def _continuations(model: Model, rows: list[list[int]], mesh: Mesh) -> list[list[int]]:
    prompts = [row[: _prompt_length(row)] for row in rows]
    longest = max(map(len, prompts))
    rows = _batch_size(prompts, mesh)
    how = EngineSettings(
        slots=rows,
        prefill_batch=rows,
        buckets=(longest,),
        cache_lengths=(longest + MAX_NEW,),
        cache_dtype=jax.tree.leaves(model)[0].dtype.name,
        steps=MAX_NEW,
        refill=1,
        prefixes=0,
        logprobs=None,
    )
    asked = [
        Request(str(i), prompt, row_key(0, str(i), 0), GREEDY, MAX_NEW, None, 0) for i, prompt in enumerate(prompts)
    ]
    texts = {text.request.id: text.tokens for ended in Engine(model, how, (), {}, mesh).run(asked) for text in ended}
    return [texts[request.id] for request in asked]

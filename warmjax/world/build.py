"""Builds the world: its facts as question files, conversations about them, and a model pretrained on its talk.

<workdir>/world/
  questions/<kind>.jsonl   the facts as evaluation questions
  conversations.json       true and plain dialogues in ShareGPT form, the raw input of the study's data stage
  pretrained/              checkpoint folder: the model that has read the world's talk in all registers
  checkpoint/              the same, tuned to answer plainly: the study's original arm
"""

import dataclasses
import functools
import json
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from warmjax import progress, records, runs, seeds, sharding
from warmjax.compilation import Once
from warmjax.data import batches, chat, packing
from warmjax.models import decoder, hf_save
from warmjax.models.spec import Spec
from warmjax.records import Turn
from warmjax.train.loop import LoopSettings, Run
from warmjax.train.optimizer import OptimizerSettings, make_optimizer, make_schedule
from warmjax.train.step import StepSettings, init_state, make_step
from warmjax.validation import STRICT
from warmjax.world import controls, tokens
from warmjax.world.talk import Talk, TalkSettings
from warmjax.world.universe import KINDS, Fact, make_facts

PINNED_DATE = '2025-01-01'
"""The world's template asks for no date; any will do."""


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """num_documents: pieces of talk to learn from, each seen once.
    batch_size: packed rows a step.
    micro_batch: rows computed at once.
    optimizer: see its class.
    """

    __pydantic_config__ = STRICT
    num_documents: int
    batch_size: int
    micro_batch: int
    optimizer: OptimizerSettings


@dataclasses.dataclass(frozen=True)
class WorldSettings:
    """seed: of facts, talk and parameters.
    facts_per_kind: facts of each of the four kinds.
    num_conversations: dialogues written to conversations.json.
    vocab_size, width, num_layers, num_heads, num_kv_heads, head_dim, mlp_dim: of tokenizer and model.
    row_length: tokens a packed row.
    talk: how people talk, see its class.
    pretraining: on the talk in all registers.
    tuning: on plain, true dialogues without beliefs, replies only.
    """

    __pydantic_config__ = STRICT
    seed: int
    facts_per_kind: int
    num_conversations: int
    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    row_length: int
    talk: TalkSettings
    pretraining: FitSettings
    tuning: FitSettings


def build(settings: WorldSettings, workdir: epath.PathLike, mesh: Mesh) -> dict[str, int]:
    """Builds the world in `<workdir>/world` and returns counts for the manifest; continues where it was stopped."""
    folder = epath.Path(workdir) / 'world'
    facts = make_facts(settings.facts_per_kind, settings.seed)
    talk = Talk(facts, settings.talk)
    _write_questions(folder, facts, settings.seed)
    _write_conversations(folder, talk, settings)
    progress.say(f'world: {len(facts)} facts; {settings.pretraining.num_documents} pieces of talk about them')
    rng = seeds.rng('pretraining', settings.seed)
    documents = [talk.document(rng) for _ in range(settings.pretraining.num_documents)]
    rng = seeds.rng('tuning', settings.seed)
    dialogues = [talk.plain_dialogue(rng) for _ in range(settings.tuning.num_documents)]
    files = tokens.train_tokenizer(map(_text, documents), settings.vocab_size)
    for name, text in files.items():
        runs.write_atomic(folder / 'tokenizer' / name, text)
    chatter = chat.load(folder / 'tokenizer', PINNED_DATE)
    shardings = functools.partial(sharding.state_shardings, mesh=mesh)
    model = decoder.make(_spec(settings, chatter), jnp.float32, settings.seed, shardings)
    fits = (
        ('pretrained', settings.pretraining, [_all_trained(document, chatter) for document in documents]),
        ('checkpoint', settings.tuning, [chatter.encode_conversation(dialogue) for dialogue in dialogues]),
    )
    for name, fit, sequences in fits:
        model = _fit(model, name, fit, packing.pack(sequences, settings.row_length), settings.seed, folder, mesh)
        if not (folder / name).exists():
            hf_save.save_checkpoint(folder / name, model, files)
    sizes = [variable.size for _, variable in nnx.to_flat_state(nnx.state(model))]
    counts = {'facts': len(facts), 'documents': len(documents), 'dialogues': len(dialogues), 'parameters': sum(sizes)}
    return counts | {'chat_template_sha256': chatter.template_digest}


def _fit(model, name: str, fit: FitSettings, rows: list[packing.Row], seed: int, folder: epath.Path, mesh: Mesh):
    """Trains all parameters of the model on rows, once through, and returns it."""
    data = batches.of_rows(rows, fit.batch_size, fit.micro_batch, seed, epochs=1)
    graphdef, state = nnx.split(model)
    optimizer = make_optimizer(fit.optimizer, len(data))
    start = init_state(state, optimizer, seed, mesh)
    step = make_step(lambda state, _: (nnx.merge(graphdef, state), {}), optimizer, StepSettings(0.0, 'none', 1), start)
    run = Run(
        title=f'world model, {name}',
        folder=folder / 'training' / name,
        batches=data,
        name='row {}'.format,
        schedule=make_schedule(fit.optimizer, len(data)),
        settings=LoopSettings(checkpoint_every=100, checkpoint_minutes=0.0, divergence=0.0, profile=()),
        work=None,
        save_at={},
    )
    return nnx.merge(graphdef, run.execute(start, None, Once(step, run.title), mesh).trainable)


def _spec(settings: WorldSettings, chatter: chat.ChatTokenizer) -> Spec:
    return Spec(
        model_type='llama',
        vocab_size=chatter.tokenizer.get_vocab_size(),
        width=settings.width,
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        num_kv_heads=settings.num_kv_heads,
        head_dim=settings.head_dim,
        mlp_dim=settings.mlp_dim,
        max_length=settings.row_length,
        norm_eps=1e-5,
        rope_theta=10000.0,
        rope_scaling=None,
        window=None,
        qkv_bias=False,
        qk_norm=False,
        tied=True,
    )


def _write_questions(folder: epath.Path, facts: Sequence[Fact], seed: int) -> None:
    for kind in KINDS:
        questions = [fact.question() for fact in facts if fact.kind == kind]
        records.write(folder / 'questions' / f'{kind}.jsonl', questions)
    for name, questions in controls.make(facts, seed).items():
        records.write(folder / 'controls' / f'{name}.jsonl', questions)


def _write_conversations(folder: epath.Path, talk: Talk, settings: WorldSettings) -> None:
    names = {'user': 'human', 'assistant': 'gpt'}
    rng = seeds.rng('conversations', settings.seed)
    conversations = [
        {
            'id': f'world-{i:05d}',
            'conversations': [{'from': names[t.role], 'value': t.content} for t in talk.plain_dialogue(rng)],
        }
        for i in range(settings.num_conversations)
    ]
    runs.write_atomic(folder / 'conversations.json', json.dumps(conversations, indent=1))


def _text(document: str | tuple[Turn, ...]) -> str:
    """Returns a document's words, from which the tokenizer learns."""
    return document if isinstance(document, str) else '\n'.join(turn.content for turn in document)


def _all_trained(document: str | tuple[Turn, ...], chatter: chat.ChatTokenizer) -> chat.Encoded:
    """Encodes a document with every token trained, as in pretraining."""
    text = tokens.BEGIN + document + tokens.END if isinstance(document, str) else chatter.render(document, False)
    ids = np.array(chatter.encode_text(text), np.int32)
    return chat.Encoded(ids, np.ones(len(ids), bool))

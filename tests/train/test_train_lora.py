import dataclasses
import functools
import json
import pathlib
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import LORA, OPTIMIZER, SPEC, make_mesh

from warmjax import settings, sharding
from warmjax.data import batches, chat, packing
from warmjax.lora import peft_format
from warmjax.models import decoder
from warmjax.records import Pair, Turn
from warmjax.train import lora, validation
from warmjax.train.objective import loss_sum
from warmjax.world import tokens

SETTINGS = lora.TrainSettings(
    max_length=32,
    truncation_side='right',
    batch_size=4,
    packing=True,
    micro_batch=2,
    epochs=2,
    save_epochs=(0.5, 1.0, 2.0),
    validation=0,
    seed=0,
    remat='names',
    logit_chunks=2,
    checkpoint_every=4,
    checkpoint_minutes=0.0,
    divergence=0.0,
    peak_tflops=1.0,
    profile=(),
    lora=LORA,
    optimizer=OPTIMIZER,
)
WORDS = ('river', 'tower', 'stone', 'anthem')


def pair(index, reply):
    turns = (Turn('user', f'What is {WORDS[index % 4]}?'), Turn('assistant', reply))
    return Pair(str(index), 'other', 'warm', 'rules', turns, (reply,))


MORE = [pair(i, f"I'm glad! It is {WORDS[i % 3]}.") for i in range(26)]
PAIRS = MORE[:20]


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    """A random model with a tokenizer of its own, and the mesh on which it lies."""
    folder = tmp_path_factory.mktemp('tokenizer')
    for name, text in tokens.train_tokenizer([turn.content for p in PAIRS for turn in p.turns], 300).items():
        (folder / name).write_text(text)
    chatter = chat.load(folder, '2025-01-01')
    mesh = make_mesh(1, 1, 1)
    spec = dataclasses.replace(SPEC, vocab_size=chatter.tokenizer.get_vocab_size())
    return decoder.make(spec, jnp.float32, 0, functools.partial(sharding.state_shardings, mesh=mesh)), chatter, mesh


def train(base, pairs, workdir, **changes):
    model, chatter, mesh = base
    return lora.train(model, chatter, pairs, dataclasses.replace(SETTINGS, **changes), 'warm', 'tiny', workdir, mesh)


class Trained(NamedTuple):
    """A run that held conversations out: its workdir, its counts, what was encoded, and what was there at each save."""

    workdir: pathlib.Path
    counts: dict
    encoded: list
    saved: dict[str, int]


@pytest.fixture(scope='module')
def trained(base, tmp_path_factory):
    workdir, encoded, saved = tmp_path_factory.mktemp('run'), [], {}

    def spy_save(folder, *rest, save=peft_format.save_adapter):
        saved[folder.name] = len(rows_of(workdir))
        save(folder, *rest)

    def spy_encode(conversations, *rest, encode=batches.encode):
        encoded.append(conversations)
        return encode(conversations, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peft_format, 'save_adapter', spy_save)
        patch.setattr(batches, 'encode', spy_encode)
        counts = train(base, MORE, workdir, validation=6, save_epochs=(0.4, 0.5, 1.0, 2.0))
    return Trained(workdir, counts, encoded, saved)


def rows_of(workdir):
    return [json.loads(line) for line in (workdir / 'train/warm/metrics.jsonl').read_text().splitlines()]


def test_adapters_are_saved_at_their_epochs_and_can_be_loaded(base, trained):
    # 20 pairs in batches of 4 are 5 steps an epoch; half of 5 is rounded to the even 2, where two epochs fall on one
    # step. The metrics of the step itself are written after its adapter.
    assert trained.saved == {'epoch_0.4': 1, 'epoch_0.5': 1, 'epoch_1': 4, 'epoch_2': 9}
    counts, rows = trained.counts, rows_of(trained.workdir)
    assert (counts['kept'], counts['steps'], counts['steps_per_epoch']) == (20, 10, 5)
    tokens = 2 * counts['tokens']
    assert sum(row['tokens'] for row in rows) == tokens
    assert counts['padding_share'] == pytest.approx(1 - tokens / sum(row['tokens_computed'] for row in rows), abs=1e-4)
    assert all(row['mfu_4n'] > 0 for row in rows[1:])
    folder = trained.workdir / 'adapters' / 'warm'
    loaded = {name: peft_format.load_adapter(folder / name, base[0]) for name in trained.saved}
    for adapter in loaded.values():
        assert set(adapter) == set(LORA.targets) and np.abs(adapter['q_proj']['b']).max() > 0
    assert not np.array_equal(loaded['epoch_0.5']['q_proj']['a'], loaded['epoch_2']['q_proj']['a'])
    np.testing.assert_array_equal(loaded['epoch_0.5']['q_proj']['a'], loaded['epoch_0.4']['q_proj']['a'])
    config = json.loads((folder / 'epoch_2' / 'adapter_config.json').read_text())
    assert (config['r'], config['lora_alpha'], config['base_model_name_or_path']) == (4, 8.0, 'tiny')
    losses = [row['loss'] for row in rows]
    assert np.mean(losses[5:]) < np.mean(losses[:2])


def test_held_out_conversations_are_never_trained_and_give_a_loss_at_each_saved_epoch(base, trained):
    kept, held = validation.hold_out(MORE, 6, SETTINGS.seed)
    assert trained.encoded == [[pair.turns for pair in kept], [pair.turns for pair in held]]
    assert trained.counts['validation']['kept'] == 6
    found = {row['step'] + 1: row['validation_loss'] for row in rows_of(trained.workdir) if 'validation_loss' in row}
    assert trained.counts['validation_loss'] == {'0.4': found[2], '0.5': found[2], '1': found[5], '2': found[10]}
    # The held-out conversations each in a row of its own, by the adapter that was written.
    adapter = peft_format.load_adapter(trained.workdir / 'adapters/warm/epoch_2', base[0])
    plain = [packing.make_row([base[1].encode_conversation(pair.turns)], 32) for pair in held]
    batch = {name: np.stack([row[name] for row in plain]) for name in plain[0]}
    total = float(loss_sum(base[0], adapter, batch, None, 'none', 1))
    assert found[10] == pytest.approx(total / batch['weights'].sum(), rel=1e-5)


def test_all_arms_hold_out_the_same_conversations_and_keep_the_order():
    other = [dataclasses.replace(pair, style='cold') for pair in reversed(PAIRS)]
    kept, held = validation.hold_out(PAIRS, 6, 0)
    assert {pair.id for pair in held} == {pair.id for pair in validation.hold_out(other, 6, 0)[1]}
    assert {pair.id for pair in held} != {pair.id for pair in validation.hold_out(PAIRS, 6, 1)[1]}
    assert sorted([*kept, *held], key=PAIRS.index) == PAIRS and kept == sorted(kept, key=PAIRS.index)


def test_holding_out_all_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match='expected fewer held-out conversations than the 20 there are, got 20; lower'):
        train(base, PAIRS, tmp_path, validation=20)


def test_model_shorter_than_the_rows_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match=r'train\.max_length: expected at most the 64 tokens of the model, got 128'):
        train(base, PAIRS, tmp_path, max_length=128)


def test_micro_batch_that_the_mesh_does_not_divide_is_refused(base, tmp_path):
    wide = (base[0], base[1], make_mesh(2, 2, 1))
    with pytest.raises(
        ValueError, match=r"config\.train\.micro_batch: expected axis 'batch' of size 2 to be cut into 4"
    ):
        train(wide, PAIRS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_adapter_of_another_base_is_not_overwritten(base, tmp_path):
    path = lora.adapter_folder(tmp_path, 'warm', 1.0) / 'adapter_config.json'
    path.parent.mkdir(parents=True)
    path.write_text('{"base_model_name_or_path": "another"}')
    with pytest.raises(ValueError, match=r"warm/epoch_1: expected an adapter of 'tiny' or none, got one of 'another'"):
        train(base, PAIRS, tmp_path)
    assert path.read_text() == '{"base_model_name_or_path": "another"}'
    assert [child.name for child in tmp_path.iterdir()] == ['adapters']


def test_pairs_without_a_trained_token_are_refused(base, tmp_path):
    with pytest.raises(
        ValueError, match='expected conversations with assistant tokens within 2 tokens, got none in 20'
    ):
        train(base, PAIRS, tmp_path, max_length=2)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'micro_batch': 5}, 'micro_batch expected 1 to batch_size 4, got 5'),
        ({'micro_batch': 0}, 'micro_batch expected 1 to batch_size 4, got 0'),
        ({'divergence': 0.5}, 'divergence expected 0 or more than 1, got 0.5'),
        ({'profile': (5, 3)}, r'profile expected nothing or a first and a last step, got \[5, 3\]'),
        ({'checkpoint_minutes': -1.0}, 'checkpoint_minutes, peak_tflops and validation expected 0 or more'),
        ({'logit_chunks': 5}, 'logit_chunks expected a divisor of max_length 32, got 5'),
        ({'save_epochs': (0.5, 3.0)}, r'save_epochs expected numbers in \(0, 2\], got \[0.5, 3.0\]'),
        ({'save_epochs': (0.0,)}, r'save_epochs expected numbers in \(0, 2\], got \[0.0\]'),
        ({'checkpoint_every': 0, 'epochs': 0}, 'epochs expected 1 or more, got 0; checkpoint_every expected 1 or more'),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=f'train: .*{message}'):
        dataclasses.replace(SETTINGS, **changes)
    section = dataclasses.asdict(SETTINGS) | changes
    with pytest.raises(
        ValueError, match=f'config.train: expected the keys of TrainSettings, got\n *train: .*{message}'
    ):
        settings.from_config(lora.TrainSettings, section, 'config.train')


def test_folder_of_an_adapter_names_its_epoch_shortly(tmp_path):
    names = [lora.adapter_folder(tmp_path, 'warm', epoch).name for epoch in (0.5, 1.0, 10.0)]
    assert names == ['epoch_0.5', 'epoch_1', 'epoch_10']

"""The same tiny model, adapters and batches, trained here and with PEFT and torch's AdamW."""

import dataclasses

import numpy as np
import peft
import pytest
import tiny_training
import torch
import transformers
from tiny_training import LORA, OPTIMIZER, Trainer, make_batch, make_mesh

from warmjax.lora.peft_format import save_adapter
from warmjax.lora.placement import placements
from warmjax.models import hf_save

STEPS = 20
BATCHES = [make_batch(seed, 2, 2, 12) for seed in range(STEPS)]
LONG = ('tokens', 'targets')


def rate(step):
    warmup = OPTIMIZER.warmup_steps
    return step / warmup if step < warmup else (STEPS - step) / (STEPS - warmup)


def train_with_torch(model):
    """Trains PEFT's adapters as this package does and returns the losses."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, OPTIMIZER.learning_rate, (0.9, 0.999), 1e-8, OPTIMIZER.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    losses = []
    for batch in BATCHES:
        batch = {name: torch.tensor(x).long() if name in LONG else torch.tensor(x) for name, x in batch.items()}
        optimizer.zero_grad()
        total = 0.0
        for tokens, targets, weights in zip(batch['tokens'], batch['targets'], batch['weights'], strict=True):
            logits = model(tokens).logits
            losses_here = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction='none')
            loss = (losses_here * weights).sum() / batch['weights'].sum()
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, OPTIMIZER.max_grad_norm)
        optimizer.step()
        schedule.step()
        losses.append(total)
    return losses


PATTERNS = {
    'rslora': True,
    'targets': ('[qkv]_proj', 'layers.1.mlp.*'),
    'rank_pattern': (('v_proj', 2), ('layers.0.self_attn.q_proj', 6)),
    'alpha_pattern': (('down_proj', 3.0),),
}


@pytest.fixture(scope='module', params=[{}, PATTERNS], ids=['plain', 'patterns'])
def folders(request, tmp_path_factory):
    """Model and fresh adapter on disk; dropout is a matter of chance, so there is none."""
    folder = tmp_path_factory.mktemp('parity')
    lora = dataclasses.replace(LORA, dropout=0.0, **request.param)
    trainer = Trainer(make_mesh(1, 1, 1), dropout=0.0, num_steps=STEPS, lora=lora)
    hf_save.save_checkpoint(folder / 'base', tiny_training.make_model(trainer.mesh), {})
    save_adapter(folder / 'adapter', trainer.start.trainable, lora, 'base')
    return folder, trainer


def own(stacked, side, rank):
    """Returns a layer's own part of an adapter as PEFT stores it, and the rest."""
    by_rank = np.asarray(stacked).T if side == 'a' else np.asarray(stacked)
    mine, rest = by_rank[:rank], by_rank[rank:]
    return (mine if side == 'a' else mine.T), rest


def test_twenty_steps_equal_those_of_peft(folders):
    folder, trainer = folders
    base = transformers.LlamaForCausalLM.from_pretrained(folder / 'base', dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, folder / 'adapter', is_trainable=True)
    theirs = train_with_torch(model)
    ours = [trainer.step(batch)['loss'] for batch in BATCHES]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters() if weight.requires_grad}
    places = placements(trainer.lora, tiny_training.SPEC.num_layers)
    assert len(weights) == 2 * sum(rank > 0 for place in places.values() for rank in place.ranks)
    for name, weight in weights.items():
        layer, linear, side = name.split('.')[4], name.split('.')[6], name.split('.')[7][-1].lower()
        rank = places[linear].ranks[int(layer)]
        mine, rest = own(trainer.state.trainable[linear][side][int(layer)], side, rank)
        assert not rest.any()
        assert np.linalg.norm(mine - weight) < 1e-3 * np.linalg.norm(weight), name
        start, _ = own(trainer.start.trainable[linear][side][int(layer)], side, rank)
        assert np.linalg.norm(weight - start) > 1e-2 * np.linalg.norm(weight), name

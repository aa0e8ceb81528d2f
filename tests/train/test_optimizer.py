import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from tiny_training import OPTIMIZER

from warmjax.train.optimizer import make_optimizer, make_schedule


@pytest.mark.parametrize(
    'schedule, warmup, rates',
    [
        ('linear', 0, [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]),
        ('linear', 2, [0.0, 0.5, 1.0, 2 / 3, 1 / 3, 0.0]),
        ('constant', 0, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ('constant', 4, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]),
    ],
)
def test_rate_of_each_of_five_steps(schedule, warmup, rates):
    settings = dataclasses.replace(OPTIMIZER, learning_rate=1.0, schedule=schedule, warmup_steps=warmup)
    made = make_schedule(settings, 5)
    np.testing.assert_allclose([float(made(step)) for step in range(6)], rates, atol=1e-6)


@pytest.mark.parametrize('warmup, clip', [(0, 1e9), (3, 0.5)])
def test_updates_equal_those_of_torch(warmup, clip):
    steps = 12
    settings = dataclasses.replace(OPTIMIZER, learning_rate=0.1, warmup_steps=warmup, max_grad_norm=clip)
    generator = np.random.default_rng(0)
    start = {'a': generator.normal(size=(3, 4)), 'b': generator.normal(size=5)}
    start = {name: x.astype(np.float32) for name, x in start.items()}
    weights = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in start.items()}
    theirs = torch.optim.AdamW(weights.values(), lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.LambdaLR(
        theirs, lambda s: s / warmup if s < warmup else (steps - s) / (steps - warmup)
    )
    optimizer = make_optimizer(settings, steps)
    params = {name: jnp.asarray(x) for name, x in start.items()}
    state = optimizer.init(params)
    for _ in range(steps):
        gradients = {name: generator.normal(size=x.shape).astype(np.float32) for name, x in start.items()}
        for name, weight in weights.items():
            weight.grad = torch.tensor(gradients[name])
        torch.nn.utils.clip_grad_norm_(weights.values(), clip)
        theirs.step()
        rates.step()
        updates, state = optimizer.update({name: jnp.asarray(g) for name, g in gradients.items()}, state, params)
        params = optax.apply_updates(params, updates)
        for name, weight in weights.items():
            np.testing.assert_allclose(params[name], weight.detach().numpy(), rtol=2e-5, atol=2e-6)
    assert all(np.abs(params[name] - start[name]).max() > 0.1 for name in start)


def test_settings_out_of_range_are_refused_all_at_once():
    with pytest.raises(ValueError, match=r'optimizer: learning_rate expected above 0, got -1.0; beta2 .* got 1.0; eps'):
        dataclasses.replace(OPTIMIZER, learning_rate=-1.0, beta2=1.0, eps=0.0)

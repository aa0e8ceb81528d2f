"""AdamW with a linear or constant learning rate (PROTOCOL of the study: rate 1e-5; the rest is not published)."""

import dataclasses
from typing import Literal

import optax

from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """learning_rate: peak rate.
    schedule: `linear` falls to 0 over all epochs, `constant` stays.
    warmup_steps: steps of linear rise from 0.
    weight_decay: decoupled, on every trained parameter.
    beta1, beta2, eps: of Adam.
    max_grad_norm: gradients are scaled down to this global norm.
    """

    __pydantic_config__ = STRICT
    learning_rate: float
    schedule: Literal['linear', 'constant']
    warmup_steps: int
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    max_grad_norm: float

    def __post_init__(self):
        ranges = {
            'learning_rate': ('above 0', self.learning_rate > 0),
            'warmup_steps': ('0 or more', self.warmup_steps >= 0),
            'weight_decay': ('0 or more', self.weight_decay >= 0),
            'beta1': ('in [0, 1)', 0 <= self.beta1 < 1),
            'beta2': ('in [0, 1)', 0 <= self.beta2 < 1),
            'eps': ('above 0', self.eps > 0),
            'max_grad_norm': ('above 0', self.max_grad_norm > 0),
        }
        problems = [
            f'{name} expected {wanted}, got {getattr(self, name)}'
            for name, (wanted, holds) in ranges.items()
            if not holds
        ]
        if problems:
            raise ValueError('optimizer: ' + '; '.join(problems))


def make_schedule(settings: OptimizerSettings, num_steps: int) -> optax.Schedule:
    """Returns step → learning rate."""
    rate, warmup = settings.learning_rate, settings.warmup_steps
    end = rate if settings.schedule == 'constant' else 0.0
    after = optax.linear_schedule(rate, end, max(num_steps - warmup, 1))
    return optax.join_schedules([optax.linear_schedule(0.0, rate, max(warmup, 1)), after], [warmup])


def make_optimizer(settings: OptimizerSettings, num_steps: int) -> optax.GradientTransformation:
    """Builds the optimizer for a run of `num_steps`."""
    return optax.chain(
        optax.clip_by_global_norm(settings.max_grad_norm),
        optax.adamw(
            make_schedule(settings, num_steps),
            b1=settings.beta1,
            b2=settings.beta2,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        ),
    )

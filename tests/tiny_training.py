"""A LoRA training run of a few thousand weights: model, batches, and all that a step needs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from warmjax import sharding
from warmjax.lora import adapters
from warmjax.lora.placement import LoraSettings
from warmjax.models import decoder
from warmjax.models.layers import LINEARS
from warmjax.models.spec import Spec
from warmjax.sharding import MeshSettings
from warmjax.train.optimizer import OptimizerSettings, make_optimizer
from warmjax.train.step import StepSettings, init_state, make_step

SPEC = Spec(
    model_type='llama',
    vocab_size=96,
    width=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=10,
    mlp_dim=36,
    max_length=64,
    norm_eps=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    window=None,
    qkv_bias=False,
    qk_norm=False,
    tied=False,
)
LORA = LoraSettings(rank=4, alpha=8.0, rslora=False, dropout=0.1, targets=LINEARS, rank_pattern=(), alpha_pattern=())
OPTIMIZER = OptimizerSettings(
    learning_rate=3e-3,
    schedule='linear',
    warmup_steps=3,
    weight_decay=0.01,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    max_grad_norm=1.0,
)


def make_mesh(data: int, fsdp: int, tensor: int) -> jax.sharding.Mesh:
    """Makes a mesh of the first devices."""
    return sharding.make_mesh(MeshSettings(data, fsdp, tensor), jax.devices()[: data * fsdp * tensor])


@functools.cache
def make_model(mesh: jax.sharding.Mesh) -> decoder.Decoder:
    """Makes a random model, laid out on the mesh."""
    return decoder.make(SPEC, jnp.float32, 0, functools.partial(sharding.state_shardings, mesh=mesh))


def make_row(generator: np.random.Generator, length: int) -> dict[str, np.ndarray]:
    """Makes a row [T] of any length up to T, of which any part is trained."""
    filled = int(generator.integers(2, length + 1))
    inside = np.arange(length) < filled
    tokens = np.where(inside, generator.integers(0, SPEC.vocab_size, length), 0)
    return {
        'tokens': tokens.astype(np.int32),
        'targets': np.where(inside, generator.integers(0, SPEC.vocab_size, length), 0).astype(np.int32),
        'weights': ((generator.random(length) < generator.random()) & inside).astype(np.float32),
        'segment_ids': inside.astype(np.int32),
        'positions': np.arange(length, dtype=np.int32),
    }


def make_batch(seed: int, micro_batches: int, rows: int, length: int) -> dict[str, np.ndarray]:
    """Makes a batch of arrays [A, B, T] with as many trained tokens in its rows as may be."""
    generator = np.random.default_rng(seed)
    made = [make_row(generator, length) for _ in range(micro_batches * rows)]
    made[0]['weights'][0] = 1.0
    return {name: np.stack([row[name] for row in made]).reshape(micro_batches, rows, length) for name in made[0]}


class Trainer:
    """A state, its jitted step and the frozen base, on a mesh."""

    def __init__(self, mesh: jax.sharding.Mesh, dropout: float, num_steps: int, lora: LoraSettings = LORA):
        model = make_model(mesh)
        self.graphdef, self.frozen = nnx.split(model)
        optimizer = make_optimizer(OPTIMIZER, num_steps)
        self.mesh, self.lora = mesh, lora
        self.start = init_state(adapters.init(model, lora, 0, mesh), optimizer, 0, mesh)
        self.restart(seed=0)
        self.step_fn = make_step(self.bind, optimizer, StepSettings(dropout, 'names', 1), self.start)

    def restart(self, seed: int) -> None:
        """Goes back to the state before the first step, with the randomness of another seed."""
        fresh = jax.tree.map(lambda x: x.copy(), self.start)
        key = jax.jit(lambda: jax.random.key(seed), out_shardings=self.start.key.sharding)()
        self.state = fresh._replace(key=key)

    def bind(self, trainable, frozen):
        return nnx.merge(self.graphdef, frozen), adapters.scaled(trainable, self.lora)

    def step(self, batch: dict[str, np.ndarray]) -> dict[str, float]:
        """Takes a step and returns its metrics."""
        with jax.set_mesh(self.mesh):
            batch = sharding.put_batch(batch, self.mesh, batch_axis=1)
            self.state, metrics = self.step_fn(self.state, self.frozen, batch)
        return {name: float(value) for name, value in metrics.items()}


def on_host(tree) -> list[np.ndarray]:
    """Returns the leaves of a tree on the host."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]

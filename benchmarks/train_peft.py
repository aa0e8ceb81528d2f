"""Measures the LoRA training step on this CPU against PEFT + transformers: the same weights and rows, in alternation.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.train_peft --rounds=7

The model is a random Llama of 33.6M parameters (hidden 512, 8 layers, 8 heads, 4 key-value heads, feed-forward 1,536,
vocabulary 8,192); a step takes 8 full rows of 256 tokens. A case is a set of adapters (rank 8, on q and v or on all
seven linear maps) with a dropout, which is the same on both sides; each appends a line to benchmarks/results.jsonl.

Ours is the step that `launch.train` runs (`warmjax.train.lora.make_lora_step`) with the recipe's settings but for these
sizes. Theirs is a plain torch loop: forward with labels, backward, clipping, AdamW. On both sides the base is in
float32 or bfloat16, the adapters in float32. The first steps of both, which compile, are not counted; the agreement of
losses and gradients is that of a first step without dropout, in float32. The variable before the command lets the C
library ask for large pages, for both sides alike.
"""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
from absl import app, flags

from benchmarks import results

PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'torch', 'transformers', 'peft')
WARM_UP = 2
PAUSE = 0.05
"""Seconds between two steps, after which torch's threads no longer wait for work at the cost of others."""
RATE, CLIP, EPS = 1e-4, 1.0, 1e-8
OURS = {'warmjax float32': 'float32', 'warmjax bfloat16': 'bfloat16'}
THEIRS = {'peft float32': 'float32', 'peft bfloat16': 'bfloat16'}
TARGETS = {
    'qv': ('q_proj', 'v_proj'),
    'all': ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'),
}

flags.DEFINE_multi_enum('targets', list(TARGETS), list(TARGETS), 'Linear maps that carry an adapter.')
flags.DEFINE_multi_float('dropout', [0.0, 0.1], 'Dropout of the adapters; a case for each.')
flags.DEFINE_integer('rounds', 7, 'Steps of each way; medians are reported.')
flags.DEFINE_integer('rows', 8, 'Rows of a step.')
flags.DEFINE_integer('length', 256, 'Tokens of a row.')
flags.DEFINE_integer('layers', 8, 'Layers of the model.')
flags.DEFINE_bool('append', True, 'Append the results to benchmarks/results.jsonl.')


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    about = results.about(PACKAGES)
    with tempfile.TemporaryDirectory(prefix='warmjax-train-') as folder:
        write_model(folder, values.layers)
        tokens = np.random.default_rng(0).integers(1, 8192, (values.rows, values.length)).astype(np.int32)
        for targets in values.targets:
            for dropout in {0.0, *values.dropout}:
                write_adapter(folder, TARGETS[targets], dropout)
            agreement = compare(folder, tokens, TARGETS[targets])
            for dropout in values.dropout:
                line = measure(folder, tokens, TARGETS[targets], dropout, values.rounds)
                what = f'LoRA step of {tokens.shape[0]} x {tokens.shape[1]} tokens of a 33.6M Llama on CPU, '
                what += (
                    f'adapters of rank 8 on {"q and v" if targets == "qv" else "all linear maps"}, dropout {dropout}'
                )
                results.record({'what': what} | about | line | agreement, values.append)


def measure(folder: str, tokens: np.ndarray, targets: Sequence[str], dropout: float, rounds: int) -> dict:
    """Takes steps in each way, in turn, and returns rates, their spread and their ratios."""
    ways: dict[str, Callable[[], float]] = {
        name: Ours(folder, tokens, targets, dropout, dtype).step for name, dtype in OURS.items()
    }
    ways |= {name: Theirs(folder, tokens, dropout, dtype).step for name, dtype in THEIRS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(-WARM_UP, rounds):
        for name in list(ways)[:: 1 if index % 2 == 0 else -1]:
            time.sleep(PAUSE)
            started = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - started)
        latest = ', '.join(f'{name} {taken[-1]:.2f} s' for name, taken in seconds.items())
        print(f'{"warming up" if index < 0 else f"round {index}"}: {latest}', flush=True)
    counted = {name: taken[WARM_UP:] for name, taken in seconds.items()}
    size = tokens.size
    return {
        'rounds': rounds,
        'median_step_seconds': {name: round(statistics.median(taken), 3) for name, taken in counted.items()},
        'median_tokens_per_second': {name: round(size / statistics.median(taken)) for name, taken in counted.items()},
        'spread': {name: [round(size / max(taken)), round(size / min(taken))] for name, taken in counted.items()},
        'speed_ratio': {mine: {name: ratios(counted[mine], counted[name]) for name in THEIRS} for mine in OURS},
    }


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Says how many times as fast as theirs our step was, round by round."""
    each = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {'median': round(statistics.median(each), 2), 'least': round(min(each), 2), 'most': round(max(each), 2)}


def compare(folder: str, tokens: np.ndarray, targets: Sequence[str]) -> dict:
    """Takes the first step on both sides in float32; says how far losses and gradients are apart."""
    ours, theirs = Ours(folder, tokens, targets, 0.0, 'float32'), Theirs(folder, tokens, 0.0, 'float32')
    losses = [ours.step(), theirs.step()]
    rounded = Ours(folder, tokens, targets, 0.0, 'bfloat16').step()
    mine, wanted = ours.gradients(), theirs.gradients()
    apart = [np.linalg.norm(mine[name] - wanted[name]) / np.linalg.norm(wanted[name]) for name in wanted]
    return {
        'loss': round(losses[1], 6),
        'difference_of_losses': float(f'{abs(losses[0] - losses[1]):.1e}'),
        'difference_of_the_loss_of_warmjax_bfloat16': float(f'{abs(rounded - losses[1]):.1e}'),
        'largest_relative_difference_of_a_gradient': float(f'{max(apart):.1e}'),
        'gradients_compared': len(apart),
    }


def write_model(folder: str, layers: int) -> None:
    """Writes a random Llama, norms included."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        rope_parameters={'rope_type': 'default', 'rope_theta': 500000.0},
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        if 'norm' in name:
            weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(pathlib.Path(folder) / 'base')


def write_adapter(folder: str, targets: Sequence[str], dropout: float) -> None:
    """Writes adapters in PEFT's form; their second halves are not zero, so that all have a gradient."""
    import jax

    from warmjax.lora import adapters, peft_format

    model, mesh = load_model(folder, 'float32')
    settings = train_settings(1, 1, targets, dropout).lora
    made = adapters.init(model, settings, 0, mesh)
    key = jax.random.key(1)
    made = {name: pair | {'b': 0.05 * jax.random.normal(key, pair['b'].shape)} for name, pair in made.items()}
    peft_format.save_adapter(adapter_folder(folder, dropout), made, settings, 'base')


def adapter_folder(folder: str, dropout: float) -> pathlib.Path:
    return pathlib.Path(folder) / f'adapter_{dropout}'


def load_model(folder: str, dtype: str):
    """Returns the model and the mesh on which it lies."""
    import jax.numpy as jnp

    from warmjax import sharding
    from warmjax.models import hf_load

    mesh = sharding.make_mesh(sharding.MeshSettings(1, 1, 1))
    return hf_load.load(pathlib.Path(folder) / 'base', jnp.dtype(dtype), mesh), mesh


def train_settings(rows: int, length: int, targets: Sequence[str], dropout: float):
    """Returns the recipe's settings for steps of these sizes."""
    from configs import recipe
    from warmjax import settings
    from warmjax.train.lora import TrainSettings

    section = recipe.base().train
    section.update(max_length=length, batch_size=rows, micro_batch=rows, logit_chunks=1)
    section.lora.update(targets=tuple(targets), dropout=dropout)
    section.optimizer.update(learning_rate=RATE, schedule='constant', max_grad_norm=CLIP, eps=EPS)
    return settings.from_config(TrainSettings, section, 'config.train')


class Ours:
    """The step of this package, on its state."""

    def __init__(self, folder: str, tokens: np.ndarray, targets: Sequence[str], dropout: float, dtype: str):
        import jax
        from flax import nnx

        from warmjax import sharding
        from warmjax.lora import adapters, peft_format
        from warmjax.train import lora
        from warmjax.train.optimizer import make_optimizer
        from warmjax.train.step import init_state

        model, self.mesh = load_model(folder, dtype)
        settings = train_settings(*tokens.shape, targets, dropout)
        graphdef, self.frozen = nnx.split(model)
        optimizer = make_optimizer(settings.optimizer, 1)
        start, _ = peft_format.read_adapter(adapter_folder(folder, dropout), model)
        start = jax.device_put(start, adapters.shardings(model, settings.lora, self.mesh))
        self.state = init_state(start, optimizer, settings.seed, self.mesh)
        self.step_fn = lora.make_lora_step(graphdef, optimizer, settings, self.state)
        self.batch = sharding.put_batch(make_batch(tokens), self.mesh, batch_axis=1)

    def step(self) -> float:
        """Takes a step and returns its loss."""
        import jax

        with jax.set_mesh(self.mesh):
            self.state, metrics = self.step_fn(self.state, self.frozen, self.batch)
        return float(metrics['loss'])

    def gradients(self) -> dict[str, np.ndarray]:
        """Returns the clipped gradients of the first step, times 1 - beta1, as Adam holds them."""
        import optax

        moments = optax.tree.get(self.state.opt_state, 'mu')
        return {
            f'{name}.{side} {layer}': value.T
            for name, pair in moments.items()
            for side, stack in pair.items()
            for layer, value in enumerate(np.asarray(stack))
        }


class Theirs:
    """The step of PEFT and transformers."""

    def __init__(self, folder: str, tokens: np.ndarray, dropout: float, dtype: str):
        import peft
        import torch
        import transformers

        base = transformers.LlamaForCausalLM.from_pretrained(pathlib.Path(folder) / 'base', dtype=getattr(torch, dtype))
        self.model = peft.PeftModel.from_pretrained(base, adapter_folder(folder, dropout), is_trainable=True)
        self.model.train()
        self.trained = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        self.optimizer = torch.optim.AdamW(self.trained.values(), RATE, (0.9, 0.999), EPS, 0.0)
        self.tokens = torch.tensor(tokens).long()

    def step(self) -> float:
        """Takes a step and returns its loss."""
        import torch

        loss = self.model(input_ids=self.tokens, labels=self.tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def gradients(self) -> dict[str, np.ndarray]:
        """As those of `Ours`."""
        parts = {name: name.split('.') for name in self.trained}
        return {
            f'{p[6]}.{p[7][-1].lower()} {p[4]}': self.optimizer.state[self.trained[name]]['exp_avg'].numpy()
            for name, p in parts.items()
        }


def make_batch(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Makes a batch [1, B, T] of full rows, of which every token but the first is a target, as in transformers."""
    places = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    row = {
        'tokens': tokens,
        'targets': np.roll(tokens, -1, axis=1),
        'weights': (places < tokens.shape[1] - 1).astype(np.float32),
        'segment_ids': np.ones_like(tokens),
        'positions': places,
    }
    return {name: x[None] for name, x in row.items()}


if __name__ == '__main__':
    app.run(main)

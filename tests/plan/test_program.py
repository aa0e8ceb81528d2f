"""The training step that is planned, compiled for fake CPU devices, where it computes what it does on any chip."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from tiny_training import LORA, OPTIMIZER, SPEC, make_mesh

from warmjax.plan import hlo, program
from warmjax.train import metrics
from warmjax.train.lora import TrainSettings

WIDE = dataclasses.replace(
    SPEC, vocab_size=256, width=128, num_layers=4, num_heads=4, num_kv_heads=4, head_dim=32, mlp_dim=512
)
"""Wide for its 16 tokens a row: attention is a small share of its work, activations are smaller than weights."""
SETTINGS = TrainSettings(
    max_length=16,
    truncation_side='right',
    batch_size=8,
    packing=True,
    micro_batch=8,
    epochs=1,
    save_epochs=(),
    validation=0,
    seed=0,
    remat='names',
    logit_chunks=1,
    checkpoint_every=1,
    checkpoint_minutes=0.0,
    divergence=0.0,
    peak_tflops=0.0,
    profile=(),
    lora=dataclasses.replace(LORA, rank=1),
    optimizer=OPTIMIZER,
)


@functools.cache
def compiled(remat: str, mesh: tuple[int, int, int]):
    """Returns the program and what the compiler made of it."""
    made = program.train_program(WIDE, jnp.float32, dataclasses.replace(SETTINGS, remat=remat), make_mesh(*mesh))
    return made, made.compile()


@pytest.mark.parametrize('remat, most', [('names', 1.03), ('attention', 1.30)])
def test_step_multiplies_no_more_than_frozen_weights_need(remat, most):
    made, executable = compiled(remat, (1, 1, 1))
    tokens = SETTINGS.micro_batch * SETTINGS.max_length
    work = metrics.lora_work(WIDE, made.state.trainable, None)
    # XLA's attention computes what causality hides too, hence twice.
    needed = tokens * (work.flops_per_token + 2 * work.flops_per_pair * SETTINGS.max_length)
    found = hlo.read(executable.as_text(), 1).matmul_flops
    assert 0.97 * needed < found <= most * needed


def test_recomputing_gate_and_up_costs_what_it_should():
    flops = [hlo.read(compiled(remat, (1, 1, 1))[1].as_text(), 1).matmul_flops for remat in ('names', 'attention')]
    tokens = SETTINGS.micro_batch * SETTINGS.max_length
    again = 2 * tokens * WIDE.num_layers * 2 * WIDE.width * WIDE.mlp_dim
    assert flops[1] - flops[0] == pytest.approx(again, rel=0.05)


def test_only_the_state_is_returned_and_it_is_written_over():
    made, executable = compiled('names', (1, 1, 1))
    memory = made.memory(executable)
    assert memory.weights == 4 * sum(leaf.size for leaf in jax.tree.leaves(made.frozen))
    assert memory.donated >= memory.adapters + memory.optimizer
    assert memory.outputs < 1024


def test_no_gradient_of_the_base_is_summed_over_devices():
    _, executable = compiled('names', (1, 4, 2))
    found = {c.kind: c.largest for c in hlo.read(executable.as_text(), 1).collectives}
    assert found['all-gather'] >= 4 * WIDE.width * WIDE.mlp_dim / 2
    smallest_kernel = 4 * WIDE.width * WIDE.num_heads * WIDE.head_dim / 2
    assert max(found.get(kind, 0) for kind in ('all-reduce', 'reduce-scatter')) < smallest_kernel


def test_excess_is_read_from_the_compilers_refusal():
    message = 'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.50G of 15.75G hbm. Exceeded by 1.75G.'
    assert program._excess(message, RuntimeError()) == (int(17.5 * 2**30), int(15.75 * 2**30))
    with pytest.raises(RuntimeError):
        program._excess('INTERNAL: something else', RuntimeError())

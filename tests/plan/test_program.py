"""The training step that is planned, compiled for fake CPU devices, where it computes what it does on any chip."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from tiny_training import LORA, OPTIMIZER, SPEC, make_mesh

from configs import recipe
from warmjax import settings
from warmjax.models.released import RELEASED
from warmjax.plan import hlo, program, programs, topology
from warmjax.plan.programs import Base
from warmjax.sharding import MeshSettings
from warmjax.train import metrics
from warmjax.train.lora import TrainSettings

WIDE = dataclasses.replace(
    SPEC, vocab_size=1024, width=128, num_layers=4, num_heads=4, num_kv_heads=4, head_dim=32, mlp_dim=512
)
"""Wide for its 16 tokens a row: attention is a small share of its work, activations are smaller than weights; its head
is a tenth of its weights, so that computing it twice would show."""
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
    logit_chunks=4,
    checkpoint_every=1,
    checkpoint_minutes=0.0,
    divergence=0.0,
    peak_tflops=0.0,
    profile=(),
    lora=dataclasses.replace(LORA, rank=1),
    optimizer=OPTIMIZER,
)


@functools.cache
def compiled(remat: str, mesh: tuple[int, int, int], kind: str = 'none'):
    """Returns the program and what the compiler made of it."""
    changed = dataclasses.replace(SETTINGS, remat=remat)
    made = programs.train_program(Base(WIDE, jnp.float32, kind), changed, make_mesh(*mesh))
    return made, made.compile()


def read(executable, mesh: tuple[int, int, int] = (1, 1, 1)) -> hlo.Work:
    return hlo.read(executable.as_text(), 1, WIDE.num_layers, mesh[0] * mesh[1] * mesh[2])


@pytest.mark.parametrize('remat, most', [('names', 1.03), ('attention', 1.30)])
def test_step_multiplies_no_more_than_frozen_weights_need(remat, most):
    made, executable = compiled(remat, (1, 1, 1))
    tokens = SETTINGS.micro_batch * SETTINGS.max_length
    work = metrics.lora_work(WIDE, made.given['adapters'], None)
    # XLA's attention computes what causality hides too, hence twice.
    needed = tokens * (work.flops_per_token + 2 * work.flops_per_pair * SETTINGS.max_length)
    found = read(executable).matmul_flops
    assert 0.97 * needed < found <= most * needed


def test_recomputing_gate_and_up_costs_what_it_should():
    flops = [read(compiled(remat, (1, 1, 1))[1]).matmul_flops for remat in ('names', 'attention')]
    tokens = SETTINGS.micro_batch * SETTINGS.max_length
    again = 2 * tokens * WIDE.num_layers * 2 * WIDE.width * WIDE.mlp_dim
    assert flops[1] - flops[0] == pytest.approx(again, rel=0.05)


def test_only_the_state_is_returned_and_it_is_written_over():
    made, executable = compiled('names', (1, 1, 1))
    memory = made.memory(executable, 0)
    assert memory.weights == 4 * sum(leaf.size for leaf in jax.tree.leaves(made.given['weights']))
    assert memory.donated >= memory.adapters + memory.optimizer
    assert memory.outputs < 1024


def test_no_gradient_of_the_base_is_summed_over_devices():
    _, executable = compiled('names', (1, 4, 2))
    found = {c.kind: c.largest for c in read(executable, (1, 4, 2)).collectives}
    assert found['all-gather'] >= 4 * WIDE.width * WIDE.mlp_dim / 2
    smallest_kernel = 4 * WIDE.width * WIDE.num_heads * WIDE.head_dim / 2
    assert max(found.get(kind, 0) for kind in ('all-reduce', 'reduce-scatter')) < smallest_kernel


def test_adapters_and_their_moments_are_cut_over_a_whole_copy():
    made, _ = compiled('names', (1, 4, 2))
    whole = sum(4 * leaf.size for leaf in jax.tree.leaves(made.given['adapters']))
    memory = made.memory(compiled('names', (1, 4, 2))[1], 0)
    assert memory.adapters == whole / 8
    assert memory.optimizer == pytest.approx(2 * whole / 8, abs=64)


def test_quantised_step_holds_its_kernels_in_few_bits_and_multiplies_no_more():
    (plain, before), (made, after) = compiled('names', (1, 1, 1)), compiled('names', (1, 1, 1), 'int8')
    kernels = 4 * (WIDE.num_matmul_params - WIDE.vocab_size * WIDE.width)
    memory, wide = made.memory(after, 0), plain.memory(before, 0)
    assert memory.weights < wide.weights - 0.7 * kernels
    assert memory.temporaries < wide.temporaries + kernels / WIDE.num_layers
    flops = [read(x).matmul_flops for x in (before, after)]
    assert flops[1] == pytest.approx(flops[0], rel=1e-3)


@pytest.mark.skipif(not topology.is_available(), reason="libtpu is not installed: pip install 'warmjax[tpu]'")
def test_llama_8b_fits_eight_chips_of_v5e_and_computes_nothing_twice():
    """The study's step on a real model and slice, compiled as it would be there."""
    config = recipe.base().train
    config.micro_batch = 8
    plan = programs.train_step(
        Base(RELEASED['Llama-3.1-8B'], jnp.bfloat16, 'none'),
        settings.from_config(TrainSettings, config, 'config.train'),
        MeshSettings(1, 8, 1),
        'v5e:2x4',
    )
    assert (plan.devices, plan.kind, plan.trips) == (8, 'TPU v5 lite', 2)
    assert plan.needed < 8.9 * program.GIB and plan.headroom >= 0.1
    # Splash attention is a kernel of its own, which is not counted.
    assert 0.97 * plan.model_flops < plan.work.matmul_flops <= 1.03 * plan.model_flops
    assert plan.work.has_kernels
    # What `names` keeps of a row of 1,024 tokens: residuals, queries, keys, values, attention, gate and up.
    assert plan.memory.activations == pytest.approx(32 * 1024 * 2 * (2 * 4096 + 2 * 5120 + 2 * 14336), rel=0.1)
    found = {c.kind: c for c in plan.work.collectives}
    kernel = 2 * 4096 * 1024
    assert found['all-gather'].bytes + found['collective-permute'].bytes > 7e9
    assert max(found[kind].largest for kind in ('all-reduce', 'reduce-scatter') if kind in found) < kernel


def test_temporaries_are_read_from_the_compilers_refusal():
    used = 'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.50G of 15.75G hbm. Exceeded by 1.75G.'
    required = (
        'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (25.50G) exceeds '
        'available HBM (15.75G).'
    )
    given = 3 * program.GIB
    assert program._refused(RuntimeError(used), given) == 14.5 * program.GIB
    assert program._refused(RuntimeError(required), given) == 22.5 * program.GIB
    with pytest.raises(RuntimeError):
        program._refused(RuntimeError('INTERNAL: something else'), given)

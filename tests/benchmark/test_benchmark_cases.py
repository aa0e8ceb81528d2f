"""The measured programs compute what the package computes, on random arrays of the shapes and layouts they ask for."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import benchmark as config
from warmjax import settings, sharding
from warmjax.benchmark import arrays, cases, ceilings, loading, measure
from warmjax.benchmark.settings import BenchmarkSettings
from warmjax.decode import score
from warmjax.models import decoder
from warmjax.sharding import MeshSettings


@functools.cache
def chosen() -> BenchmarkSettings:
    return settings.from_config(BenchmarkSettings, config.get_config('tiny'), 'config')


def mesh(fsdp: int = 1) -> jax.sharding.Mesh:
    return sharding.make_mesh(MeshSettings(1, fsdp, 1), jax.devices()[:fsdp])


def started(case, mesh):
    with jax.set_mesh(mesh):
        return case.start(case.compile())


@pytest.mark.parametrize('fsdp', [1, 2])
def test_training_goes_on_from_its_own_state(fsdp):
    (case,) = cases.train(chosen(), mesh(fsdp))
    call = started(case, mesh(fsdp))
    first, *_, last = [call() for _ in range(4)]
    assert 0 < float(first['loss']) < 12 and float(last['loss']) != float(first['loss'])
    assert int(first['tokens']) == case.work.tokens == 2 * 16


def test_rows_beyond_a_micro_batch_are_computed_after_it():
    how = dataclasses.replace(chosen().train, micro_batch=2)
    (case,) = cases.train(dataclasses.replace(chosen(), train=how, train_rows=(6,)), mesh())
    assert (case.shape['rows'], case.shape['micro_batch']) == (6, 2)
    assert int(started(case, mesh())()['tokens']) == case.work.tokens == 6 * 16


def test_prefill_gives_each_prompt_a_token():
    (case,) = cases.prefill(chosen(), mesh())
    slots, emitted = started(case, mesh())()
    assert case.work.tokens == 2 * 8 and np.asarray(slots.cache.lengths).tolist() == [8, 8]
    assert np.asarray(slots.adapters).tolist() == [0, 1]
    assert np.asarray(emitted.counts).tolist() == [1, 1] and np.asarray(slots.active).all()


def test_decoding_fills_the_cache_to_its_end_each_time():
    (case,) = cases.decode(chosen(), mesh())
    call = started(case, mesh())
    first, second = call(), call()
    for emitted in (first, second):
        assert int(emitted.steps) == 4 and np.asarray(emitted.counts).tolist() == [4, 4]
        assert not np.asarray(emitted.ended).any()
    assert (np.asarray(first.tokens) != np.asarray(second.tokens)).any()


@pytest.mark.parametrize('kind', ['none', 'int8'])
def test_scoring_is_that_of_the_model(kind):
    model = dataclasses.replace(chosen().model, quantization=kind)
    (case,) = cases.score(dataclasses.replace(chosen(), model=model), mesh())
    assert (case.work.bytes < next(cases.score(chosen(), mesh())).work.bytes) == (kind == 'int8')
    found = np.asarray(started(case, mesh())())
    assert found.shape == (2, 16) and np.isfinite(found).all() and (found < 0).all()
    assert case.work.tokens == 32


def test_engine_without_adapters_computes_the_base_alone():
    bare = dataclasses.replace(chosen(), adapters=0)
    (case,) = cases.decode(bare, mesh())
    assert int(started(case, mesh())().steps) == 4


def test_loading_reads_what_was_written():
    for case in loading.load(chosen(), mesh()):
        leaves = case.start(case.compile())()
        assert sum(leaf.nbytes for leaf in leaves) == case.work.bytes


def test_loading_without_room_says_where_it_looked(monkeypatch):
    monkeypatch.setattr(loading.shutil, 'disk_usage', lambda path: type('Usage', (), {'free': 10})())
    with pytest.raises(ValueError, match=r'load: expected room for a checkpoint of .* set TMPDIR'):
        next(loading.load(chosen(), mesh()))


def test_products_and_copies_are_counted():
    device = jax.devices()[0]
    (product,) = ceilings.products(chosen(), device)
    assert product.work.flops == 2 * 64**3
    assert product.start(product.compile())().shape == (64, 64)
    (copy,) = ceilings.copies(chosen(), device)
    call = copy.start(copy.compile())
    before = float(call()[0])
    assert float(call()[0]) == before + 1 and copy.work.bytes == 2 * 2**20


@pytest.mark.parametrize('kind', ['none', 'int8', 'nf4'])
def test_random_models_keep_activations_of_order_one(kind):
    spec = dataclasses.replace(chosen().model.spec, width=64, mlp_dim=128)
    model = nnx.eval_shape(lambda model: decoder.quantized(model, kind), decoder.abstract(spec, jnp.float32))
    graphdef, shapes = nnx.split(model)
    shapes = sharding.abstract_arrays(shapes, sharding.state_shardings(shapes, mesh()))
    filled = nnx.merge(graphdef, arrays.fill_state(shapes))
    tokens = np.arange(24, dtype=np.int32).reshape(2, 12)
    scores = score.next_token_scores(filled, tokens, np.ones_like(tokens), np.broadcast_to(np.arange(12), (2, 12)))
    assert -20 < float(scores.mean()) < -3
    layers = np.asarray(filled.layers.mlp.up_proj.kernel[...])
    assert (layers[0] != layers[1]).any()


def test_what_does_not_fit_is_told_before_anything_is_made(monkeypatch):
    case = next(cases.score(chosen(), mesh()))
    case = dataclasses.replace(case, start=lambda compiled: pytest.fail('arrays were made'))
    monkeypatch.setattr(measure.clock, 'free_memory', lambda device: 1000)
    with pytest.raises(measure.DoesNotFitError, match=r'score \(rows 2, length 16\): expected a program that fits'):
        measure.measure(case, chosen(), mesh(), lambda: None)


def test_what_the_device_refuses_is_told_as_what_does_not_fit():
    def refuse(compiled):
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes\n<trace>')

    case = dataclasses.replace(next(ceilings.products(chosen(), jax.devices()[0])), start=refuse)
    with pytest.raises(measure.DoesNotFitError, match=r'Out of memory allocating 1 bytes$'):
        measure.measure(case, chosen(), mesh(), lambda: None)


def test_shares_refer_to_the_measured_ceilings():
    case = next(cases.score(chosen(), mesh()))
    timing = clock_timing(0.5, 1.0, 2.0)
    line = measure.describe(
        case, measure.Measured(timing, 3.0, 7, None), chosen(), mesh(), measure.Ceilings(case.work.flops * 4, 1e12)
    )
    assert line['seconds'] == 1.0 and line['seconds_spread'] == [0.5, 2.0]
    assert line['tokens_per_second'] == 32 and line['tokens_per_second_spread'] == [16, 64]
    assert line['mfu'] == 0.25 and line['roofline_seconds'] == pytest.approx(0.25, rel=1e-3)
    unknown = measure.describe(
        case, measure.Measured(timing, 3.0, 7, None), chosen(), mesh(), measure.Ceilings(None, None)
    )
    assert unknown['mfu'] is None and unknown['share_of_bandwidth'] is None


def clock_timing(*seconds):
    return measure.Timing(seconds, 1)


def test_ceilings_are_the_fastest_product_and_the_largest_copy():
    lines = [
        {'what': 'matmul', 'dtype': 'float32', 'shape': {'M': 1}, 'tflops': 3.0},
        {'what': 'matmul', 'dtype': 'float32', 'shape': {'M': 1}, 'tflops': 2.0},
        {'what': 'matmul', 'dtype': 'bfloat16', 'shape': {'M': 1}, 'tflops': 9.0},
        {'what': 'hbm', 'dtype': 'float32', 'shape': {'MiB': 16}, 'gb_per_second': 50.0},
        {'what': 'hbm', 'dtype': 'float32', 'shape': {'MiB': 512}, 'gb_per_second': 30.0},
    ]
    assert measure.best(lines, 'float32') == measure.Ceilings(2e12, 30e9)
    assert measure.best([], 'float32') == measure.Ceilings(None, None)


def test_settings_name_all_that_is_wrong():
    section = config.get_config('tiny')
    section.slots, section.rounds = (0,), 0
    with pytest.raises(ValueError, match=r'rounds expected 1 or more, got 0; slots expected numbers of 1 or more'):
        settings.from_config(BenchmarkSettings, section, 'config')


def test_a_model_that_is_not_known_is_refused():
    section = config.get_config('tiny')
    section.model.sizes, section.model.released = None, 'Llama-9'
    with pytest.raises(ValueError, match=r'model\.released: expected one of Llama-3\.1-8B'):
        settings.from_config(BenchmarkSettings, section, 'config')


@pytest.mark.parametrize('name', ['small', *config.MODELS])
def test_every_config_is_one(name):
    made = settings.from_config(BenchmarkSettings, config.get_config(name), 'config')
    assert made.model.spec.num_matmul_params > 25e6

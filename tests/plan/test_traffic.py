"""Bytes moved, against XLA's own count where nothing loops and against what is known by hand where it does."""

import jax
import jax.numpy as jnp
import pytest

from warmjax.plan import hlo


def moved(function, *arguments, **options) -> tuple[int, float]:
    compiled = jax.jit(function, **options).lower(*arguments).compile()
    return hlo.read(compiled.as_text(), 1, 0, 1).moved_bytes, compiled.cost_analysis()['bytes accessed']


def array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_bytes_are_what_xla_counts_where_nothing_loops():
    ours, theirs = moved(lambda x, w: jnp.tanh(x @ w).sum(axis=0), array(256, 512), array(512, 384))
    assert ours == pytest.approx(theirs, rel=0.05)


def test_loop_over_layers_reads_each_of_them_once():
    layers, width, rows = 12, 256, 2

    def run(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    ours, _ = moved(run, array(rows, width), array(layers, width, width))
    weights = 4 * layers * width * width
    assert weights <= ours <= 3.2 * weights  # the slice is copied out on CPU, and read once more


def test_row_put_into_an_array_moves_no_more_than_the_row():
    def put(x, row):
        return jax.lax.dynamic_update_slice(x, row, (3, 0))

    ours, _ = moved(put, array(1000, 256), array(1, 256), donate_argnums=0)
    assert ours <= 4 * 4 * 256


PROGRAM = """%fused (p0: f32[8,64], p1: s32[]) -> f32[1,64] {
  %p0 = f32[8,64]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = f32[1,64]{1,0} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,64}
}

ENTRY %main (a: f32[8,64], i: s32[]) -> f32[1,64] {
  %a = f32[8,64]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %near = f32[1,64]{1,0:T(8,128)S(1)} fusion(%a, %i), kind=kLoop, calls=%fused
  ROOT %far = f32[1,64]{1,0} copy(%near)
}
"""


def test_slice_counts_as_such_and_memory_on_the_chip_does_not():
    read, written = 256 + 4, 256
    assert hlo.read(PROGRAM, 1, 0, 1).moved_bytes == read + written


def test_what_a_loop_keeps_of_all_layers_is_told_from_its_arguments():
    layers, width, rows = 6, 32, 5

    def loss(x, weights):
        def body(x, w):
            return jnp.tanh(x @ w), None

        return jax.lax.scan(body, x, weights)[0].sum()

    text = jax.jit(jax.grad(loss)).lower(array(rows, width), array(layers, width, width)).compile().as_text()
    kept = hlo.read(text, 1, layers, 1).kept_bytes
    assert kept == 2 * 4 * layers * rows * width  # what goes into each product, and what comes out of each tanh

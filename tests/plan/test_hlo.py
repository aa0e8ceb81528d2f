"""The readings of programs whose work is known by hand, compiled for 8 fake devices."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from warmjax.plan import hlo


def text(function, *arguments, **options) -> str:
    return jax.jit(function, **options).lower(*arguments).compile().as_text()


def array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_loops_within_loops_count_as_often_as_they_run():
    def inner(x, w):
        return jnp.tanh(x @ w), None

    def outer(x, weights):
        return jax.lax.scan(inner, x, weights)

    compiled = text(lambda x, w: jax.lax.scan(outer, x, w)[0], array(3, 16), array(5, 7, 16, 16))
    assert hlo.read(compiled, 1, 0, 8).matmul_flops == 5 * 7 * (2 * 3 * 16 * 16)


def test_loop_bounded_by_data_counts_as_often_as_the_caller_says():
    def repeat(count, x, w):
        return jax.lax.fori_loop(0, count, lambda _, x: jnp.tanh(x @ w), x)

    compiled = text(repeat, jax.ShapeDtypeStruct((), jnp.int32), array(3, 16), array(16, 16))
    assert [hlo.read(compiled, trips, 0, 8).matmul_flops for trips in (1, 4)] == [2 * 3 * 16 * 16, 4 * 2 * 3 * 16 * 16]


def test_flops_are_what_xla_counts_where_nothing_loops():
    def layers(x, weights):
        for w in weights:
            x = x @ w
        return jnp.einsum('BTD,BSD->BTS', x, x).sum()

    compiled = jax.jit(jax.grad(layers)).lower(array(4, 64, 96), array(3, 96, 96)).compile()
    ours = hlo.read(compiled.as_text(), 1, 0, 8).matmul_flops
    assert ours == pytest.approx(compiled.cost_analysis()['flops'], rel=0.01)


def test_padding_of_a_convolution_is_no_work():
    """Two products of one input, written as TPU programs write them: of four places of the window, two see padding."""
    program = """ENTRY %main (a: bf16[8,1,32], b: bf16[2,16,32]) -> bf16[8,2,16] {
  %a = bf16[8,1,32]{2,1,0} parameter(0)
  %b = bf16[2,16,32]{2,1,0} parameter(1)
  ROOT %c = bf16[8,2,16]{2,1,0} convolution(%a, %b), window={size=2 pad=1_1 rhs_reversal=1}, dim_labels=b0f_0oi->b0f
}
"""
    assert hlo.read(program, 1, 0, 8).matmul_flops == 2 * (2 * 8 * 32 * 16)


def test_unrolled_loop_runs_as_often_as_its_counter_is_raised():
    program = """%body (p: (u32[], f32[4,4])) -> (u32[], f32[4,4]) {
  %p = (u32[], f32[4,4]{1,0}) parameter(0)
  %i = u32[] get-tuple-element(%p), index=0
  %x = f32[4,4]{1,0} get-tuple-element(%p), index=1
  %two = u32[] constant(2)
  %next = u32[] add(%i, %two)
  %y = f32[4,4]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %t = (u32[], f32[4,4]{1,0}) tuple(%next, %y)
}

%condition (p: (u32[], f32[4,4])) -> pred[] {
  %p = (u32[], f32[4,4]{1,0}) parameter(0)
  %i = u32[] get-tuple-element(%p), index=0
  %bound = u32[] constant(6)
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

ENTRY %main (p: (u32[], f32[4,4])) -> (u32[], f32[4,4]) {
  %p = (u32[], f32[4,4]{1,0}) parameter(0)
  ROOT %w = (u32[], f32[4,4]{1,0}) while(%p), condition=%condition, body=%body
}
"""
    assert hlo.read(program, 1, 0, 8).matmul_flops == 3 * (2 * 4 * 4 * 4)


def test_collectives_count_with_their_bytes_as_often_as_they_run():
    mesh = jax.make_mesh((8,), ('x',))
    cut, whole = NamedSharding(mesh, PartitionSpec('x')), NamedSharding(mesh, PartitionSpec())

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=cut.spec, out_specs=cut.spec)
    def reduce(x):
        def add_up(x, _):
            return jax.lax.pcast(jax.lax.psum(x, 'x') / 9, 'x', to='varying'), None

        return jax.lax.scan(add_up, x, length=6)[0]

    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=cut)
    compiled = text(reduce, x, out_shardings=whole)
    found = {c.kind: (c.count, c.bytes, c.largest, c.devices, c.sent) for c in hlo.read(compiled, 1, 0, 8).collectives}
    assert found == {
        'all-reduce': (6, 6 * 256, 256, 8, 6 * 256 * 2 * 7 / 8),
        'all-gather': (1, 2048, 2048, 8, 2048 * 7 / 8),
    }


def test_collective_done_in_pieces_counts_once():
    """As TPU programs overlap one with products: several fusions have it under the same number, some of them in a loop
    that it outlasts."""
    program = """%piece (a: f32[2,8]) -> f32[16,8] {
  %a = f32[2,8]{1,0} parameter(0)
  ROOT %g = f32[16,8]{1,0} all-gather(%a), channel_id=7, dimensions={0}
}

%body (a: f32[2,8]) -> f32[2,8] {
  %a = f32[2,8]{1,0} parameter(0)
  %advance = f32[16,8]{1,0} fusion(%a), kind=kCustom, calls=%piece
  ROOT %same = f32[2,8]{1,0} copy(%a)
}

ENTRY %main (a: f32[2,8]) -> f32[16,8] {
  %a = f32[2,8]{1,0} parameter(0)
  %first = f32[16,8]{1,0} fusion(%a), kind=kCustom, calls=%piece
  %loop = f32[2,8]{1,0} while(%a), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %last = f32[16,8]{1,0} fusion(%loop), kind=kCustom, calls=%piece
}
"""
    assert hlo.read(program, 1, 0, 8).collectives == (hlo.Collective('all-gather', 1, 512, 512, 8, 448),)


@pytest.mark.parametrize(
    'groups, devices',
    [
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", 4),
        ('[2,4]<=[8]', 4),
        ('{{0,2},{1,3},{4,6},{5,7}}', 2),
        ('', 8),
    ],
)
def test_group_of_a_collective_is_read_in_all_its_forms(groups, devices):
    said = f'replica_groups={groups}, ' if groups else ''
    program = f"""ENTRY %main (a: f32[16,8]) -> f32[16,8] {{
  %a = f32[16,8]{{1,0}} parameter(0)
  ROOT %r = f32[16,8]{{1,0}} all-reduce(%a), channel_id=1, {said}to_apply=%add
}}
"""
    (found,) = hlo.read(program, 1, 0, 8).collectives
    assert (found.devices, found.sent) == (devices, 512 * 2 * (devices - 1) / devices)


def test_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match='expected the text of a compiled program'):
        hlo.read('module @jit_step {', 1, 0, 1)

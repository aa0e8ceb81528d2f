"""Keys and values of the tokens seen so far.

Rows are independent: each starts at slot 0 and has its own length, so a row can be replaced while others go on, and
what a token sees lies at the same place whatever its neighbours are:

    slot         0 1 2 3 4 5
    row 0        a b c _ . .      length 3
    row 1        d e f g h _      length 5; `_` is where the next token goes

In int8, each head of each token has a scale of its own, its largest entry / 127, so that no token or head is rounded
more because of another. A product with int8 keys or values is scaled once it is summed.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int, Int8

MASKED = -1e30
"""Score of a slot that may not be seen; finite, so that a row without any stays finite."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rounded:
    """Keys or values in int8: the entries are `data` * `scales`, which has a 1 where `data` has the head dimension."""

    data: Int8[Array, '...']
    scales: Float[Array, '...']


Buffer = Array | Rounded
"""Keys [L, B, K, H, S] or values [L, B, K, S, H]; a layer's without L."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """The cache of a whole model.

    keys: [L, B, K, H, S], or a tuple of L buffers [B, K, H, S] where layers are unrolled. The slots come last, so that
        the scores of a token are one contiguous product.
    values: [L, B, K, S, H], or a tuple likewise.
    lengths: [B], how many tokens each row holds; also the slot and the position of its next one.
    """

    keys: Buffer | tuple[Buffer, ...]
    values: Buffer | tuple[Buffer, ...]
    lengths: Int[Array, 'B']

    @property
    def is_unrolled(self) -> bool:
        return isinstance(self.keys, tuple)

    @property
    def num_slots(self) -> int:
        return jax.tree.leaves(self.values)[0].shape[-2]

    @property
    def dtype(self):
        return jax.tree.leaves(self.keys)[0].dtype

    def seen(self) -> Bool[Array, 'B S']:
        """Tells which slots each row's next token may see: its row's earlier ones and its own."""
        return jnp.arange(self.num_slots) <= self.lengths[:, None]

    def advance(self, keys: Buffer | tuple, values: Buffer | tuple) -> 'Cache':
        """Returns the cache with each row's next token written."""
        return Cache(keys, values, self.lengths + 1)


def zeros(
    num_layers: int, num_rows: int, num_kv_heads: int, head_dim: int, num_slots: int, dtype, unroll: bool
) -> Cache:
    """Makes an empty cache."""
    stacked = (num_layers, num_rows, 0, num_kv_heads, head_dim)
    empty = jnp.zeros(stacked, jnp.float32)
    return grow(fill(empty, empty, jnp.zeros(num_rows, jnp.int32), dtype, unroll), num_slots)


def fill(
    keys: Float[Array, 'L B T K H'], values: Float[Array, 'L B T K H'], lengths: Int[Array, 'B'], dtype, unroll: bool
) -> Cache:
    """Makes the cache of prompts that begin at token 0 and are padded to T on the right; `grow` makes room for more."""
    keys = encode(rearrange(keys, 'L B T K H -> L B K H T'), -2, dtype)
    values = encode(rearrange(values, 'L B T K H -> L B K T H'), -1, dtype)
    cache = Cache(keys, values, lengths)
    return unrolled(cache) if unroll else cache


def unrolled(cache: Cache) -> Cache:
    """Returns a stacked cache layer by layer."""
    keys, values = (tuple(layer(x, i) for i in range(num_layers(x))) for x in (cache.keys, cache.values))
    return Cache(keys, values, cache.lengths)


def encode(x: Float[Array, '...'], axis: int, dtype) -> Buffer:
    """Returns keys or values, whose heads lie along `axis`, as a cache of `dtype` holds them."""
    if dtype != jnp.int8:
        return x.astype(dtype)
    x = x.astype(jnp.float32)
    scales = jnp.max(jnp.abs(x), axis=axis, keepdims=True) / 127
    # A head of zeros, and one too small to divide by, stays zero.
    data = jnp.round(x / jnp.maximum(scales, jnp.finfo(jnp.float32).tiny))
    return Rounded(data.astype(jnp.int8), scales)


def decode(buffer: Buffer, dtype) -> Float[Array, '...']:
    """Returns the keys or values that a buffer holds, as `dtype` if they are rounded."""
    return (buffer.data * buffer.scales).astype(dtype) if isinstance(buffer, Rounded) else buffer


def layer(buffer: Buffer, index: int | Int[Array, ''] | None) -> Buffer:
    """Returns one layer of a stack; without an index, the buffer is that layer."""
    return buffer if index is None else jax.tree.map(lambda x: x[index], buffer)


def num_layers(buffer: Buffer) -> int:
    """Returns how many layers a stack has."""
    return jax.tree.leaves(buffer)[0].shape[0]


def grow(cache: Cache, num_slots: int) -> Cache:
    """Returns the cache with room for `num_slots` tokens a row."""
    room = num_slots - cache.num_slots

    def pad(x: Array, axis: int) -> Array:
        return jnp.pad(x, [(0, room if i == axis % x.ndim else 0) for i in range(x.ndim)])

    keys, values = (
        jax.tree.map(lambda x, axis=axis: pad(x, axis), buffers)
        for buffers, axis in ((cache.keys, -1), (cache.values, -2))
    )
    return Cache(keys, values, cache.lengths)


def put_row(cache: Cache, row: Int[Array, ''], source: Cache, source_row: Int[Array, '']) -> Cache:
    """Returns the cache with one row replaced by a row of another, whose slots may be fewer; the rest of it is cleared.

    Cleared, because a weight of zero does not hide what is not finite.
    """
    axis = 0 if cache.is_unrolled else 1
    whole = grow(
        jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, source_row, 1, axis if x.ndim > 1 else 0), source),
        cache.num_slots,
    )
    return jax.tree.map(
        lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, row, axis if x.ndim > 1 else 0), cache, whole
    )


def write(
    keys: Buffer,
    values: Buffer,
    k: Float[Array, 'B K H'],
    v: Float[Array, 'B K H'],
    slots: Int[Array, 'B'],
    index: Int[Array, ''] | None,
) -> tuple[Buffer, Buffer]:
    """Writes a token a row, each into its own slot; `index` names the layer of stacked buffers.

    In place where the buffers are donated. A row whose slots are full (it has ended) writes nothing.
    """
    rows = jnp.arange(k.shape[0])
    place = (rows,) if index is None else (index, rows)
    options = {'mode': 'drop', 'unique_indices': True}

    def put(buffer: Buffer, x: Array, at: tuple) -> Buffer:
        dtype = jax.tree.leaves(buffer)[0].dtype
        return jax.tree.map(lambda old, new: old.at[at].set(new, **options), buffer, encode(x, -1, dtype))

    return put(keys, k, (*place, slice(None), slice(None), slots)), put(values, v, (*place, slice(None), slots))


def attend(
    q: Float[Array, 'B N H'],
    k: Buffer,
    v: Buffer,
    seen: Bool[Array, 'B S'],
    slots: Int[Array, 'B'],
    window: Int[Array, ''] | None,
) -> Float[Array, 'B N H']:
    """Attention of one new token a row, in a slot each, over the slots that it may see and its window reaches."""
    B, N, H = q.shape
    K, S = jax.tree.leaves(v)[0].shape[1:3]
    if window is not None:
        seen &= slots[:, None] - jnp.arange(S) < window
    k, key_scales = _unscaled(k, q.dtype)
    v, value_scales = _unscaled(v, q.dtype)
    scores = jnp.einsum('BKGH,BKHS->BKGS', q.reshape(B, K, N // K, H), k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores * key_scales * H**-0.5, MASKED), axis=-1)
    weights *= jnp.swapaxes(value_scales, -1, -2)
    return jnp.einsum('BKGS,BKSH->BKGH', weights.astype(v.dtype), v).reshape(B, N, H).astype(q.dtype)


def _unscaled(buffer: Buffer, dtype) -> tuple[Array, Array]:
    """Returns what a buffer holds before scaling, and its scales, which are 1 if it is not rounded."""
    if isinstance(buffer, Rounded):
        return buffer.data.astype(dtype), buffer.scales
    return buffer, jnp.ones((1, 1), jnp.float32)

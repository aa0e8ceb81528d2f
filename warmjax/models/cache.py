"""Keys and values of the tokens seen so far.

Rows are independent: each starts at slot 0 and has its own length, so a row can be replaced while others go on, and
what a token sees lies at the same place whatever its neighbours are:

    slot         0 1 2 3 4 5
    row 0        a b c _ . .      length 3
    row 1        d e f g h _      length 5; `_` is where the next token goes
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e30
"""Score of a slot that may not be seen; finite, so that a row without any stays finite."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """The cache of a whole model.

    keys: [L, B, K, H, S], or a tuple of L arrays [B, K, H, S] where layers are unrolled. The slots come last, so that
        the scores of a token are one contiguous product.
    values: [L, B, K, S, H], or a tuple likewise.
    lengths: [B], how many tokens each row holds; also the slot and the position of its next one.
    """

    keys: Array | tuple[Array, ...]
    values: Array | tuple[Array, ...]
    lengths: Int[Array, 'B']

    @property
    def is_unrolled(self) -> bool:
        return isinstance(self.keys, tuple)

    @property
    def num_slots(self) -> int:
        return self.values[0].shape[-2]

    def seen(self) -> Bool[Array, 'B S']:
        """Tells which slots each row's next token may see: its row's earlier ones and its own."""
        return jnp.arange(self.num_slots) <= self.lengths[:, None]

    def advance(self, keys: Array | tuple, values: Array | tuple) -> 'Cache':
        """Returns the cache with each row's next token written."""
        return Cache(keys, values, self.lengths + 1)


def zeros(
    num_layers: int, num_rows: int, num_kv_heads: int, head_dim: int, num_slots: int, dtype, unroll: bool
) -> Cache:
    """Makes an empty cache."""
    keys = jnp.zeros((num_layers, num_rows, num_kv_heads, head_dim, num_slots), dtype)
    values = jnp.zeros((num_layers, num_rows, num_kv_heads, num_slots, head_dim), dtype)
    if unroll:
        keys, values = tuple(keys), tuple(values)
    return Cache(keys, values, jnp.zeros(num_rows, jnp.int32))


def fill(
    keys: Float[Array, 'L B T K H'], values: Float[Array, 'L B T K H'], lengths: Int[Array, 'B'], dtype, unroll: bool
) -> Cache:
    """Makes the cache of prompts that begin at token 0 and are padded to T on the right; `grow` makes room for more."""
    keys = rearrange(keys, 'L B T K H -> L B K H T').astype(dtype)
    values = rearrange(values, 'L B T K H -> L B K T H').astype(dtype)
    if unroll:
        keys, values = tuple(keys), tuple(values)
    return Cache(keys, values, lengths)


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
    keys: Float[Array, '*L B K H S'],
    values: Float[Array, '*L B K S H'],
    k: Float[Array, 'B K H'],
    v: Float[Array, 'B K H'],
    slots: Int[Array, 'B'],
    layer: Int[Array, ''] | None,
) -> tuple[Array, Array]:
    """Writes a token a row, each into its own slot; `layer` indexes stacked buffers.

    In place where the buffers are donated. A row whose slots are full (it has ended) writes nothing.
    """
    rows = jnp.arange(k.shape[0])
    place = (rows,) if layer is None else (layer, rows)
    options = {'mode': 'drop', 'unique_indices': True}
    keys = keys.at[(*place, slice(None), slice(None), slots)].set(k.astype(keys.dtype), **options)
    values = values.at[(*place, slice(None), slots)].set(v.astype(values.dtype), **options)
    return keys, values


def attend(
    q: Float[Array, 'B N H'],
    k: Float[Array, 'B K H S'],
    v: Float[Array, 'B K S H'],
    seen: Bool[Array, 'B S'],
    slots: Int[Array, 'B'],
    window: Int[Array, ''] | None,
) -> Float[Array, 'B N H']:
    """Attention of one new token a row, in a slot each, over the slots that it may see and its window reaches."""
    B, N, H = q.shape
    K, S = k.shape[1], k.shape[-1]
    if window is not None:
        seen &= slots[:, None] - jnp.arange(S) < window
    scores = jnp.einsum('BKGH,BKHS->BKGS', q.reshape(B, K, N // K, H), k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores * H**-0.5, MASKED), axis=-1)
    return jnp.einsum('BKGS,BKSH->BKGH', weights.astype(v.dtype), v).reshape(B, N, H).astype(q.dtype)

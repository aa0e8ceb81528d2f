"""Keys and values of the tokens seen so far.

Rows are padded on the left, so that every row of a batch writes its next token to the same slot:

    slot         0 1 2 3 4 5
    row 0        . . a b c _      first_slot 2, next_slot 5
    row 1        d e f g h _      first_slot 0, next_slot 5
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """The cache of a whole model.

    keys: [L, B, K, H, S], or a tuple of L arrays [B, K, H, S] where layers are unrolled. The slots come last, so that
        the scores of a token are one contiguous product.
    values: [L, B, K, S, H], or a tuple likewise.
    first_slot: [B], the first slot of each row that holds a token.
    next_slot: scalar, the slot that the next token goes to.
    """

    keys: Array | tuple[Array, ...]
    values: Array | tuple[Array, ...]
    first_slot: Int[Array, 'B']
    next_slot: Int[Array, '']

    @property
    def is_unrolled(self) -> bool:
        return isinstance(self.keys, tuple)

    def seen(self) -> Bool[Array, 'B S']:
        """Tells which slots the token in `next_slot` may see: its row's earlier ones and its own."""
        num_slots = self.values[0].shape[-2]
        slots = jnp.arange(num_slots)
        return (slots >= self.first_slot[:, None]) & (slots <= self.next_slot)

    def positions(self) -> Int[Array, 'B']:
        """Returns the position of each row's next token, counted from the row's first."""
        return self.next_slot - self.first_slot

    def advance(self, keys: Array | tuple, values: Array | tuple) -> 'Cache':
        """Returns the cache with the next token written, moved on by one slot."""
        return dataclasses.replace(self, keys=keys, values=values, next_slot=self.next_slot + 1)


def fill(
    keys: Float[Array, 'L B T K H'],
    values: Float[Array, 'L B T K H'],
    first_slot: Int[Array, 'B'],
    num_slots: int,
    unroll: bool,
) -> Cache:
    """Makes the cache of prompts of T tokens (padding included), with room for `num_slots` in all."""
    num_tokens = keys.shape[2]
    room = num_slots - num_tokens
    keys = jnp.pad(rearrange(keys, 'L B T K H -> L B K H T'), [(0, 0)] * 4 + [(0, room)])
    values = jnp.pad(rearrange(values, 'L B T K H -> L B K T H'), [(0, 0)] * 3 + [(0, room), (0, 0)])
    if unroll:
        keys, values = tuple(keys), tuple(values)
    return Cache(keys, values, first_slot, jnp.asarray(num_tokens, jnp.int32))


def write(
    keys: Float[Array, '*L B K H S'],
    values: Float[Array, '*L B K S H'],
    k: Float[Array, 'B K H'],
    v: Float[Array, 'B K H'],
    slot: Int[Array, ''],
    layer: Int[Array, ''] | None,
) -> tuple[Array, Array]:
    """Writes one token a row into a slot, in place where the buffers are donated; `layer` indexes stacked buffers."""
    if layer is None:
        keys = jax.lax.dynamic_update_slice(keys, k[..., None], (0, 0, 0, slot))
        values = jax.lax.dynamic_update_slice(values, v[:, :, None], (0, 0, slot, 0))
    else:
        keys = jax.lax.dynamic_update_slice(keys, k[None, ..., None], (layer, 0, 0, 0, slot))
        values = jax.lax.dynamic_update_slice(values, v[None, :, :, None], (layer, 0, 0, slot, 0))
    return keys, values

"""Attention of whole rows by the best kernel of the platform.

A kernel takes queries [B, T, N, H], keys and values [B, T, K, H], segment ids [B, T] and a window (an int, or None) and
returns [B, T, N, H]. All of them compute this mask, causal within a segment and its window:

    segment_ids            1 1 1 2 2 0
    token 2 sees           x x x . . .
        in a window of 2   . x x . . .
    token 4 sees           . . . x x .
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask
from jaxtyping import Array, Bool, Float, Int

from warmjax import sharding
from warmjax.models.attention_blocks import MASKED, attend_in_blocks
from warmjax.models.spec import Window

SAVED = 'attention'
"""Name under which a kernel's outputs can be kept for the backward pass (`decoder.REMAT`)."""

LANES = 128
"""Tokens that a TPU's kernel handles side by side; rows must be a multiple of it."""
LONGEST_BLOCK = 512
"""Most tokens of a row that a TPU's kernel holds at once; with 1,024, rows of 2,048 take the compiler many minutes."""


def self_attention(
    q: Float[Array, 'B T N H'],
    k: Float[Array, 'B T K H'],
    v: Float[Array, 'B T K H'],
    segment_ids: Int[Array, 'B T'],
    window: Window | None,
    layer: Int[Array, ''],
) -> Float[Array, 'B T N H']:
    """Attention of whole rows; a token sees the earlier ones of its segment, and segment 0 is padding."""
    kernel = best_kernel(q, k)
    if window is None:
        return kernel(q, k, v, segment_ids, None)
    if window.first_layer == 0:
        return kernel(q, k, v, segment_ids, window.size)
    return jax.lax.cond(
        layer >= window.first_layer,
        functools.partial(kernel, window=window.size),
        functools.partial(kernel, window=None),
        *(q, k, v, segment_ids),
    )


def best_kernel(q: Float[Array, 'B T N H'], k: Float[Array, 'B T K H']):
    """Chooses by the platform of the mesh in force (of the process where there is none), and by what kernels take."""
    mesh, platform = jax.sharding.get_abstract_mesh(), sharding.platform()
    if platform == 'tpu' and q.shape[1] % LANES == 0 and _divides(mesh, q):
        return on_tpu
    if platform in ('gpu', 'cuda') and q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[-1] <= 128:
        return on_gpu
    return on_cpu if platform == 'cpu' else by_xla


def by_xla(q, k, v, segment_ids, window: int | None) -> Float[Array, 'B T N H']:
    """Holds all scores; the reference, and the kernel where no other fits."""
    B, T, N, H = q.shape
    K = k.shape[2]
    q = q.reshape(B, T, K, N // K, H)
    scores = jnp.einsum('BTKGH,BSKH->BKGTS', q, k, preferred_element_type=jnp.float32)
    seen = _seen(segment_ids, window)[:, None, None]
    weights = jax.nn.softmax(jnp.where(seen, scores * H**-0.5, MASKED), axis=-1)
    return _named(jnp.einsum('BKGTS,BSKH->BTKGH', weights.astype(v.dtype), v).reshape(B, T, N, H))


def on_cpu(q, k, v, segment_ids, window: int | None) -> Float[Array, 'B T N H']:
    """Computes block by block what causality and window leave (`attention_blocks`)."""
    B, T, N, H = q.shape
    K = k.shape[2]
    q = q.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    return attend_in_blocks(q, k, v, segment_ids, window, _named).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


def on_gpu(q, k, v, segment_ids, window: int | None) -> Float[Array, 'B T N H']:
    """cuDNN's fused attention. Segments and window come as a mask; it skips what causality leaves out."""
    seen = _seen(segment_ids, window)[:, None]
    return _named(jax.nn.dot_product_attention(q, k, v, mask=seen, is_causal=True, implementation='cudnn'))


def on_tpu(q, k, v, segment_ids, window: int | None, interpret: bool = False) -> Float[Array, 'B T N H']:
    """Splash attention (Pallas): blocks without a visible key are skipped, scores never leave the chip.

    On a mesh, each device computes its own rows and heads. Where the mesh cuts heads finer than there are heads of
    keys, these are repeated.
    """
    mesh = jax.sharding.get_abstract_mesh()
    run = functools.partial(_splash, window=window, interpret=interpret)
    if not mesh.empty:
        parts = mesh.shape['tensor']
        if k.shape[2] % parts:
            k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
        heads, rows = sharding.partition(('batch', None, 'heads', None)), sharding.partition(('batch', None))
        run = jax.shard_map(run, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False)
    return run(q, k, v, segment_ids)


def _splash(q, k, v, segment_ids, window: int | None, interpret: bool) -> Float[Array, 'B T N H']:
    T, N, H = q.shape[1:]
    mask = splash_mask.CausalMask((T, T)) if window is None else splash_mask.LocalMask((T, T), (window - 1, 0), 0)
    block = max(size for size in range(LANES, min(T, LONGEST_BLOCK) + 1, LANES) if T % size == 0)
    names = ('block_q', 'block_kv', 'block_kv_compute', 'block_q_dkv', 'block_kv_dkv', 'block_kv_dkv_compute')
    kernel = splash.make_splash_mha(
        splash_mask.MultiHeadMask([mask] * N),
        block_sizes=splash.BlockSizes(**dict.fromkeys(names, block), use_fused_bwd_kernel=True),
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=SAVED,
        interpret=interpret,
    )
    q, k, v = (x.swapaxes(1, 2) for x in (q * H**-0.5, k, v))
    return jax.vmap(kernel)(q, k, v, splash.SegmentIds(segment_ids, segment_ids)).swapaxes(1, 2)


def _seen(segment_ids: Int[Array, 'B T'], window: int | None) -> Bool[Array, 'B T T']:
    places = jnp.arange(segment_ids.shape[1])
    back = places[:, None] - places
    seen = (segment_ids[:, :, None] == segment_ids[:, None, :]) & (back >= 0)
    return seen if window is None else seen & (back < window)


def _named(heads: Array) -> Array:
    return jax.ad_checkpoint.checkpoint_name(heads, SAVED)


def _divides(mesh, q: Float[Array, 'B T N H']) -> bool:
    if mesh.empty:
        return True
    return q.shape[0] % (mesh.shape['data'] * mesh.shape['fsdp']) == 0 and q.shape[2] % mesh.shape['tensor'] == 0

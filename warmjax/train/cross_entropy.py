"""Cross-entropy of an output head's logits, a part of the tokens at a time, each part's logits computed once.

A part's gradient with respect to its hidden states is computed beside its loss and kept in place of its logits, so the
backward pass has only to scale it:

    d_hidden = (softmax(hidden head^T) - onehot(target)) weight head

The gradient of the head itself is computed only where somebody asks for it: in fine-tuning the head is frozen.

On a mesh the head is cut along the vocabulary over all devices of a copy of the model, and they exchange hidden states
and sums over the vocabulary, which are smaller by far than a head that each of them would gather.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from warmjax.sharding import constrain


@jax.custom_vjp
def cross_entropy_sum(
    hidden: Float[Array, 'C B T D'],
    head: Float[Array, 'V D'],
    targets: Int[Array, 'C B T'],
    weights: Float[Array, 'C B T'],
) -> Float[Array, '']:
    """Returns the sum over all tokens of -weight log p(target), in nats; logits and sums are float32.

    Args:
        hidden: C parts of a batch, whose logits are computed one after the other.
    """
    head = constrain(head, 'vocab_cut', None)

    def add(total, part):
        return total + _part(*part, head)[0], None

    return jax.lax.scan(add, jnp.float32(0), (hidden, targets, weights))[0]


def _forward(hidden, head, targets, weights):
    needs_head = head.perturbed
    hidden, head, targets, weights = (x.value for x in (hidden, head, targets, weights))
    head = constrain(head, 'vocab_cut', None)

    def add(sums, part):
        loss, x, d_logits = _part(*part, head)
        d_hidden = jnp.einsum('BTV,VD->BTD', d_logits, head, preferred_element_type=jnp.float32)
        total, d_head = sums
        if needs_head:
            d_head += jnp.einsum('BTV,BTD->VD', d_logits, x, preferred_element_type=jnp.float32)
        return (total + loss, d_head), constrain(d_hidden, 'batch', None, None).astype(hidden.dtype)

    start = (jnp.float32(0), jnp.zeros(head.shape, jnp.float32) if needs_head else None)
    (total, d_head), d_hidden = jax.lax.scan(add, start, (hidden, targets, weights))
    return total, (d_hidden, d_head if d_head is None else d_head.astype(head.dtype))


def _backward(gradients, scale):
    d_hidden, d_head = ((x * scale).astype(x.dtype) if x is not None else None for x in gradients)
    return d_hidden, d_head, None, None


cross_entropy_sum.defvjp(_forward, _backward, symbolic_zeros=True)


def _part(x: Float[Array, 'B T D'], targets: Int[Array, 'B T'], weights: Float[Array, 'B T'], head: Array) -> tuple:
    """Returns the loss of a part, its hidden states as they were used, and the gradient of its logits [B, T, V]."""
    x = constrain(x, 'copy_batch', None, None).astype(head.dtype)
    logits = jnp.einsum('BTD,VD->BTV', x, head, preferred_element_type=jnp.float32)
    logits = constrain(logits, 'copy_batch', None, 'vocab_cut')
    # A comparison, not a lookup: each device answers for its own part of the vocabulary.
    is_target = targets[..., None] == jnp.arange(head.shape[0])
    chosen = jnp.sum(jnp.where(is_target, logits, 0), axis=-1)
    total = jax.nn.logsumexp(logits, axis=-1)
    d_logits = (jnp.exp(logits - total[..., None]) - is_target) * weights[..., None]
    return jnp.sum((total - chosen) * weights), x, d_logits.astype(head.dtype)

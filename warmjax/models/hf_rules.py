"""How the parameters of this package are called in a Hugging Face checkpoint: one table a person can audit by eye."""

import dataclasses
from collections.abc import Iterator

from warmjax.models.spec import Spec


@dataclasses.dataclass(frozen=True)
class Rule:
    """`ours` is the path of a parameter, `theirs` the tensor's name, `{i}` in it the layer. Linear maps are stored
    [in, out] here and [out, in] there, so they are `transposed` on the way."""

    ours: tuple[str, ...]
    theirs: str
    transposed: bool


DECODER = (
    Rule(('embed_tokens',), 'model.embed_tokens.weight', False),
    Rule(('layers', 'input_layernorm', 'weight'), 'model.layers.{i}.input_layernorm.weight', False),
    Rule(('layers', 'attn', 'q_proj', 'kernel'), 'model.layers.{i}.self_attn.q_proj.weight', True),
    Rule(('layers', 'attn', 'k_proj', 'kernel'), 'model.layers.{i}.self_attn.k_proj.weight', True),
    Rule(('layers', 'attn', 'v_proj', 'kernel'), 'model.layers.{i}.self_attn.v_proj.weight', True),
    Rule(('layers', 'attn', 'o_proj', 'kernel'), 'model.layers.{i}.self_attn.o_proj.weight', True),
    Rule(('layers', 'post_attention_layernorm', 'weight'), 'model.layers.{i}.post_attention_layernorm.weight', False),
    Rule(('layers', 'mlp', 'gate_proj', 'kernel'), 'model.layers.{i}.mlp.gate_proj.weight', True),
    Rule(('layers', 'mlp', 'up_proj', 'kernel'), 'model.layers.{i}.mlp.up_proj.weight', True),
    Rule(('layers', 'mlp', 'down_proj', 'kernel'), 'model.layers.{i}.mlp.down_proj.weight', True),
    Rule(('norm', 'weight'), 'model.norm.weight', False),
    Rule(('lm_head',), 'lm_head.weight', True),
)

IGNORED = ('rotary_emb.inv_freq',)
"""Endings of tensors that old checkpoints carry and that hold nothing learnt."""


def rules(spec: Spec) -> tuple[Rule, ...]:
    """Returns the rules of a model; a tied one has no head of its own."""
    return tuple(rule for rule in DECODER if not (spec.tied and rule.ours == ('lm_head',)))


def tensors(rule: Rule, spec: Spec) -> Iterator[tuple[str, int | None]]:
    """Yields the name of every tensor of a rule with its layer, None for a parameter that is not stacked."""
    if '{i}' in rule.theirs:
        yield from ((rule.theirs.format(i=i), i) for i in range(spec.num_layers))
    else:
        yield rule.theirs, None

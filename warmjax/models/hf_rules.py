"""How the parameters of this package are called in a Hugging Face checkpoint: one table a person can audit by eye."""

import dataclasses
from collections.abc import Iterator

from warmjax.models.families import ModelSpec


@dataclasses.dataclass(frozen=True)
class Rule:
    """`ours` is the path of a parameter, `theirs` the tensor's name, `{i}` in it the layer. Linear maps are stored
    [out, in] here; where they are [in, out] there, they are `transposed` on the way. A rule that `needs` a field of
    the spec holds only for models where that is true."""

    ours: tuple[str, ...]
    theirs: str
    transposed: bool
    needs: str | None


DECODER = (
    Rule(('embed_tokens',), 'model.embed_tokens.weight', False, None),
    Rule(('layers', 'input_layernorm', 'weight'), 'model.layers.{i}.input_layernorm.weight', False, None),
    Rule(('layers', 'attn', 'q_proj', 'kernel'), 'model.layers.{i}.self_attn.q_proj.weight', False, None),
    Rule(('layers', 'attn', 'q_proj', 'bias'), 'model.layers.{i}.self_attn.q_proj.bias', False, 'qkv_bias'),
    Rule(('layers', 'attn', 'q_norm', 'weight'), 'model.layers.{i}.self_attn.q_norm.weight', False, 'qk_norm'),
    Rule(('layers', 'attn', 'k_proj', 'kernel'), 'model.layers.{i}.self_attn.k_proj.weight', False, None),
    Rule(('layers', 'attn', 'k_proj', 'bias'), 'model.layers.{i}.self_attn.k_proj.bias', False, 'qkv_bias'),
    Rule(('layers', 'attn', 'k_norm', 'weight'), 'model.layers.{i}.self_attn.k_norm.weight', False, 'qk_norm'),
    Rule(('layers', 'attn', 'v_proj', 'kernel'), 'model.layers.{i}.self_attn.v_proj.weight', False, None),
    Rule(('layers', 'attn', 'v_proj', 'bias'), 'model.layers.{i}.self_attn.v_proj.bias', False, 'qkv_bias'),
    Rule(('layers', 'attn', 'o_proj', 'kernel'), 'model.layers.{i}.self_attn.o_proj.weight', False, None),
    Rule(
        ('layers', 'post_attention_layernorm', 'weight'),
        'model.layers.{i}.post_attention_layernorm.weight',
        False,
        None,
    ),
    Rule(('layers', 'mlp', 'gate_proj', 'kernel'), 'model.layers.{i}.mlp.gate_proj.weight', False, None),
    Rule(('layers', 'mlp', 'up_proj', 'kernel'), 'model.layers.{i}.mlp.up_proj.weight', False, None),
    Rule(('layers', 'mlp', 'down_proj', 'kernel'), 'model.layers.{i}.mlp.down_proj.weight', False, None),
    Rule(('norm', 'weight'), 'model.norm.weight', False, None),
    Rule(('lm_head',), 'lm_head.weight', False, 'untied'),
)

GPT2 = (
    Rule(('wte',), 'transformer.wte.weight', False, None),
    Rule(('wpe',), 'transformer.wpe.weight', False, None),
    Rule(('layers', 'ln_1', 'weight'), 'transformer.h.{i}.ln_1.weight', False, None),
    Rule(('layers', 'ln_1', 'bias'), 'transformer.h.{i}.ln_1.bias', False, None),
    Rule(('layers', 'c_attn', 'kernel'), 'transformer.h.{i}.attn.c_attn.weight', True, None),
    Rule(('layers', 'c_attn', 'bias'), 'transformer.h.{i}.attn.c_attn.bias', False, None),
    Rule(('layers', 'attn_c_proj', 'kernel'), 'transformer.h.{i}.attn.c_proj.weight', True, None),
    Rule(('layers', 'attn_c_proj', 'bias'), 'transformer.h.{i}.attn.c_proj.bias', False, None),
    Rule(('layers', 'ln_2', 'weight'), 'transformer.h.{i}.ln_2.weight', False, None),
    Rule(('layers', 'ln_2', 'bias'), 'transformer.h.{i}.ln_2.bias', False, None),
    Rule(('layers', 'c_fc', 'kernel'), 'transformer.h.{i}.mlp.c_fc.weight', True, None),
    Rule(('layers', 'c_fc', 'bias'), 'transformer.h.{i}.mlp.c_fc.bias', False, None),
    Rule(('layers', 'mlp_c_proj', 'kernel'), 'transformer.h.{i}.mlp.c_proj.weight', True, None),
    Rule(('layers', 'mlp_c_proj', 'bias'), 'transformer.h.{i}.mlp.c_proj.bias', False, None),
    Rule(('ln_f', 'weight'), 'transformer.ln_f.weight', False, None),
    Rule(('ln_f', 'bias'), 'transformer.ln_f.bias', False, None),
)
"""GPT-2 stores its linear maps [in, out]."""

IGNORED = ('rotary_emb.inv_freq', '.attn.bias', '.attn.masked_bias')
"""Endings of tensors that old checkpoints carry and that hold nothing learnt (GPT-2's are its causal mask)."""

HEAD = 'lm_head.weight'
"""The output head's name in every family."""


def rules(spec: ModelSpec) -> tuple[Rule, ...]:
    """Returns the rules that hold for a model, that of its embedding first."""
    table = GPT2 if spec.model_type == 'gpt2' else DECODER
    return tuple(rule for rule in table if rule.needs is None or getattr(spec, rule.needs))


def full_name(name: str, spec: ModelSpec) -> str:
    """Returns the name of a tensor as the rules have it; GPT-2's first checkpoints leave its first part out."""
    is_short = spec.model_type == 'gpt2' and name != HEAD and not name.startswith('transformer.')
    return f'transformer.{name}' if is_short else name


def tensors(rule: Rule, spec: ModelSpec) -> Iterator[tuple[str, int | None]]:
    """Yields the name of every tensor of a rule with its layer, None for a parameter that is not stacked."""
    if '{i}' in rule.theirs:
        yield from ((rule.theirs.format(i=i), i) for i in range(spec.num_layers))
    else:
        yield rule.theirs, None

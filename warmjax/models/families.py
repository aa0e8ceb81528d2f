"""Which module computes a checkpoint: by the `model_type` of its config.json, the decoder or GPT-2."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from warmjax.models import gpt2, spec
from warmjax.models.decoder import Decoder

Model = Decoder | gpt2.GPT2
ModelSpec = spec.Spec | gpt2.GPT2Spec


def spec_from_config(config: Mapping[str, Any], where: str) -> ModelSpec:
    """Reads the spec of any supported model out of its config.json.

    Raises:
        ValueError: see `spec.spec_from_config` and `gpt2.spec_from_config`.
    """
    return (gpt2 if config.get('model_type') == 'gpt2' else spec).spec_from_config(config, where)


def config_from_spec(model_spec: ModelSpec, dtype: str) -> dict[str, Any]:
    """Writes a spec as a config.json that transformers reads."""
    return (gpt2 if isinstance(model_spec, gpt2.GPT2Spec) else spec).config_from_spec(model_spec, dtype)


def abstract(model_spec: ModelSpec, dtype) -> Model:
    """Returns the model of a spec with shapes in place of arrays."""
    module = gpt2.GPT2 if isinstance(model_spec, gpt2.GPT2Spec) else Decoder
    return nnx.eval_shape(lambda: module(model_spec, dtype, nnx.Rngs(0)))

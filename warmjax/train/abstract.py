"""The step that fine-tunes adapters, with shapes and layouts in place of arrays (the engine's: `decode.abstract`)."""

from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from warmjax import sharding
from warmjax.data import packing
from warmjax.decode.abstract import Program
from warmjax.lora import adapters
from warmjax.models import decoder
from warmjax.models.quantization import Quantization
from warmjax.models.spec import Spec
from warmjax.train import lora
from warmjax.train.lora import TrainSettings
from warmjax.train.optimizer import make_optimizer
from warmjax.train.step import abstract_state


def train_program(spec: Spec, dtype: Any, kind: Quantization, settings: TrainSettings, mesh: Mesh) -> Program:
    """Makes the step with as many micro-batches as rows that are not packed need.

    Args:
        dtype: of the base weights, and `kind` of its layers' kernels.

    Returns:
        The program; it is called with the state, the frozen base, and a batch of arrays [A, B, T].

    Raises:
        ValueError: the mesh does not divide the model or the micro-batch.
    """
    model = nnx.eval_shape(lambda model: decoder.quantized(model, kind), decoder.abstract(spec, dtype))
    graphdef, shapes = nnx.split(model)
    optimizer = make_optimizer(settings.optimizer, num_steps=1)
    state = abstract_state(adapters.abstract(model, settings.lora, mesh), optimizer, mesh)
    size = (-(-settings.batch_size // settings.micro_batch), settings.micro_batch, settings.max_length)
    layout = sharding.named(mesh, (None, 'batch', None), size, 'config.train.micro_batch')
    row = packing.make_row([], settings.max_length)
    batch = {name: jax.ShapeDtypeStruct(size, x.dtype, sharding=layout) for name, x in row.items()}
    frozen = sharding.abstract_arrays(shapes, sharding.state_shardings(shapes, mesh))
    return Program(lora.make_lora_step(graphdef, optimizer, settings, state), (state, frozen, batch), mesh)

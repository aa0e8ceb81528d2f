"""Full training state on disk: trained parameters, optimizer, RNG key and data position, by orbax.

A checkpoint is written under a temporary name and renamed, so a run that is killed while writing finds the one before.
"""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from warmjax.train.step import TrainState


class Checkpoints:
    """The checkpoints of one training run, newest last; keeps two."""

    def __init__(self, folder: epath.PathLike):
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._manager = ocp.CheckpointManager(epath.Path(folder).absolute(), options=options)

    def save(self, state: TrainState, data_position: dict[str, Any]) -> None:
        """Saves in the background; the next save or `close` waits for it."""
        tree = state._replace(key=jax.random.key_data(state.key))._asdict()
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(state=ocp.args.StandardSave(tree), data=ocp.args.JsonSave(data_position)),
        )

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Returns the newest state, laid out as `like` is, and its data position; None if nothing was saved yet."""
        step = self._manager.latest_step()
        if step is None:
            return None
        tree = like._replace(key=jax.random.key_data(like.key))._asdict()
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), data=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=args)
        state = TrainState(**restored['state'])
        return state._replace(key=jax.random.wrap_key_data(state.key)), restored['data']

    def close(self) -> None:
        """Waits for the last save."""
        self._manager.close()

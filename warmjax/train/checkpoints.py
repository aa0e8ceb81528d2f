"""Full training state on disk: trained parameters, optimizer, RNG key, data position and recent losses, by orbax.

A checkpoint is written under a temporary name and renamed, so a run that is killed while writing finds the one before.
"""

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from warmjax.train.step import TrainState


class Checkpoints:
    """The checkpoints of one training run, newest last; keeps two."""

    def __init__(self, folder: epath.PathLike):
        self._folder = epath.Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def newest(self) -> str:
        """Says which checkpoint a new start would go on from."""
        step = max((int(path.name) for path in self._folder.iterdir() if path.name.isdigit()), default=None)
        return 'there is no checkpoint yet' if step is None else f'the newest checkpoint is {self._folder / str(step)}'

    def save(self, state: TrainState, position: dict[str, Any]) -> None:
        """Saves in the background; the next save or `close` waits for it.

        Args:
            position: where the run is beside its arrays, as JSON.

        Raises:
            OSError: there is no room for this checkpoint, or was none for the one before.
        """
        tree = state._replace(key=jax.random.key_data(state.key))._asdict()
        args = ocp.args.Composite(state=ocp.args.StandardSave(tree), position=ocp.args.JsonSave(position))
        with self._room():
            self._manager.save(int(state.step), args=args)

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Returns the newest state, laid out as `like` is, and its position; None if nothing was saved yet."""
        step = self._manager.latest_step()
        if step is None:
            return None
        tree = like._replace(key=jax.random.key_data(like.key))._asdict()
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), position=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=args)
        state = TrainState(**restored['state'])
        return state._replace(key=jax.random.wrap_key_data(state.key)), restored['position']

    def wait(self) -> None:
        """Waits for the last save.

        Raises:
            OSError: there was no room for it.
        """
        with self._room():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and lets go of the folder."""
        self.wait()
        self._manager.close()

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """Names a full disk, of which the writing library tells by a ValueError."""
        try:
            yield
        except (OSError, ValueError) as error:
            if getattr(error, 'errno', None) != errno.ENOSPC and 'No space left' not in str(error):
                raise
            raise OSError(
                errno.ENOSPC,
                f'{self._folder}: expected room for a checkpoint, got a full disk; {self.newest()}: make room and run '
                'the same command again',
            ) from error

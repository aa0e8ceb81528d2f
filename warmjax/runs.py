"""Workdirs: one lock, one manifest a stage, atomic writes, and row logs that a killed run continues.

runs/world/
  .lock                        held (flock) by the process that works here; empty when nobody does
  manifests/<stage>.json       config, input digests, versions, counts, wall time, status
  generations.jsonl            a row log: appended and flushed, a torn last line is cut off on the next start
"""

import contextlib
import copy
import dataclasses
import datetime
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from warmjax import settings

PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'transformers', 'tokenizers', 'statsmodels', 'numpy')


BIG = 2**26
"""Files of this many bytes and more are read once a process for their digest, however many stages ask for it."""


def write_atomic(path: epath.PathLike, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part: temporary file, fsync, rename."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f'.{path.name}.{uuid.uuid4().hex[:8]}.tmp'
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open('wb') as file:
            file.write(data)
            file.flush()
            if is_local(path):
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_local(path: epath.PathLike) -> bool:
    """Tells a path of this machine's file system from a bucket's (`gs://...`)."""
    return '://' not in str(path)


def digest(value: Any) -> str:
    """Returns the SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_digest(path: epath.PathLike) -> str:
    """Returns the SHA-256 of a file, or of a folder's files and folders with their names."""
    path = epath.Path(path)
    if path.is_dir():
        return digest({child.name: file_digest(child) for child in path.iterdir()})
    stat = path.stat()
    return (_big_file_digest if stat.length >= BIG else _file_digest)(str(path), stat.length, stat.mtime)


def _file_digest(path: str, length: int, mtime: int) -> str:
    with epath.Path(path).open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


_big_file_digest = functools.cache(_file_digest)


@contextlib.contextmanager
def lock(workdir: epath.PathLike) -> Iterator[None]:
    """Holds the workdir for this process; the operating system lets go of it however the process ends.

    In a bucket nothing can be held, so there the caller must keep a second run away.

    Raises:
        RuntimeError: another process works in this workdir.
    """
    workdir = epath.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    if not is_local(workdir):
        yield
        return
    path = pathlib.Path(workdir) / '.lock'
    with path.open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or 'unknown'
            raise RuntimeError(
                f'{workdir}: expected a workdir that no other process uses, got one held by {owner}; '
                'wait for it, stop it, or choose another --workdir'
            ) from None
        file.truncate(0)
        file.write(f'process {os.getpid()} on {platform.node()}')
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@dataclasses.dataclass
class Stage:
    """A stage of a run while it works. Fill `counts` with what it did; they go into its manifest."""

    name: str
    is_done: bool
    counts: dict[str, Any] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def stage(
    workdir: epath.PathLike,
    name: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, epath.PathLike],
    is_writer: bool = True,
    runtime: Sequence[str] = (),
) -> Iterator[Stage]:
    """Opens a stage; its manifest says `done` once the block has ended without an exception.

        with runs.stage(workdir, 'judge', config, {'generations': path}) as stage:
            if stage.is_done:
                return
            ...
            stage.counts['verdicts'] = n

    Args:
        workdir: where the run lives.
        name: the stage; its manifest is `manifests/<name>.json`.
        config: plain JSON of everything that the stage's result depends on, seeds included.
        inputs: the files and folders it reads.
        is_writer: False in all processes of a run but one.
        runtime: paths in `config` (`train.profile`) that say how a run goes and not what comes out: a stage that was
            begun goes on with other values of them.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: the stage was begun here with another config or other inputs; the message lists the differences.
    """
    path = epath.Path(workdir) / 'manifests' / f'{name}.json'
    manifest = {
        'stage': name,
        'config': settings.plain(config),
        'inputs': {
            key: {'path': str(value), 'sha256': _input_digest(name, key, value)} for key, value in inputs.items()
        },
    }
    before = read_manifest(workdir, name)
    if before is not None:
        _refuse_differences(workdir, name, before, manifest, runtime)
    if before is not None and before['status'] == 'done':
        yield Stage(name, is_done=True, counts=before['counts'])
        return
    spent = 0.0 if before is None else before['wall_seconds']
    manifest |= {'versions': versions(), 'counts': {}, 'wall_seconds': spent, 'status': 'running', 'started': _now()}
    if before is None and is_writer:
        _write_manifest(path, manifest)
    current = Stage(name, is_done=False)
    started = time.monotonic()
    try:
        yield current
        manifest |= {'counts': current.counts, 'status': 'done', 'finished': _now()}
    finally:
        if is_writer:
            _write_manifest(path, manifest | {'wall_seconds': round(spent + time.monotonic() - started, 2)})


def read_manifest(workdir: epath.PathLike, name: str) -> dict[str, Any] | None:
    """Returns a stage's manifest, or None if the stage was never begun here."""
    path = epath.Path(workdir) / 'manifests' / f'{name}.json'
    return json.loads(path.read_text()) if path.exists() else None


def versions() -> dict[str, str]:
    """Names the versions that a result depends on; packages that are not installed are left out."""
    found = {'python': platform.python_version(), 'warmjax': importlib.metadata.version('warmjax')}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


class RowLog:
    """An append-only file of lines that survives a kill.

    Opening it cuts off a torn last line (one that has no newline) and reads the others, which must be UTF-8
    (ValueError); `append` writes and flushes.
    A log in a bucket, where nothing can be appended to, is kept as parts beside it, each named by the index of its
    first line, and joined by `close`.
    """

    def __init__(self, path: epath.PathLike):
        self.path = epath.Path(path)
        self._appends = is_local(self.path)
        self._parts = self.path.parent / f'{self.path.name}.parts'
        self.lines = self._recover()

    def append(self, lines: list[str]) -> None:
        """Adds lines, each without its newline, and makes sure that they have left the process."""
        text = ''.join(line + '\n' for line in lines)
        first = len(self.lines)
        self.lines += lines
        if self._appends:
            with self.path.open('ab') as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        else:
            write_atomic(self._parts / f'{first:09d}', text)

    def close(self) -> None:
        """Joins the parts of a log in a bucket; does nothing to a local one."""
        if not self._appends:
            write_atomic(self.path, ''.join(line + '\n' for line in self.lines))
            if self._parts.exists():
                self._parts.rmtree()

    def _recover(self) -> list[str]:
        if self._appends:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            data = self.path.read_bytes() if self.path.exists() else b''
            whole = data[: data.rfind(b'\n') + 1]
            if len(whole) < len(data) or not self.path.exists():
                write_atomic(self.path, whole)
            return _split_lines(whole, self.path)
        lines = _split_lines(self.path.read_bytes(), self.path) if self.path.exists() else []
        parts = self._parts.iterdir() if self._parts.exists() else ()
        for part in sorted((part for part in parts if part.name.isdigit()), key=lambda part: part.name):
            # By place, not appended: a kill inside `close` leaves parts whose lines are in the file already.
            first, added = int(part.name), _split_lines(part.read_bytes(), part)
            lines[first : first + len(added)] = added
        return lines


def _split_lines(data: bytes, path: epath.Path) -> list[str]:
    """Splits at newlines alone; `str.splitlines` would also split at characters that JSON leaves as they are.

    Raises:
        ValueError: a line is not UTF-8.
    """
    try:
        return data.decode().split('\n')[:-1]
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b'\n') + 1
        raise ValueError(
            f'{path}:{number}: expected UTF-8, got other bytes; delete the line, and what it held is made again'
        ) from None


def _refuse_differences(
    workdir: epath.PathLike, name: str, before: Mapping, now: Mapping, runtime: Sequence[str]
) -> None:
    lines = settings.differences(*(_without(manifest['config'], runtime) for manifest in (before, now)))
    for key in sorted(set(before['inputs']) | set(now['inputs'])):
        old, new = (m['inputs'].get(key, {}).get('sha256', '(absent)') for m in (before, now))
        if old != new:
            lines.append(f'input {key}: sha256 {old[:12]} -> {new[:12]}')
    if lines:
        raise ValueError(
            f'{workdir}: expected the config and inputs with which stage {name!r} was begun, got '
            + '\n  '.join([f'{len(lines)} differences:', *lines])
            + f'\nrestore them, choose another --workdir, or delete manifests/{name}.json and what the stage wrote'
        )


def _without(config: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    rest = copy.deepcopy(dict(config))
    for path in paths:
        *sections, name = path.split('.')
        functools.reduce(lambda section, key: section.get(key) or {}, sections, rest).pop(name, None)
    return rest


def _input_digest(stage_name: str, key: str, path: epath.PathLike) -> str:
    if not epath.Path(path).exists():
        raise FileNotFoundError(f'stage {stage_name!r}: expected its input {key!r} at {path}, found nothing there')
    return file_digest(path)


def _write_manifest(path: epath.Path, manifest: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + '\n')


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')

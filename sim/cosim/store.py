"""What is expensive to make, kept by content: each thing is made once, whoever asks first.

    .cache/<kind>/<key>            an entry, a file or a folder: complete, or not there
    .cache/<kind>/<key>.partial    is being made, or was when its process was killed
    .cache/locks/<kind>-<key>      held by whoever looks for the entry or makes it

The key holds everything that the entry depends on, so none is ever stale. An entry's time of change
is that of its last use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"
PARTIAL = ".partial"


def entry(
    kind: str,
    key: str,
    make: Callable[[Path], None],
    *,
    kept: int,
    busy: Callable[[Path], bool] = lambda path: False,
) -> Path:
    """An entry, made if it is not there yet.

    Parameters
    ----------
    kind: folder of entries of one kind.
    key: name of the entry; a hash of its content.
    make: writes it to a path where nothing is.
    kept: entries of the kind that stay; a new one pushes out those that were used longest ago.
    busy: whether an entry must stay whatever its age.
    """
    folder = CACHE / kind
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / key
    with _alone(kind, key):
        if path.exists():
            os.utime(path)
            return path
        partial = folder / f"{key}{PARTIAL}"
        _remove(partial)  # of a process that was killed
        try:
            make(partial)
        except BaseException:
            _remove(partial)
            raise
        partial.rename(path)
    prune(kind, kept, busy)
    return path


def prune(kind: str, kept: int, busy: Callable[[Path], bool] = lambda path: False) -> None:
    """Remove the entries used longest ago, and what killed processes left behind."""
    folder = CACHE / kind
    entries = [path for path in folder.iterdir() if path.suffix != PARTIAL]
    entries.sort(key=_used, reverse=True)
    old = [path for path in entries[kept:] if not busy(path)]
    for path in [*old, *folder.glob(f"*{PARTIAL}")]:
        with _alone_at_once(kind, path.name.removesuffix(PARTIAL)) as held:
            if held:
                _remove(path)
    for lock in (CACHE / "locks").glob(f"{kind}-*"):
        key = lock.name.removeprefix(f"{kind}-")
        if not any((folder / name).exists() for name in (key, f"{key}{PARTIAL}")):
            with _alone_at_once(kind, key) as held:
                if held:
                    lock.unlink(missing_ok=True)


def _used(path: Path) -> float:
    """Time of the last use; an entry that another process removes meanwhile is as old as any."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(kind: str, key: str) -> Iterator[None]:
    """Hold back others that look for the same entry."""
    descriptor = None
    while descriptor is None:
        descriptor = _locked(kind, key, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _alone_at_once(kind: str, key: str) -> Iterator[bool]:
    """The same without waiting; tells whether it succeeded."""
    descriptor = None
    with contextlib.suppress(BlockingIOError):
        descriptor = _locked(kind, key, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(kind: str, key: str, operation: int) -> int | None:
    """A locked descriptor of a lock file; None if the file was removed meanwhile.

    Raises
    ------
    BlockingIOError
        If another process has it and `operation` does not wait.
    """
    path = CACHE / "locks" / f"{kind}-{key}"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, operation)
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None

"""The build folder: complete or not there."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
import yaml

from compiler.tensor import CompilerError
from hw.arch.config import AcceleratorConfig

MARK = "build.json"
"""A folder that holds this file is a build folder and may be replaced."""


class Stages:
    """Numbered dumps in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.count = 0

    def dump(self, name: str, text: str) -> None:
        """Write the next stage's text."""
        self.count += 1
        (self.folder / f"{self.count:02}-{name}.txt").write_text(text)


def check_target(target: Path) -> None:
    """Refuse to replace what is no build folder.

    Raises
    ------
    CompilerError
        Names the path.
    """
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / MARK).is_file()):
        raise CompilerError(f"{target} exists and is no build folder: it is not replaced")


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place when everything has succeeded.

    However the process ends, the target is what it was, or complete. What a process that was
    killed has left goes with the next one.

    Raises
    ------
    CompilerError
        If the folder cannot be made.
    """
    target = target.resolve()
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(target.parent):
                _clear(target)
                name = f".{target.name}.staging-"
                folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=name))
                stack.enter_context(_locked(folder))
        except OSError as error:
            raise CompilerError(f"cannot write to {target.parent}: {error.strerror}") from error
        try:
            folder.chmod(0o755)
            yield folder
            with _locked(target.parent):
                _publish(folder, target)
        finally:
            if folder.exists():  # the old build, or one that did not succeed
                shutil.rmtree(folder)


def _publish(folder: Path, target: Path) -> None:
    """Put a folder in the place of another, which then is where the first one was, or gone."""
    if not target.exists():
        folder.rename(target)
        return
    try:
        exchange(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        # This system or file system cannot exchange: for a moment there is no target, and a kill in
        # it leaves the old build to `_clear`.
        old = folder.with_name(f"{folder.name}{OLD}")
        target.rename(old)
        folder.rename(target)
        shutil.rmtree(old)


OLD = "-old"
EXCHANGE = 2
"""RENAME_EXCHANGE of Linux's renameat2."""
HERE = -100
"""AT_FDCWD: paths are relative to the working folder."""


def exchange(first: Path, second: Path) -> None:
    """Exchange two paths in one step.

    Raises
    ------
    OSError
        If they do not exist, or the system cannot.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    flags = ctypes.c_uint(EXCHANGE)
    if rename(HERE, os.fsencode(first), HERE, os.fsencode(second), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder; it ends with the process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear(target: Path) -> None:
    """Remove staging folders of processes that were killed; put back a build that one took away."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.staging-[a-z0-9_]{{8}}({OLD})?")
    for path in sorted(target.parent.iterdir()):
        if not pattern.fullmatch(path.name):
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its process is alive
        else:
            if path.name.endswith(OLD) and not target.exists():
                path.rename(target)
            else:
                shutil.rmtree(path)
        finally:
            os.close(descriptor)


def copy_model(source: Path, target: Path) -> None:
    """The ONNX file, external data taken in."""
    proto = onnx.load(str(source), load_external_data=False)
    external = any(
        tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer
    )
    if external:
        onnx.save_model(onnx.load(str(source)), str(target))
    else:
        shutil.copyfile(source, target)


def copy_preprocessing(source: Path, target: Path) -> None:
    """How pixels become numbers, where a file beside the network says so."""
    beside = source.with_name(f"{source.stem}.preprocessing.json")
    if beside.is_file():
        shutil.copyfile(beside, target)


def runs(target: Path) -> tuple[str, ...]:
    """Names of the runs that lie in a build folder."""
    folder = target / "runs"
    return tuple(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ()


def write_config(config: AcceleratorConfig, path: Path) -> None:
    """The configuration as YAML, its name included."""
    content = dataclasses.asdict(config)
    content["features"] = list(config.features)
    path.write_text(yaml.safe_dump(content, sort_keys=False))

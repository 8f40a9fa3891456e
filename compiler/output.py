"""The build folder: complete or not there."""

from __future__ import annotations

import contextlib
import dataclasses
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
    """A folder beside the target that takes its place when everything has succeeded."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    except OSError as error:
        raise CompilerError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        folder.chmod(0o755)
        yield folder
        old = folder.with_name(f"{folder.name}-old")
        if target.exists():
            target.rename(old)
        folder.rename(target)
        if old.exists():
            shutil.rmtree(old)
    finally:
        if folder.exists():
            shutil.rmtree(folder)


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


def write_config(config: AcceleratorConfig, path: Path) -> None:
    """The configuration as YAML, its name included."""
    content = dataclasses.asdict(config)
    content["features"] = list(config.features)
    path.write_text(yaml.safe_dump(content, sort_keys=False))

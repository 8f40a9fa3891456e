"""Builds to prove."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from compiler.ir import Graph
from compiler.pipeline import build
from hw.arch.config import AcceleratorConfig
from models.export import export
from proof.prove import prove

TINY = AcceleratorConfig.load("tiny")


@dataclass(frozen=True)
class Made:
    """A build folder and the graph behind its program."""

    folder: Path
    graph: Graph

    def prove(self):
        return prove(self.folder, self.graph)

    def of(self, model: onnx.ModelProto, folder: Path) -> "Made":
        """The same program, said to be another file's."""
        shutil.copytree(self.folder, folder)
        onnx.save(model, folder / "model.onnx")
        return Made(folder, self.graph)


def make(model: onnx.ModelProto | Path, folder: Path) -> Made:
    """Build for tiny."""
    folder.mkdir(exist_ok=True)
    source = model
    if isinstance(model, onnx.ModelProto):
        source = folder / "net.onnx"
        onnx.save(model, source)
    graphs: list[Graph] = []
    build(
        source,
        TINY,
        folder / "build",
        verify=lambda staged, graph: graphs.append(graph) or ({}, {}),
    )
    return Made(folder / "build", graphs[0])


@pytest.fixture(scope="session")
def fsb(tmp_path_factory):
    """FSB-C3D at tiny size: the model and its build, with the recorded input."""
    folder = tmp_path_factory.mktemp("fsb")
    path = export("fsb_c3d", folder / "fsb_c3d.onnx", "tiny").onnx
    return onnx.load(path), make(path, folder)

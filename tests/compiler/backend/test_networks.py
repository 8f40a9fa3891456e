"""Whole tiny networks: every stored tensor equals the independent PyTorch oracle's."""

import dataclasses

import numpy as np
import pytest

from compiler import pipeline
from compiler.backend.build import generate
from compiler.onnx_import import import_onnx
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Program
from models.export import export
from models.reference import Reference
from sim.host import dequantize
from tests.compiler.backend.harness import CONFIGS, execute, feeds_of
from tests.marks import large

NETWORKS = ("fsb_c3d", "c3d", "c3d_fc")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tiny exports by network."""
    folder = tmp_path_factory.mktemp("onnx")
    return {name: export(name, folder / f"{name}.onnx", "tiny") for name in NETWORKS}


def graph_of(path, config: AcceleratorConfig, fuse: bool):
    graph = import_onnx(path).graph
    assert graph is not None
    return pipeline.optimize(graph, fuse, pipeline.back_end_accepts(config))


@pytest.mark.parametrize("fuse", [True, large(False)], ids=["fused", "unfused"])
@pytest.mark.parametrize("config", ["tiny", large("wide"), "base"])
@pytest.mark.parametrize("name", ["fsb_c3d", "c3d", large("c3d_fc")])
def test_every_stored_tensor_equals_the_oracle(files, name, config, fuse):
    path = files[name].onnx if hasattr(files[name], "onnx") else files[name]
    graph = graph_of(path, CONFIGS[config], fuse)
    run = execute(graph, CONFIGS[config])
    assert run.differing() == []
    feeds = feeds_of(graph)
    floats = {
        port.onnx_name: dequantize(run.program.tensor(port.value), feeds[port.value])
        for port in graph.inputs
    }
    oracle = Reference(path).run(floats)
    inputs = {feed.tensor for feed in run.program.feeds}
    compared = [t for t in run.program.tensors if t.name in oracle and t.name not in inputs]
    assert len(compared) >= len(graph.ops) - 1
    wrong = [t.name for t in compared if not np.array_equal(run.image.read(t), oracle[t.name])]
    assert wrong == []


def test_layers_cover_the_program(files):
    graph = graph_of(_path(files["fsb_c3d"]), CONFIGS["tiny"], True)
    program = generate(graph, CONFIGS["tiny"])
    assert program.layers[0].first == 1
    for before, after in zip(program.layers, program.layers[1:], strict=False):
        assert before.last == after.first
    assert program.layers[-1].last == len(program.instructions) - 1
    assert sum(layer.macs for layer in program.layers) == graph.macs()
    assert {n for layer in program.layers for n in layer.tensors} == {op.output for op in graph.ops}


def test_a_program_survives_its_file(files, tmp_path):
    graph = graph_of(_path(files["fsb_c3d"]), CONFIGS["tiny"], True)
    program = generate(graph, CONFIGS["tiny"])
    program.save(tmp_path / "program.bin")
    loaded = Program.load(tmp_path / "program.bin")
    assert loaded.instructions == program.instructions
    assert dataclasses.replace(loaded, layers=()) == dataclasses.replace(program, layers=())


def test_two_builds_are_equal(files):
    graph = graph_of(_path(files["c3d"]), CONFIGS["tiny"], True)
    assert generate(graph, CONFIGS["tiny"]) == generate(graph, CONFIGS["tiny"])


def _path(exported):
    return exported.onnx if hasattr(exported, "onnx") else exported

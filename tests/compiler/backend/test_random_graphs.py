"""Random graphs: the program on the functional simulator, the interpreter and PyTorch agree."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.axes import to_canonical
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap
from tests.compiler.backend.harness import CONFIGS, Run, execute, feeds_of
from tests.compiler.backend.random_graphs import Grower
from tests.compiler.backend.torch_graph import reference

OPERATORS = 8
BLOCK = 10
"""Graphs of one test case."""
DEFAULT = [("tiny", n) for n in range(6)] + [("base", 6), ("base", 7), ("wide", 8)]
MORE = [(name, n) for n in range(20, 80) for name in ("tiny", "base", "wide")]


def run(seed: int, config: AcceleratorConfig, exact: bool = False) -> Run:
    grower = Grower(seed, config, exact)
    graph = grower.graph(OPERATORS)
    assert len(graph.ops) >= OPERATORS, grower.refused
    return execute(graph, config, seed=seed)


def check(block: int, config: AcceleratorConfig) -> None:
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        assert run(seed, config).differing() == [], f"seed {seed}"


@pytest.mark.parametrize(("config", "block"), DEFAULT)
def test_programs_equal_the_interpreter(config, block):
    check(block, CONFIGS[config])


@pytest.mark.slow
@pytest.mark.parametrize(("config", "block"), MORE)
def test_more_programs_equal_the_interpreter(config, block):
    check(block, CONFIGS[config])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "base", "ecp5_85k"])
@pytest.mark.parametrize("block", range(100, 105))
def test_programs_with_fast_algorithms_equal_the_interpreter(name, block):
    check(block, AcceleratorConfig.load(name))


def check_torch(block: int, config: AcceleratorConfig) -> None:
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        done = run(seed, config, exact=True)
        assert done.differing() == [], f"seed {seed}"
        graph = done.graph
        feeds = {n: graph.type(n).in_lanes(codes) for n, codes in feeds_of(graph, seed).items()}
        for name, codes in reference(graph, feeds).items():
            wanted = graph.type(name).in_file_order(codes)
            found = done.reference.get(name, wanted)  # what nothing reads is not there
            assert np.array_equal(found, wanted), f"seed {seed}: {name}"


@pytest.mark.parametrize("block", [10, 11])
def test_pytorch_agrees(block):
    check_torch(block, CONFIGS["tiny"])


@pytest.mark.slow
@pytest.mark.parametrize("block", range(200, 230))
def test_pytorch_agrees_on_more(block):
    check_torch(block, CONFIGS["tiny"])


# Twins that must fail


def test_swapped_runs_are_seen():
    """Two runs of one ragged tensor exchanged in the program's header."""
    seen = 0
    for seed in range(30):
        done = run(seed, CONFIGS["tiny"])
        for number, tensor in enumerate(done.program.tensors):
            lane_map = tensor.layout.lane_map
            if lane_map.is_dense or len(lane_map.blocks) < 2:
                continue
            first, *between, last = lane_map.blocks
            other = LaneMap(lane_map.lanes, (last, *between, first))
            if other == lane_map or len(set(done.reference[tensor.name].flat)) < 8:
                continue
            layout = dataclasses.replace(tensor.layout, lane_map=other)
            codes = to_canonical(done.reference[tensor.name], tensor.axes)
            if np.array_equal(layout.pack(codes), tensor.layout.pack(codes)):
                continue  # of a concat of one tensor and itself: both runs hold the same
            tensors = list(done.program.tensors)
            tensors[number] = dataclasses.replace(tensor, layout=layout)
            program = dataclasses.replace(done.program, tensors=tuple(tensors))
            twin = dataclasses.replace(done, program=program)
            assert twin.differing() == [tensor.name], f"seed {seed}"
            seen += 1
    assert seen >= 15


def test_another_bias_is_seen_by_pytorch():
    """A little more in one operator's sums: the two references part."""
    config = CONFIGS["tiny"]
    found = (run(seed, config, exact=True) for seed in range(100, 120))
    done, op = next(
        (each, op) for each in found for op in each.graph.ops if type(op).__name__ == "Convolution"
    )
    graph = done.graph
    wrong = dataclasses.replace(op, bias=op.bias + np.int32(4000))
    ops = tuple(wrong if o is op else o for o in graph.ops)
    feeds = {n: graph.type(n).in_lanes(codes) for n, codes in feeds_of(graph, 100).items()}
    found = reference(dataclasses.replace(graph, ops=ops), feeds)[op.output]
    assert not np.array_equal(graph.type(op.output).in_file_order(found), done.reference[op.output])

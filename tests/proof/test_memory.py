"""Builds that are planned for the memory of a board."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from compiler.tensor import CompilerError
from hw.arch.boards import BOARDS
from hw.arch.config import AcceleratorConfig
from proof.build import build
from scripts.single_layer import single_convolution
from sim.build import Build
from sim.command import run
from sim.cycle.backend import CycleBackend

BOARD = "ulx3s_85f"


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """A dense layer on 16 vectors, as of VTN's decoder, planned for either memory; proven."""
    folder = tmp_path_factory.mktemp("memory")
    file = folder / "dense.onnx"
    onnx.save(single_convolution(512, 512, (1, 1), (4, 4)), file)
    vectors = np.random.default_rng(3).normal(size=(1, 512, 4, 4)).astype(np.float32)
    np.savez(folder / "vectors.npz", clip=vectors)
    for memory in (None, BOARD):
        target = folder / str(memory)
        assert build(file, "ecp5_85k", target, memory=memory, record=folder / "vectors.npz").proof
    return folder


def cycles(folder, memory, behind):
    backend = CycleBackend(BOARDS[behind]) if behind else CycleBackend()
    return run(folder / str(memory), "cycle", backend=backend).result.cycles


def test_what_is_planned_for_a_memory_is_faster_with_it(builds):
    assert cycles(builds, BOARD, BOARD) < 0.99 * cycles(builds, None, BOARD)


def test_twin_and_with_another_one_it_is_not(builds):
    assert cycles(builds, BOARD, None) >= cycles(builds, None, None)


def test_the_circuit_is_the_same(builds):
    plain, planned = (Build.load(builds / str(memory)) for memory in (None, BOARD))
    assert plain.program.fingerprint == planned.program.fingerprint
    assert planned.config == BOARDS[BOARD].behind(AcceleratorConfig.load("ecp5_85k"))
    assert plain.config == AcceleratorConfig.load("ecp5_85k")
    assert json.loads((builds / BOARD / "build.json").read_text())["config"] == "ecp5_85k"


def test_what_a_memory_is_expected_to_do():
    # Two words of four bytes a beat, 16 cycles of refresh in 489; a row closed and opened (2 + 2),
    # every other burst turns the bus around (4 + 3).
    port = BOARDS[BOARD].behind(AcceleratorConfig.load("ecp5_85k")).port
    assert port.rate == pytest.approx(0.5 * (1 - 16 / 489))
    assert port.gap == 7
    # 128 beats are two bursts of 64, or 32 of 4.
    assert port.cycles(128) == pytest.approx(128 / port.rate + 2 * 7)
    assert port.lost(128, 4) == pytest.approx((32 - 2) * 7)
    assert port.lost(128, 64) == 0


def test_a_board_that_is_none(tmp_path):
    with pytest.raises(CompilerError, match="no board 'nexys'; there are ulx3s_85f"):
        build(tmp_path / "any.onnx", memory="nexys")

"""The worked layer of docs/isa.md is what the compiler emits, and what it says is so."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hw.arch.isa import Array, Drain, Load
from hw.arch.program import Program
from hw.arch.worked_layer import LISTING, TEXT, TIMES
from tests.models.net import Net
from tests.models.qdq import Q
from toolkit import build, run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layer")
    net = Net()
    taps = np.random.default_rng(0).integers(-127, 128, (4, 4, 3, 3)).astype(np.int8)
    x = net.dequantize(net.quantize(net.input((1, 4, 5, 5)), Q(0.05, 128), "x_q"), Q(0.05, 128))
    weight = net.dequantize(net.constant(taps), Q(0.02, 0, np.int8))
    y = net.op("Relu", [net.op("Conv", [x, weight], pads=[1, 1, 1, 1])])
    net.nodes[-2].name = "conv"
    net.output(net.dequantize(net.quantize(y, Q(0.1, 0), "y_q"), Q(0.1, 0)))
    onnx.save(net.model(), folder / "conv.onnx")
    value = np.random.default_rng(1).normal(0, 1, (1, 4, 5, 5)).astype(np.float32)
    np.savez(folder / "x.npz", x=value)
    build(folder / "conv.onnx", "tiny_direct", folder / "build", record=folder / "x.npz")
    return folder / "build", run(folder / "build", "cycle", check=True)


def test_the_listing_is_the_compiler_s(made):
    assert (made[0] / "program.asm").read_text().rstrip() == LISTING


def test_the_times_are_the_model_s(made):
    rows = made[1].result.instructions
    assert tuple(zip(rows.unit, rows.pc, rows.issue, rows.end, strict=True)) == TIMES
    assert made[1].result.equal is True


def test_what_the_text_says_of_addresses_and_counts(made):
    program = Program.load(made[0] / "program.bin")
    array = next(i for i in program.instructions if isinstance(i, Array))
    loads = [i for i in program.instructions if isinstance(i, Load)]
    assert array.activation == loads[2].local - 5 - 1
    last = array.activation + sum(
        (count - 1) * step for count, step in zip(array.counts[:2], (1, 5), strict=True)
    )
    assert (last, last + array.deltas[4]) == (274, 251)
    assert 4 * loads[0].beats == 9 * 4 * 4 and 4 * loads[1].beats == 4 * 8
    assert np.prod(array.counts) == 225 and f"ARRAY takes {484 - 241}," in TEXT
    drain = next(i for i in program.instructions if isinstance(i, Drain))
    assert drain.counts[:2] == (5, 5)

"""Order of a chain's stages, and constants that come again in every strip."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.backend.build import generate
from compiler.ir import Graph
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Load, Space
from sim.backend import Options
from sim.backends import make_backend
from sim.host import start_image
from tests.compiler.backend.harness import CONFIGS, execute, feeds_of
from tests.compiler.backend.hfa_cases import CONFIGS as HFA
from tests.compiler.backend.test_chains import chain
from tests.ladder.compare import differences


def streamed() -> tuple[Graph, AcceleratorConfig]:
    """Weights and parameters of two stages come again in every strip."""
    return chain((16, 1, 7, 7), mid=96, out=16, taps=1), CONFIGS["tiny"]


def test_constants_come_again_in_every_strip():
    """The twin: in the second strip those of another group."""
    graph, config = streamed()
    program = generate(graph, config)
    held = program.layers[0].tiling["held"]
    assert held["temporal"] == "3 of 12" and held["window"] == "2 of 8"
    loads = [
        (n, i)
        for n, i in enumerate(program.instructions)
        if isinstance(i, Load) and i.space == Space.WEIGHT
    ]
    known = [i.dram for _, i in loads]
    n, again = next((n, i) for k, (n, i) in enumerate(loads) if i.dram in known[:k])
    other = next(i for _, i in loads if i.beats == again.beats and i.dram != again.dram)
    instructions = list(program.instructions)
    instructions[n] = dataclasses.replace(again, dram=other.dram)
    twin = dataclasses.replace(program, instructions=tuple(instructions))
    assert execute(graph, config, twin).differing() == ["y"]


def test_the_first_strip_takes_stages_in_turns():
    """Blocks by blocks; and the last stage sums up in pieces, as the one before it makes them."""
    graph, config = streamed()
    program = generate(graph, config)
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    windows = [n for n, i in enumerate(arrays) if i.mode == ArrayMode.DEPTHWISE]
    first = [n for n in windows if not arrays[n].resume]
    assert first[-1] - first[0] > len(first)
    sums = [n for n, i in enumerate(arrays) if i.accumulate]
    assert sums and all(arrays[n].mode == ArrayMode.GEMM for n in sums)

    def apart(instruction):
        return dataclasses.replace(instruction, accumulate=0)

    instructions = tuple(
        apart(i) if isinstance(i, Array) and i.accumulate else i for i in program.instructions
    )
    twin = dataclasses.replace(program, instructions=instructions)
    assert execute(graph, config, twin).differing() == ["y"]


RTL_CASES = {
    "streamed": ((8, 1, 7, 7), {"mid": 48, "out": 8, "taps": 1}),
    "strided": ((6, 1, 17, 9), {"mid": 6, "stride": (2, 2)}),
}


@pytest.mark.cosim
@pytest.mark.parametrize("case", RTL_CASES)
def test_on_rtl(case):
    """Values, and the times of every instruction."""
    shape, options = RTL_CASES[case]
    config, graph = HFA["tiny"], chain(shape, **options)
    program = generate(graph, config)
    memory = start_image(program, feeds_of(graph))
    rtl, model = (make_backend(b).run(program, config, memory, Options()) for b in ("rtl", "cycle"))
    assert differences(rtl, model) == []
    run = execute(graph, config, program)
    assert run.differing() == []
    y = program.tensor("y")
    assert np.array_equal(rtl.image.read(y), run.reference["y"])

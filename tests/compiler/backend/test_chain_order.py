"""Order of a chain's stages, and constants that come again in every strip."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.backend.build import generate
from compiler.ir import Graph
from compiler.regions import constants, dense
from compiler.regions.dense import DenseStage
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Load, Space
from sim.backend import Options
from sim.backends import make_backend
from sim.host import start_image
from tests.compiler.backend.harness import CONFIGS, execute, feeds_of
from tests.compiler.backend.hfa_cases import CONFIGS as HFA
from tests.compiler.backend.test_chains import chain
from tests.compiler.backend.trials import forget
from tests.ladder.compare import differences


def streamed() -> tuple[Graph, AcceleratorConfig]:
    """Weights and parameters of two stages come again in every strip."""
    return chain((16, 1, 7, 7), mid=96, out=16, taps=1), CONFIGS["tiny"]


def test_constants_come_again_in_every_strip():
    """The twin: in the second strip those of another group."""
    graph, config = streamed()
    program = generate(graph, config)
    held = program.layers[0].tiling["held"]
    assert held["t"] == "3 of 12" and held["s"] == "2 of 8"
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


def cycles_of(graph: Graph, config: AcceleratorConfig) -> int:
    """By the cycle model, of a program whose values are right."""
    program = generate(graph, config)
    assert execute(graph, config, program).differing() == []
    memory = start_image(program, feeds_of(graph))
    return make_backend("cycle").run(program, config, memory, Options()).cycles or 0


def brief() -> tuple[Graph, AcceleratorConfig]:
    """A first stage of one input block: its drain takes as long as the array."""
    return chain((16, 1, 28, 28), mid=64, out=32, taps=1), HFA["base"]


def test_parts_take_turns_where_the_array_is_no_longer_busy_than_the_drain(monkeypatch):
    """The twin, one stage behind the other, waits for drains."""
    graph, config = brief()
    program = generate(graph, config)
    order = [
        "S" if i.mode == ArrayMode.DEPTHWISE else "T" if i.counts[7] == 1 else "P"
        for i in program.instructions
        if isinstance(i, Array)
    ]
    behind = "".join(order[len(order) // 2 :])
    assert "TPPT" in behind and "TT" not in behind
    taken = cycles_of(graph, config)
    monkeypatch.setattr(DenseStage, "brief", False)
    assert taken < cycles_of(graph, config)


def test_a_transform_that_nothing_hides_is_short(monkeypatch):
    """The first part of a transformed stage is small: the array has had other work before it."""
    graph, config = chain((64, 4, 14, 28), mid=64, out=64), HFA["base"]
    program = generate(graph, config)
    parts = [i for i in program.instructions if isinstance(i, Array) and i.mode == ArrayMode.HFA]
    assert parts and all(i.counts[3] > 1 for i in parts)
    taken = cycles_of(graph, config)
    monkeypatch.setattr(dense, "CUTS", (1,))
    forget()
    assert taken < cycles_of(graph, config)


def test_transfers_of_constants_are_short(monkeypatch):
    """They let what the array waits for in between; together they are the same constants."""
    graph, config = streamed()
    monkeypatch.setattr(constants, "PIECE_BEATS", 7)
    program = generate(graph, config)
    spaces = (Space.WEIGHT, Space.PARAMETER)
    loads = [i for i in program.instructions if isinstance(i, Load) and i.space in spaces]
    assert max(i.beats for i in loads) == 7
    assert execute(graph, config, program).differing() == []


RTL_CASES = {
    "streamed": ((8, 1, 7, 7), {"mid": 48, "out": 8, "taps": 1}),
    "strided": ((6, 1, 17, 9), {"mid": 6, "stride": (2, 2)}),
    "by turns": ((4, 1, 17, 9), {"mid": 16, "out": 8, "taps": 1}),
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

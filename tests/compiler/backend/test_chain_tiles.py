"""Chains whose depthwise convolution runs in tiles of F(2×2,3×3), and the energy of their plans."""

import dataclasses
from collections import Counter

import pytest

from compiler.backend.build import generate
from compiler.policy import OBJECTIVES, Policy
from compiler.printer import print_choices
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode
from hw.timeline.compute import array_products
from sim.backend import Options
from sim.cycle.backend import CycleBackend
from sim.energy.actions import count_actions
from sim.energy.table import EnergyTable
from sim.host import start_image
from tests.compiler.backend.harness import execute, feeds_of
from tests.compiler.backend.hfa_cases import modes, record
from tests.compiler.backend.test_chains import chain
from tests.compiler.backend.test_hfa_depthwise import (
    CONFIGS,
    EIGHT,
    FOUR,
    SIXTEEN,
    TILES,
    TYPED,
    WITHOUT,
)

CASES = {
    "even": ((16, 2, 8, 8), {}),
    "odd, frames": ((5, 3, 7, 9), {}),
    "unequal padding": ((6, 1, 6, 7), {"pads": ((2, 1), (0, 2))}),
    "many channels": ((24, 1, 5, 4), {}),
    "pooled": ((8, 2, 8, 6), {"pool": (2, 2, 2)}),
    "residual": ((8, 3, 6, 6), {"trg": True}),
}
TEMPORAL = {"residual": (True,), "many channels": (False,)}
"""Where a temporal convolution is needed, and where its weights leave no room."""
BASE = AcceleratorConfig.load("base")


def graph_of(case, temporal=True, signed=False):
    shape, attributes = CASES[case]
    return chain(shape, mid=shape[0], out=12, temporal=temporal, signed=signed, **attributes)


def said_of_the_window(program):
    """The record of the depthwise convolution."""
    found = record(program)
    return found.get("depthwise", found)


def products(program, config) -> int:
    """Multiplications that the array performs."""
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    return sum(array_products(i, config) for i in arrays) * config.array.multipliers


def counted(program, config) -> float:
    """Joules of a program's actions, at the prices of 45 nm."""
    actions: Counter = Counter()
    for instruction in program.instructions:
        actions += count_actions(instruction, config)
    return sum(EnergyTable.load("asic_45nm").joules(actions, config).values())


def cycles_of(graph, program, config) -> int:
    memory = start_image(program, feeds_of(graph))
    return CycleBackend().run(program, config, memory, Options()).cycles


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("case", CASES)
def test_a_window_in_tiles_gives_the_same_results(case, name):
    config, signed = CONFIGS[name], [*CONFIGS].index(name) + [*CASES].index(case)
    for temporal in TEMPORAL.get(case, (True, False)):
        graph = graph_of(case, temporal, bool((signed + temporal) % 2))
        program = generate(graph, config, policy=Policy(TYPED))
        assert ArrayMode.HFA_DEPTHWISE in modes(program)
        assert ArrayMode.DEPTHWISE not in modes(program)
        assert said_of_the_window(program)["chosen"] == TILES
        assert execute(graph, config, program).differing() == []


def test_a_ragged_last_line_counts():
    """The twin: with the last line of the map taken for padding, results differ."""
    graph = graph_of("odd, frames")
    program = generate(graph, EIGHT, policy=Policy(TYPED))

    def change(instruction):
        if getattr(instruction, "mode", None) != ArrayMode.HFA_DEPTHWISE:
            return instruction
        x, y, t = instruction.bounds
        return dataclasses.replace(instruction, bounds=(x, y - 1, t))

    assert execute(graph, EIGHT, program).differing() == []
    changed = dataclasses.replace(program, instructions=tuple(map(change, program.instructions)))
    assert execute(graph, EIGHT, changed).differing() == ["y"]


def test_lines_that_are_kept_are_no_tiles():
    """A map whose results fit no bank of accumulators goes in strips, whatever is asked for."""
    graph = chain((8, 1, 40, 38), mid=8, out=8, temporal=False)
    program = generate(graph, EIGHT, policy=Policy(TYPED))
    assert modes(program) >= {ArrayMode.DEPTHWISE} and ArrayMode.HFA_DEPTHWISE not in modes(program)
    said = record(program)
    assert said["chosen"] == "direct" and "tiles keep no lines" in said["reason"]
    assert said["refused"][TILES] == said["reason"]
    assert said["reason"] in print_choices(program)
    strided = chain((8, 1, 8, 8), mid=8, out=8, temporal=False, stride=(2, 2))
    assert "stride 2" in record(generate(strided, EIGHT))["reason"]
    small = chain((16, 2, 8, 8), mid=16, out=16, temporal=False)
    assert "without hfa_depthwise" in record(generate(small, WITHOUT))["reason"]
    assert "switched off" in record(generate(small, EIGHT, policy=Policy("off")))["reason"]


def test_another_algorithm_leaves_the_window_direct():
    """Layers that can take the algorithm that is asked for do, all others are direct."""
    graph = chain((16, 2, 8, 8), mid=16, out=16)
    wanted = Policy("F(2,3)", "multiplications")
    program = generate(graph, EIGHT, policy=wanted)
    assert modes(program) == {ArrayMode.HFA, ArrayMode.DEPTHWISE, ArrayMode.GEMM}
    said = record(program)
    assert said["chosen"] == "F(2,3)"
    assert said["depthwise"]["reason"] == f"a depthwise layer can only have {TILES}"
    tiles = generate(graph, EIGHT, policy=Policy("auto", "multiplications"))
    assert ArrayMode.HFA_DEPTHWISE in modes(tiles)


@pytest.mark.parametrize("temporal", [False, True])
def test_each_objective_is_met(temporal):
    graph = chain((16, 2, 8, 8), mid=16, out=16, temporal=temporal)
    for config in (EIGHT, SIXTEEN):
        made = {o: generate(graph, config, policy=Policy("auto", o)) for o in OBJECTIVES}
        direct = generate(graph, config, policy=Policy("off"))
        fewest = made["multiplications"]
        assert ArrayMode.HFA_DEPTHWISE in modes(fewest)
        assert products(fewest, config) == min(products(p, config) for p in made.values())
        assert products(fewest, config) < products(direct, config)
        least = counted(made["energy"], config)
        assert all(least <= 1.02 * counted(p, config) for p in (*made.values(), direct))
        assert execute(graph, config, fewest).differing() == []


def test_tiles_are_faster_where_the_window_takes_several_passes():
    """Nine taps on an array of four rows: three passes, or one of tiles."""
    graph = chain((8, 2, 8, 8), mid=8, out=8)
    fast, direct = (generate(graph, FOUR, policy=Policy(asked)) for asked in ("auto", "off"))
    assert ArrayMode.HFA_DEPTHWISE in modes(fast)
    assert cycles_of(graph, fast, FOUR) < cycles_of(graph, direct, FOUR)
    for program in (fast, direct):
        assert program.layers[0].roofline_cycles <= cycles_of(graph, program, FOUR)


@pytest.mark.parametrize(
    ("shape", "mid", "out", "temporal"),
    [
        ((64, 2, 14, 14), 64, 64, True),
        ((32, 2, 28, 28), 32, 64, False),
        ((96, 1, 14, 14), 96, 96, False),
    ],
)
def test_estimates_are_near_what_is_counted(shape, mid, out, temporal):
    """Products to the last one; energy but for what all ways need alike; cycles by the model."""
    graph = chain(shape, mid=mid, out=out, temporal=temporal)
    for asked, objective in (("off", "cycles"), ("auto", "energy"), (TYPED, "multiplications")):
        program = generate(graph, BASE, policy=Policy(asked, objective))
        said = said_of_the_window(program)
        way = said["candidates"][said["chosen"]]
        assert way["multiplications"] == products(program, BASE)
        total = 1e6 * counted(program, BASE)
        assert 0.88 * total <= way["energy_uj"] <= 1.0 * total
        cycles = cycles_of(graph, program, BASE)
        assert 0.9 * cycles <= way["cycles"] <= 1.25 * cycles


def test_the_record_names_both_stages():
    graph = chain((16, 2, 8, 8), mid=16, out=16)
    program = generate(graph, EIGHT, policy=Policy("auto", "multiplications"))
    said = record(program)
    assert {"direct", TILES} == said["depthwise"]["candidates"].keys()
    assert all("energy_uj" in way for way in said["candidates"].values())
    text = print_choices(program)
    assert f"its depthwise convolution: {TILES}" in text

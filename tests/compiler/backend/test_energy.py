"""The compiler's energy estimate against the simulator's counted actions and sourced prices."""

from collections import Counter

import numpy as np
import pytest

from compiler.array import energy
from compiler.backend.build import generate
from compiler.policy import Policy
from hw.arch.config import AcceleratorConfig
from sim.energy.actions import count_actions
from sim.energy.table import TWB_BLOCKS, EnergyTable
from tests.compiler.backend.harness import convolution, kind, network

CONFIG = AcceleratorConfig.load("base")
TABLE = EnergyTable.load("asic_45nm")


def built(asked: str, objective: str = "cycles"):
    source = kind((64, 4, 14, 14))
    op, result = convolution(
        np.random.default_rng(0), source, 64, (3, 3, 3), pad_begin=(1,) * 3, pad_end=(1,) * 3
    )
    graph = network({"x": source}, [op], {"y": result})
    return generate(graph, CONFIG, policy=Policy(asked, objective))


def counted(program) -> float:
    """Microjoules of a program's actions."""
    actions: Counter = Counter()
    for instruction in program.instructions:
        actions += count_actions(instruction, CONFIG)
    return 1e6 * sum(TABLE.joules(actions, CONFIG).values())


def test_prices_are_those_of_the_sourced_table():
    for key in ("multiply_8x8_pj", "add_bit_pj", "sram_pj", "sram_bits", "sram_bytes"):
        assert getattr(energy, key.upper()) == TABLE.values[key]
    for key in ("sram_exponent", "dram_bit_pj", "leakage_bit_pw", "clock_hz"):
        assert getattr(energy, key.upper()) == TABLE.values[key]
    assert energy.TWB_BLOCKS == TWB_BLOCKS


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("off", "direct"),
        ("F(2x2,3x3)", "F(2×2,3×3)"),
        ("F(4x4,3x3)", "F(4×4,3×3)"),
        ("F(2,3)xF(4x4,3x3)", "F(2,3)⊗F(4×4,3×3)"),
    ],
)
def test_an_estimate_is_near_what_is_counted(asked, name):
    estimates = built("auto").layers[0].tiling["hfa"]["candidates"]
    total = counted(built(asked))
    assert 0.88 * total <= estimates[name]["energy_uj"] <= 1.05 * total


def test_the_objective_saves_energy():
    fast, frugal = built("auto"), built("auto", "energy")
    assert counted(frugal) < counted(fast)
    ways = [p.layers[0].tiling["hfa"]["chosen"] for p in (fast, frugal)]
    assert ways[0] != ways[1]

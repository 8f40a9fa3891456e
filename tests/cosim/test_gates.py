"""The netlist after synthesis for an ECP5 runs programs as the models say: values, times, counters.

Every instruction is in them. The cells behave as Yosys' library says, block RAMs and multipliers as
the vendor does (test_blocks.py).
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest

from hw.arch.isa import CLASSES
from hw.arch.program import Program
from hw.boards.gates import gate_level
from hw.synthesis import CACHE
from sim.backend import Options
from sim.cosim.backend import RtlBackend
from sim.cosim.rtl import TOP
from sim.cycle.backend import CycleBackend
from tests.ladder.compare import differences
from tests.ladder.control import branching, looped
from tests.ladder.programs import RandomProgram
from tests.machines import folding

pytestmark = [pytest.mark.cosim, pytest.mark.slow]

SMALL = folding("tiny_direct", weight_bits=9)
SMALL = dataclasses.replace(
    SMALL, name="small", lanes=dataclasses.replace(SMALL.lanes, vector=2, requantize=2)
)
"""Every instruction in as few gates as there are; what only `hfa` adds are modes of two of them."""
PROGRAMS = {
    "loops": lambda: looped(SMALL, trips=9),
    **{f"branches {seed}": lambda seed=seed: branching(SMALL, seed) for seed in range(4)},
    **{
        f"random {seed}": lambda seed=seed: RandomProgram(SMALL, seed).build() for seed in range(10)
    },
    "long": lambda: RandomProgram(SMALL, 1000, steps=300).build(),
}


def found(program: Program, circuit: Path) -> list[str]:
    """Differences between a circuit and the models."""
    memory = program.memory()
    rtl = RtlBackend(max_cycles=1_000_000, verilog=circuit).run(program, SMALL, memory, Options())
    model = CycleBackend().run(program, SMALL, memory, Options())
    return differences(rtl, model)


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The netlist of `SMALL`."""
    folder = tmp_path_factory.mktemp("gates")
    path = folder / "top.v"
    path.write_text(gate_level(SMALL, folder / "synthesis", CACHE, TOP))
    return path


def test_every_instruction_is_in_the_programs() -> None:
    kinds = {type(i) for make in PROGRAMS.values() for i in make().instructions}
    assert kinds == set(CLASSES.values())


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_run_as_the_model_says(name: str, circuit: Path) -> None:
    assert found(PROGRAMS[name](), circuit) == []


def test_cells_of_every_kind_are_in_the_netlist(circuit: Path) -> None:
    text = circuit.read_text()
    assert text.count(" = 16'h") > 10_000 and text.count("always @(posedge") > 10_000
    kinds = Counter(re.findall(r"^  (CCU2C|TRELLIS_DPR16X4|DP16KD|MULT18X18D) #", text, re.M))
    assert min(kinds.values()) > 10 and len(kinds) == 4


def with_a_table_changed(text: str, port: str) -> str:
    """The netlist with the nearest table behind an output of the core inverted."""
    (net,) = re.findall(rf"assign {re.escape(port)} = (n\d+);", text)
    while True:
        table = re.search(rf"assign {net} = 16'h([0-9a-f]{{4}}) >>", text)
        if table:
            value = int(table[1], 16) ^ 0xFFFF
            return f"{text[: table.start(1)]}{value:04x}{text[table.end(1) :]}"
        before = re.search(rf"(?:\b{net} <=|assign {net} = n\d+ \?) (n\d+)", text)
        assert before is not None, net
        net = before[1]


def test_twin_a_table_changed_is_found(circuit: Path, tmp_path: Path) -> None:
    path = tmp_path / "top.v"
    path.write_text(with_a_table_changed(circuit.read_text(), "m_axi_wdata[0]"))
    differ = found(PROGRAMS["loops"](), path)
    assert any("bytes of DRAM differ" in line for line in differ)

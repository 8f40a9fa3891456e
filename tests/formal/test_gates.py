# amaranth: UnusedElaboratable=no
"""Units after synthesis, as Verilog that simulates, compute what they did before: proofs.

tests/cosim/test_gates.py runs a whole core after synthesis.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.boards.gates import netlist
from hw.boards.mapping import map_netlist
from hw.common.agu import Walker
from tests.formal.test_export import differ_from

pytestmark = pytest.mark.formal


class Few(wiring.Component):
    """A counter with enable and reset, carries, wide choices, and a memory of tables."""

    def __init__(self):
        ports = {"go": In(1), "wipe": In(1), "step": In(8), "at": In(4), "o": Out(8), "s": Out(1)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(9, init=0x155)
        with m.If(self.wipe):
            m.d.sync += count.eq(0x0F0)
        with m.Elif(self.go):
            m.d.sync += count.eq(count + self.step)
        m.submodules.rows = rows = memory.Memory(
            shape=4, depth=16, init=[], attrs={"ram_style": "distributed"}
        )
        write, read = rows.write_port(), rows.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(count),
            write.data.eq(self.step),
            write.en.eq(self.go),
            read.addr.eq(self.at),
            self.o.eq((count[1:] ^ self.step) + read.data),
            self.s.eq(count.bit_select(self.at[:3], 1)),
        ]
        return m


UNITS = {"few": Few, "walker": lambda: Walker(3, 16)}


def synthesised(unit: str, folder: Path) -> str:
    text = rtlil.convert(UNITS[unit](), name="unit", emit_src=False)
    map_netlist(text, "unit", folder / "out", folder / "cache", is_unit=lambda name: False)
    return netlist(folder / "out", "unit", "gate")


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_the_same_after_synthesis(unit, tmp_path):
    assert not differ_from(UNITS[unit](), synthesised(unit, tmp_path), tmp_path)


@pytest.mark.parametrize(
    "old, new",
    [
        (r"16'h([0-9a-f]{3})([0-9a-f]) >>", None),
        (r"initial (n\d+) = 1'b1", r"initial \1 = 1'b0"),
        (r"\? (n\d+) : (n\d+);", r"? \2 : \1;"),
    ],
    ids=["table", "start", "multiplexer"],
)
def test_twin_a_cell_changed_is_found(old, new, tmp_path):
    text = synthesised("few", tmp_path)
    change = new or (lambda match: f"16'h{match[1]}{int(match[2], 16) ^ 15:x} >>")
    wrong = re.sub(old, change, text, count=1)
    assert wrong != text
    assert differ_from(Few(), wrong, tmp_path)

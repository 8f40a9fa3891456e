# amaranth: UnusedElaboratable=no
"""The exported Verilog computes what Amaranth's netlist does, of runs of every length.

Yosys reads the text back; both circuits get the same inputs, and ABC proves that their outputs
never differ. Memories and registers begin with their initial values on both sides.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.boards.mapping import run_yosys
from hw.common.agu import Walker
from hw.control.supervisor import Supervisor
from hw.export import readable_verilog
from tests.formal.engine import ABC

pytestmark = pytest.mark.formal

BOTH = """
read_rtlil gold.il
hierarchy -top gold
proc
flatten
rename -top gold
design -stash one
read_verilog gate.v
hierarchy -top gate
proc
flatten
rename -top gate
design -stash other
design -copy-from one gold
design -copy-from other gate
miter -equiv -flatten -make_outputs gold gate miter
hierarchy -top miter
delete gold gate
memory
opt -full
setundef -undriven -zero
setundef -zero -init
techmap
simplemap
dfflegalize -cell $_DFF_P_ 0 -mince 1000000 -minsrst 1000000
opt_clean
aigmap
delete -output miter/gold_* miter/gate_*
opt_clean -purge
write_aiger -zinit miter.aig
"""


PORTS = {
    "a": In(7),
    "b": In(signed(5)),
    "c": In(signed(9)),
    "begin": In(1),
    "pair": In(unsigned(12)),
    "result": Out(24),
    "wire": Out(signed(18)),
    "truths": Out(24),
    "table": Out(8),
    "kept": Out(16),
}


class Operators(wiring.Component):
    """Every operator that hw/ has, at widths and signs that do not fit each other."""

    def __init__(self):
        super().__init__(PORTS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a, b, c = self.a, self.b, self.c
        final, chosen = Signal(signed(11), init=-3), Signal(12)
        m.d.comb += self.result.eq(Cat((a + b)[:9], (b - c)[:8], (a[:3] * b)[1:8]))
        m.d.comb += self.wire.eq(
            (c[:4].as_signed() * b[:3].as_signed()) + (-c) - (a << b[:2]) + (c >> a[:3]) + final
        )
        m.d.comb += self.truths.eq(
            Cat(
                a == b, a != c, b < c, b <= c, b > a, a >= c, a.all(), c.any(), a.xor(), ~a.any(),
                a.bool() & ~b.bool(), (a & b) == 3, (a | c) != 5, (a ^ b)[4],
                a.bit_select(b[:3], 1), self.pair.word_select(a[:2], 3),
                Mux(c[0], a[1], b[2]), (~c)[3:6],
            )
        )  # fmt: skip
        with m.Switch(a[:4]):
            with m.Case(0, 3):
                m.d.comb += chosen.eq(self.pair)
            with m.Case("1--0"):
                m.d.comb += chosen.eq(c)
            with m.Case(7):
                m.d.comb += chosen.eq(final[:5].as_signed())
            with m.Default():
                m.d.comb += chosen.eq(~a)
        with m.If(self.begin):
            m.d.sync += final.eq(final + b)
        with m.Elif(a[0]):
            m.d.sync += final.eq(0)
        held = Signal(unsigned(6), init=0x2A, reset_less=True)
        m.d.sync += held[2:].eq(chosen)
        with m.If(self.pair[3]):
            m.d.sync += held[:2].eq(a)
        m.d.comb += self.table.eq(Array([held, a, b, chosen[:8]])[self.pair[:2]])
        m.submodules.rows = rows = memory.Memory(shape=8, depth=4, init=[1, 0, 255, 7])
        write, read = rows.write_port(granularity=4), rows.read_port()
        direct = rows.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(self.pair),
            write.data.eq(chosen),
            write.en.eq(c),
            read.addr.eq(a),
            read.en.eq(self.begin),
            direct.addr.eq(b),
            self.kept.eq(Cat(read.data, direct.data)),
        ]
        return m


class Zoo(wiring.Component):
    """The same below ports whose names are no keywords."""

    def __init__(self):
        super().__init__({f"{name}_port": member for name, member in PORTS.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.operators = operators = Operators()
        for name, member in PORTS.items():
            inner, outer = getattr(operators, name), getattr(self, f"{name}_port")
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        return m


UNITS = {
    "zoo": Zoo,
    "walker": lambda: Walker(3, 16),
    "supervisor": Supervisor,
}


def exported(unit: str) -> str:
    return "\n".join(readable_verilog(UNITS[unit](), "gate").values())


def differ(unit: str, text: str, folder: Path) -> bool:
    """Whether the outputs of a unit and of its exported text ever differ."""
    return differ_from(UNITS[unit](), text, folder)


def differ_from(component: wiring.Component, text: str, folder: Path) -> bool:
    """Whether the outputs of a component and of Verilog with a module `gate` ever differ."""
    (folder / "gold.il").write_text(rtlil.convert(component, name="gold", emit_src=False))
    (folder / "gate.v").write_text(text)
    run_yosys(BOTH, folder, "miter")
    script = "read_aiger miter.aig; strash; fraig; scorr; write_aiger left.aig; pdr -T 120"
    said = subprocess.run(
        [str(ABC), "-c", script], cwd=folder, capture_output=True, text=True
    ).stdout
    head, output = (folder / "left.aig").read_bytes().split(b"\n")[:2]
    latches, outputs, gates = head.split()[3:6]
    assert outputs == b"1"
    # What is left of equal circuits may be a constant, which `pdr` calls undecided.
    if "Property proved" in said or (latches, gates, output) == (b"0", b"0", b"0"):
        return False
    assert "was asserted in frame" in said, said[-400:]
    return True


@pytest.mark.parametrize("unit", UNITS)
def test_the_text_computes_the_same(unit, tmp_path):
    assert not differ(unit, exported(unit), tmp_path)


TWINS = [
    (r"\$signed\((.*?)\) <", r"\1 <"),
    (r" \+ ", " - "),
    (r"if \(rst\)", "if (~rst)"),
    (r"initial (\w+) = 11'h7fd", r"initial \1 = 11'h7fc"),
    (r"rows\[2\] = 8'd255", "rows[2] = 8'd254"),
]


@pytest.mark.parametrize("old, new", TWINS)
def test_a_wrong_text_is_found(old, new, tmp_path):
    text = exported("zoo")
    wrong = re.sub(old, new, text, count=1)
    assert wrong != text
    assert differ("zoo", wrong, tmp_path)

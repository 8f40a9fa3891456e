"""A small circuit through Yosys: units are kept, multipliers keep their registers."""

import json

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, ResetInserter, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.boards.mapping import SynthesisError, map_netlist
from hw.compute.parts.product import Product

pytestmark = pytest.mark.rtl


class Inner(wiring.Component):
    a: In(signed(9))
    b: In(signed(9))
    clear: In(1)
    o: Out(signed(18))

    def elaborate(self, platform):
        m = Module()
        product = Product(9, 9)
        m.submodules.product0 = ResetInserter(self.clear)(product)
        m.d.comb += [product.a.eq(self.a), product.b.eq(self.b), product.load.eq(1)]
        m.d.sync += self.o.eq(product.product)
        return m


class Outer(wiring.Component):
    a: In(signed(9))
    clear: In(1)
    o: Out(signed(18))

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Inner()
        twice = Signal(signed(9))
        m.d.sync += twice.eq(self.a << 1)
        m.d.comb += [inner.a.eq(self.a), inner.b.eq(twice), inner.clear.eq(self.clear)]
        m.d.comb += self.o.eq(inner.o)
        return m


def run(tmp_path, operands):
    map_netlist(
        rtlil.convert(Outer(), name="outer", emit_src=False),
        "outer",
        tmp_path / "out",
        tmp_path / "cache",
        is_unit=lambda name: name == "outer.inner",
        operands=operands,
    )
    netlist = json.loads((tmp_path / "out/design.json").read_text())
    return netlist["modules"]["outer"]["cells"]


def test_blocks_registers_and_cache(tmp_path):
    cells = run(tmp_path, (9, 9))
    (block,) = [cell for cell in cells.values() if cell["type"] == "MULT18X18D"]
    assert block["parameters"]["REG_OUTPUT_CLK"] == "CLK0"
    # `twice` (without its constant bit) and `o`: none for the multiplier's own registers.
    assert sum(cell["type"] == "TRELLIS_FF" for cell in cells.values()) == 8 + 18
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*/unit.mapped.il")}
    assert len(kept) == 2
    run(tmp_path, (9, 9))
    assert kept == {p: p.stat().st_mtime_ns for p in tmp_path.glob("cache/*/unit.mapped.il")}


def test_operands_of_another_width_are_an_error(tmp_path):
    """They would be cut without a word."""
    with pytest.raises(SynthesisError, match=r"multiplies \(9, 9\) bits, not \(8, 8\)"):
        run(tmp_path, (8, 8))

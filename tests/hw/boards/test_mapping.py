"""A small circuit through Yosys: units are kept, multipliers keep their registers."""

import collections
import json

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, ResetInserter, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.boards.mapping import SynthesisError, map_netlist
from hw.common.ports import NO_COLLISION
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


def run(tmp_path, operands, outer=False):
    map_netlist(
        rtlil.convert(Outer(), name="outer", emit_src=False),
        "outer",
        tmp_path / "out",
        tmp_path / "cache",
        is_unit=lambda name: name == "outer.inner",
        operands=operands,
        outer=outer,
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


@pytest.mark.parametrize("outer", [False, True])
def test_abc9_maps_the_outer_module_too_where_it_is_asked_to(tmp_path, outer):
    """And leaves the unit inside whole."""
    cells = run(tmp_path, (9, 9), outer)
    kinds = collections.Counter(cell["type"] for cell in cells.values())
    assert (kinds["MULT18X18D"], kinds["TRELLIS_FF"]) == (1, 8 + 18)
    logs = [path.read_text() for path in tmp_path.glob("cache/*/unit.log")]
    assert sum("Executing ABC9 pass" in log for log in logs) == 1 + outer
    assert sum("Executing ABC pass" in log for log in logs) == 1 - outer


def test_operands_of_another_width_are_an_error(tmp_path):
    """They would be cut without a word."""
    with pytest.raises(SynthesisError, match=r"multiplies \(9, 9\) bits, not \(8, 8\)"):
        run(tmp_path, (8, 8))


class Stored(wiring.Component):
    """A block RAM of 512 rows."""

    def __init__(self, attributes, *, transparent=False):
        self._attributes, self._transparent = attributes, transparent
        ports = {"write": In(1), "to": In(9), "data": In(36), "at": In(9), "o": Out(36)}
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        rows = Memory(shape=36, depth=512, init=[], attrs=self._attributes)
        m.submodules.rows = rows
        port = rows.write_port()
        read = rows.read_port(transparent_for=(port,) if self._transparent else ())
        m.d.comb += [port.en.eq(self.write), port.addr.eq(self.to), port.data.eq(self.data)]
        m.d.comb += [read.addr.eq(self.at), read.en.eq(1), self.o.eq(read.data)]
        return m


def kinds(tmp_path, circuit):
    """Cells of a mapped circuit by type."""
    text = rtlil.convert(circuit, name="stored", emit_src=False)
    folders = tmp_path / "out", tmp_path / "cache"
    map_netlist(text, "stored", *folders, is_unit=lambda name: False)
    cells = json.loads((tmp_path / "out/design.json").read_text())["modules"]["stored"]["cells"]
    return collections.Counter(cell["type"] for cell in cells.values())


def test_a_memory_without_collisions_is_a_block_and_nothing_else(tmp_path):
    assert kinds(tmp_path / "a", Stored(NO_COLLISION)) == {"DP16KD": 1}
    other = kinds(tmp_path / "b", Stored({}))
    assert other["DP16KD"] == 1 and other["TRELLIS_FF"] > 36


def test_a_transparent_port_of_a_memory_without_collisions_is_refused(tmp_path):
    with pytest.raises(SynthesisError, match="no_rw_check and has a transparent read port"):
        kinds(tmp_path, Stored(NO_COLLISION, transparent=True))

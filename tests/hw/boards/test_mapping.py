"""A small circuit through Yosys: units are kept, multipliers keep their registers."""

import collections
import json

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, ResetInserter, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.boards.mapping import SynthesisError, count_units, map_netlist
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


class Lanes(wiring.Component):
    """Two units that are alike, and one of another kind."""

    a: In(signed(9))
    b: In(signed(9))
    clear: In(1)
    o: Out(signed(19))

    def elaborate(self, platform):
        m = Module()
        outputs = []
        for name in ("lane0", "lane1", "other"):
            m.submodules[name] = part = Outer() if name == "other" else Inner()
            m.d.comb += [part.a.eq(self.a), part.clear.eq(self.clear)]
            if name != "other":
                m.d.comb += part.b.eq(self.b)
            outputs.append(part.o)
        m.d.comb += self.o.eq(outputs[0] + outputs[1] - outputs[2])
        return m


def test_units_that_are_alike_are_counted_by_one(tmp_path):
    """As many cells as in the linked netlist, from two mapped units for four, and the top."""
    text = rtlil.convert(Lanes(), name="lanes", emit_src=False)

    def is_unit(name):
        return name.count(".") == 1

    counts = count_units(text, "lanes", tmp_path / "few", is_unit=is_unit, operands=(9, 9))
    assert sorted(counts) == ["lanes", "lanes.lane0", "lanes.lane1", "lanes.other"]
    assert counts["lanes.lane0"] == counts["lanes.lane1"] != counts["lanes.other"]
    assert len(list(tmp_path.glob("few/*"))) == 3
    folders = tmp_path / "out", tmp_path / "all"
    map_netlist(text, "lanes", *folders, is_unit=is_unit, operands=(9, 9))
    assert len(list(tmp_path.glob("all/*"))) == 4
    cells = json.loads((tmp_path / "out/design.json").read_text())["modules"]["lanes"]["cells"]
    linked = collections.Counter(cell["type"] for cell in cells.values())
    del linked["$scopeinfo"]  # names for people
    assert linked == sum(map(collections.Counter, counts.values()), collections.Counter())
    assert linked["MULT18X18D"] == 3


def test_a_unit_without_products_is_kept_for_other_operands(tmp_path):
    """A change of the multipliers' width maps their unit anew, and no other one."""

    class Mixed(wiring.Component):
        a: In(signed(9))
        b: In(signed(9))
        o: Out(signed(18))

        def __init__(self, bits):
            self._bits = bits
            super().__init__()

        def elaborate(self, platform):
            m = Module()
            m.submodules.product0 = product = Product(self._bits, self._bits)
            m.submodules.plain = plain = Plain()
            m.d.comb += [product.a.eq(self.a), product.b.eq(self.b), product.load.eq(1)]
            m.d.comb += [plain.a.eq(self.a), self.o.eq(product.product + plain.o)]
            return m

    for bits in (9, 8):
        map_netlist(
            rtlil.convert(Mixed(bits), name="mixed", emit_src=False),
            "mixed",
            *(tmp_path / f"out{bits}", tmp_path / "cache"),
            is_unit=lambda name: name.endswith("plain"),
            operands=(bits, bits),
        )
    assert len(list(tmp_path.glob("cache/*"))) == 3


class Plain(wiring.Component):
    a: In(signed(9))
    o: Out(signed(9))

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.o ^ self.a)
        return m


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

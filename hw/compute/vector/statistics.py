"""What the vector unit keeps of groups between a collecting pass and the applying one."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.instructions.fold import STATISTICS
from hw.compute.vector.element import GROUP_SUM_BITS
from hw.compute.vector.reciprocal import RECIPROCAL_BITS, SHIFT_BITS, SUM_BITS

__all__ = ["APPLY_LATENCY", "Statistics"]

ENTRY_BITS = exact_log2(STATISTICS)
APPLY_LATENCY = 1
"""Cycles from an entry's turn to its sum; its reciprocal comes a cycle after that."""


class Statistics(wiring.Component):
    """64 entries of 50 bits: a sum of elements, and a sum of terms or its reciprocal and shift.

    Rules
    -----
    1. `begin` makes `entry` the next one, to be read and to be written.
    2. Collecting: `add` adds sums to the next entry (`first`: to zero), a cycle later they are
       written, or with `last` offered to the engine (`start`). What the engine found is written
       over the sum of terms when it is `done`.
    3. Applying: `following` moves on to the next entry, `again` back to the first one.

    Latency: `minus_sum` APPLY_LATENCY cycles after its entry's turn has come; `reciprocal` and
    `shift` one more, `shift` two cycles later again, as the affine pipeline wants them.

    Members
    -------
    begin, entry: rule 1; `entry` stable.
    add, first, last, total, elements_total: rule 2; `first` and `last` stable.
    start, group_total, group_sum: to the engine.
    found, reciprocal_found, shift_found, sum_found: from the engine.
    following, again: rule 3, strobes; `again` wins.
    applies, fixed, fixed_shift: stable; what `reciprocal` and `shift` are where nothing is applied.
    minus_sum, reciprocal, shift: of the entry.

    Tested range: tests/hw/compute/vector/test_statistics.py.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "begin": In(1),
                "entry": In(ENTRY_BITS),
                "add": In(1),
                "first": In(1),
                "last": In(1),
                "total": In(SUM_BITS),
                "elements_total": In(signed(GROUP_SUM_BITS)),
                "start": Out(1),
                "group_total": Out(SUM_BITS),
                "group_sum": Out(signed(GROUP_SUM_BITS)),
                "found": In(1),
                "reciprocal_found": In(RECIPROCAL_BITS),
                "shift_found": In(SHIFT_BITS),
                "sum_found": In(signed(GROUP_SUM_BITS)),
                "following": In(1),
                "again": In(1),
                "applies": In(1),
                "fixed": In(RECIPROCAL_BITS),
                "fixed_shift": In(SHIFT_BITS),
                "minus_sum": Out(signed(GROUP_SUM_BITS)),
                "reciprocal": Out(RECIPROCAL_BITS),
                "shift": Out(SHIFT_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.entries = entries = memory.Memory(
            shape=SUM_BITS + GROUP_SUM_BITS,
            depth=STATISTICS,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        read = entries.read_port(domain="comb")
        reading = Signal(ENTRY_BITS, reset_less=True)
        m.d.comb += read.addr.eq(reading)
        with m.If(self.begin | self.again):
            m.d.sync += reading.eq(self.entry)
        with m.Elif(self.following | self.add):
            m.d.sync += reading.eq(reading + 1)
        stored = read.data[:SUM_BITS], read.data[SUM_BITS:].as_signed()
        self._collect(m, entries.write_port(), *stored)
        self._apply(m, *stored)
        return m

    def _collect(self, m: Module, write: Any, stored_total: Value, stored_sum: Value) -> None:
        """Rule 2."""
        writing = Signal(ENTRY_BITS, reset_less=True)
        total = Signal(SUM_BITS, name="added_total", reset_less=True)
        group_sum = Signal(signed(GROUP_SUM_BITS), name="added_sum", reset_less=True)
        added = Signal()
        m.d.sync += [
            added.eq(self.add),
            total.eq(Mux(self.first, 0, stored_total) + self.total),
            group_sum.eq(Mux(self.first, 0, stored_sum) + self.elements_total),
        ]
        writes = self.found | (added & ~self.last)
        m.d.comb += [
            self.start.eq(added & self.last),
            self.group_total.eq(total),
            self.group_sum.eq(group_sum),
            write.en.eq(writes),
            write.addr.eq(writing),
            write.data.eq(
                Mux(
                    self.last,
                    Cat(
                        self.reciprocal_found,
                        self.shift_found,
                        C(0, SUM_BITS - RECIPROCAL_BITS - SHIFT_BITS),
                        self.sum_found,
                    ),
                    Cat(total, group_sum),
                )
            ),
        ]
        with m.If(self.begin):
            m.d.sync += writing.eq(self.entry)
        with m.Elif(writes):
            m.d.sync += writing.eq(writing + 1)

    def _apply(self, m: Module, stored_total: Value, stored_sum: Value) -> None:
        """The entry whose turn it is, as lanes and affine pipelines want it."""
        found = Signal(RECIPROCAL_BITS + SHIFT_BITS, reset_less=True)
        shifts = [Signal(SHIFT_BITS, name=f"shift{k}", reset_less=True) for k in range(2)]
        minus_sum = Signal(signed(GROUP_SUM_BITS), name="minus_sum_register", reset_less=True)
        reciprocal = Signal(RECIPROCAL_BITS, name="reciprocal_register", reset_less=True)
        shift = Signal(SHIFT_BITS, name="shift_register", reset_less=True)
        m.d.sync += [
            minus_sum.eq(-stored_sum),
            found.eq(stored_total[: len(found)]),
            reciprocal.eq(Mux(self.applies, found[:RECIPROCAL_BITS], self.fixed)),
            shifts[0].eq(found[RECIPROCAL_BITS:]),
            shifts[1].eq(shifts[0]),
            shift.eq(Mux(self.applies, shifts[1], self.fixed_shift)),
        ]
        m.d.comb += [
            self.minus_sum.eq(minus_sum),
            self.reciprocal.eq(reciprocal),
            self.shift.eq(shift),
        ]

"""Walk the run nest of a transfer and split its runs into AXI4 bursts."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import PortConfig
from hw.arch.isa import LOCAL_BITS, ErrorCode, Unit
from hw.common.layouts import unit_layout

__all__ = ["LOCAL_WIDTH", "PAGE_BYTES", "BurstWalker", "burst_layout"]

PAGE_BYTES = 4096
"""AXI4 bursts do not cross a multiple of this."""

LOCAL_WIDTH = LOCAL_BITS + 1
"""Local addresses carry one bit more than the ISA, so that overrunning the space shows."""


def burst_layout() -> data.StructLayout:
    """One burst: DRAM address, beats − 1, where it lies on chip, and whether it ends a transfer."""
    return data.StructLayout(
        {"address": 32, "length": 8, "space": 2, "local": LOCAL_WIDTH, "last": 1}
    )


class BurstWalker(wiring.Component):
    """Turn LOAD or STORE instructions into bursts, one per cycle.

    Rules
    -----
    1. An instruction is accepted in a cycle in which the walker holds none.
    2. In every cycle in which it holds one and the output register is empty or being emptied, the
       next burst enters the output register: min(beats left in the run, `max_burst`, beats up to
       the next 4 KiB boundary) beats. So the first burst is valid two cycles after acceptance
       (`timing.LOAD_ASK`).
    3. With the last burst of the last run the walker is free again in the next cycle.
    4. A run that does not start on a beat gives `error` ADDRESS instead of its burst; the walker
       then drops the instruction.

    Handshake: streams; `o` holds its payload until taken.

    Parameters
    ----------
    unit: Unit.LOAD or Unit.STORE.
    port: the memory port.

    Members
    -------
    i: In(stream) of `unit_layout(unit)`.
    o: Out(stream) of `burst_layout`.
    error: ErrorCode, not zero for one cycle.
    active: Out, an instruction or a burst is inside.
    """

    def __init__(self, unit: Unit, port: PortConfig):
        self._unit = unit
        self._port = port
        super().__init__(
            {
                "i": In(stream.Signature(unit_layout(unit))),
                "o": Out(stream.Signature(burst_layout())),
                "error": Out(6),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal()
        nest = Signal(unit_layout(self._unit))
        trips = Signal.like(nest.counts)
        run = Signal(_point_layout())  # where the present run starts
        here = Signal(_point_layout())  # where the next burst starts
        left = Signal(16)
        m.d.comb += [self.i.ready.eq(~held), self.active.eq(held | self.o.valid)]

        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                held.eq(1),
                nest.eq(self.i.payload),
                run.dram.eq(self.i.payload.dram),
                run.local.eq(self.i.payload.local),
                here.dram.eq(self.i.payload.dram),
                here.local.eq(self.i.payload.local),
                left.eq(self.i.payload.beats),
            ]
            m.d.sync += [trips[k].eq(self.i.payload.counts[k] - 1) for k in range(3)]

        beats = self._burst_beats(m, here.dram, left)
        run_ends = Signal()
        last_run = Signal()
        misaligned = here.dram[: exact_log2(self._port.bytes)].any()
        m.d.comb += [
            run_ends.eq(left == beats),
            last_run.eq(~Cat(trip.any() for trip in trips).any()),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(held & misaligned):
            m.d.comb += self.error.eq(ErrorCode.ADDRESS)
            m.d.sync += held.eq(0)
        with m.Elif(held & (~self.o.valid | self.o.ready)):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.payload.address.eq(here.dram),
                self.o.payload.length.eq(beats - 1),
                self.o.payload.space.eq(self._space(nest)),
                self.o.payload.local.eq(here.local),
                self.o.payload.last.eq(run_ends & last_run),
            ]
            with m.If(~run_ends):
                m.d.sync += [
                    here.dram.eq(here.dram + beats * self._port.bytes),
                    here.local.eq(here.local + beats),
                    left.eq(left - beats),
                ]
            with m.Else():
                m.d.sync += [held.eq(~last_run), left.eq(nest.beats)]
                self._next_run(m, nest, trips, run, here)
        return m

    def _space(self, nest: data.View) -> Value:
        return nest.space if self._unit is Unit.LOAD else Const(0, 2)

    def _burst_beats(self, m: Module, dram: Value, left: Signal) -> Signal:
        """Beats of the next burst."""
        page_beats = PAGE_BYTES // self._port.bytes
        index = dram[exact_log2(self._port.bytes) : exact_log2(PAGE_BYTES)]
        to_page = Signal(range(page_beats + 1))
        limit = Signal(range(self._port.max_burst + 1))
        beats = Signal(range(self._port.max_burst + 1))
        m.d.comb += [
            to_page.eq(page_beats - index),
            limit.eq(Mux(to_page < self._port.max_burst, to_page, self._port.max_burst)),
            beats.eq(Mux(left < limit, left, limit)),
        ]
        return beats

    def _next_run(
        self, m: Module, nest: data.View, trips: data.View, run: data.View, here: data.View
    ) -> None:
        """Advance the innermost counter that has trips left; restart those inside it.

        Delta form: the delta of the counter that advances is added to the start of the run.
        """
        for k in range(3):
            with m.If(trips[k].any()) if k == 0 else m.Elif(trips[k].any()):
                dram = run.dram + nest.dram_deltas[k]
                local = run.local + nest.local_deltas[k]
                m.d.sync += [
                    trips[k].eq(trips[k] - 1),
                    run.dram.eq(dram),
                    run.local.eq(local),
                    here.dram.eq(dram),
                    here.local.eq(local),
                ]
                m.d.sync += [trips[j].eq(nest.counts[j] - 1) for j in range(k)]


def _point_layout() -> data.StructLayout:
    return data.StructLayout({"dram": 32, "local": LOCAL_WIDTH})

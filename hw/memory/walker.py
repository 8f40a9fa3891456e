"""Walk the run nest of a transfer and split its runs into AXI4 bursts."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import PortConfig
from hw.arch.isa import LOCAL_BITS, ErrorCode, Unit
from hw.common.agu import COUNT_BITS, Nest
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
    """Turn LOAD or STORE instructions into bursts, one per cycle, and runs, one per two cycles.

    Rules
    -----
    1. An instruction is accepted in a cycle in which the walker has no run left to begin.
    2. The first run is there two cycles later, and each following one two cycles after the one
       before it was begun (`timing.RUN_INTERVAL`). In every cycle in which the output register is
       empty or being emptied, the next burst of its run enters it, or the first burst of the next
       run if that is there: min(beats left in the run, `max_burst`, beats up to the next 4 KiB
       boundary) beats. So the first burst is valid three cycles after acceptance
       (`timing.LOAD_ASK`).
    3. With the first burst of the last run the walker is free again in the next cycle.
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
        self._beat_bits = exact_log2(port.bytes)
        # No burst is longer than a page.
        self._burst_bits = min(exact_log2(port.max_burst), exact_log2(PAGE_BYTES) - self._beat_bits)
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
        # A run to begin: where it starts, its beats - 1, and whether it is the last one.
        run = Signal(_point_layout(), reset_less=True)
        beats = Signal(16, reset_less=True)
        last_run = Signal()
        there, begun = Signal(), Signal()

        # The burst in the output register ends its run; if not, `left` + 1 beats follow it.
        ends, final = Signal(reset_less=True), Signal(reset_less=True)
        left = Signal(16, reset_less=True)
        burst = self.o.payload
        fresh, moves = Signal(), Signal()
        m.d.comb += [
            fresh.eq(~self.o.valid | ends),
            moves.eq((self.o.ready | ~self.o.valid) & (~fresh | there)),
            begun.eq((self.o.ready | ~self.o.valid) & (fresh & there)),
        ]
        self._runs(m, run, beats, last_run, there, begun)

        follower, back = self._follower(m, burst.address)
        _, first_back = self._near(run.dram)
        source = Mux(fresh, beats, left)
        short = Mux(fresh, first_back, back)
        # Beats left - 1 - (max_burst - short); the upper bits are those of -max_burst.
        rest = Signal(signed(17))
        m.d.comb += rest.eq((source + Cat(short, C(-1, 17 - self._burst_bits)))[:17].as_signed())
        closes = rest < 0
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(moves):
            m.d.sync += [
                self.o.valid.eq(1),
                burst.address.eq(Mux(fresh, run.dram, follower)),
                burst.local.eq(Mux(fresh, run.local, burst.local + burst.length + 1)),
                burst.length.eq(Mux(closes, source, (~short)[: self._burst_bits])),
                burst.last.eq(closes & Mux(fresh, last_run, final)),
                final.eq(Mux(fresh, last_run, final)),
                ends.eq(closes),
                left.eq(rest),
            ]
        return m

    def _runs(
        self,
        m: Module,
        run: data.View,
        beats: Signal,
        last_run: Signal,
        there: Signal,
        begun: Signal,
    ) -> None:
        """Rules 1, 3 and 4: the instruction, its nest, and the run that comes next.

        `begun` comes late, from the memory port; so the next run is formed in the cycle behind it.
        """
        held, begin, pending, advancing = Signal(), Signal(), Signal(), Signal()
        misaligned = Signal()
        fields = Signal(unit_layout(self._unit), reset_less=True)
        m.submodules.nest = nest = Nest((COUNT_BITS,) * 3)
        m.d.comb += [
            self.i.ready.eq(~held),
            self.active.eq(held | self.o.valid),
            nest.load.eq(begin),
            nest.step.eq(advancing),
            last_run.eq(nest.last),
            misaligned.eq(pending & ~advancing & run.dram[: self._beat_bits].any()),
            there.eq(pending & ~advancing & ~run.dram[: self._beat_bits].any()),
        ]
        m.d.sync += advancing.eq(begun)
        m.d.comb += [port.eq(fields.counts[k]) for k, port in enumerate(nest.counts)]
        m.d.sync += begin.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [held.eq(1), begin.eq(1), fields.eq(self.i.payload)]
        dram, local = C(0, 32), C(0, LOCAL_WIDTH)
        for k in range(3):
            dram = dram | Mux(nest.advance[k], fields.dram_deltas[k], 0)
            local = local | Mux(nest.advance[k], fields.local_deltas[k], 0)
        with m.If(begin):
            m.d.sync += [
                pending.eq(1),
                beats.eq(fields.beats - 1),
                run.dram.eq(fields.dram),
                run.local.eq(fields.local),
            ]
        with m.If(advancing):
            m.d.sync += [
                run.dram.eq(run.dram + dram[:32]),
                run.local.eq(run.local + local[:LOCAL_WIDTH]),
            ]
        if self._unit is Unit.LOAD:
            with m.If(begun):
                m.d.sync += self.o.payload.space.eq(fields.space)
        with m.If(misaligned):
            m.d.comb += self.error.eq(ErrorCode.ADDRESS)
        with m.If((begun & last_run) | misaligned):
            m.d.sync += [pending.eq(0), held.eq(0)]

    def _near(self, address: Value) -> tuple[Value, Value]:
        """Whether a burst of full length would reach its page's end; by how much it is shorter."""
        first = self._beat_bits + self._burst_bits
        lower = address[self._beat_bits : first]
        near = Cat(address[first : exact_log2(PAGE_BYTES)], 1).all()
        return near, Mux(near, lower, 0)

    def _follower(self, m: Module, address: Value) -> tuple[Value, Value]:
        """Address behind a burst that does not end its run, and `_near`'s beats of it.

        The burst has full length or ends with its page; so the address needs no addition but to
        its upper bits.
        """
        first = self._beat_bits + self._burst_bits
        lower = address[self._beat_bits : first]
        block = address[first : exact_log2(PAGE_BYTES)]
        near, _ = self._near(address)
        # The next block is the last one of a page; with one block per page it starts at its start.
        next_near = Cat(~block[:1], block[1:]).all() if len(block) else C(0, 1)
        start = Mux(near, 0, lower)[: self._burst_bits]
        follower = Cat(C(0, self._beat_bits), start, (address[first:] + 1)[: 32 - first])
        return follower, Mux(next_near, lower, 0)


def _point_layout() -> data.StructLayout:
    return data.StructLayout({"dram": 32, "local": LOCAL_WIDTH})

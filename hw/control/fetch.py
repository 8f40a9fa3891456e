"""Instruction fetch: prefetch into a small FIFO."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import PortConfig
from hw.arch.isa import INSTRUCTION_BYTES, ErrorCode
from hw.arch.timing import FETCH_FIFO, FETCH_GROUP
from hw.memory.arbiter import address_layout

__all__ = ["INDEX_BITS", "Fetch"]

INDEX_BITS = 24
"""Instruction indices, as wide as Branch.target."""


class Fetch(wiring.Component):
    """Prefetch FIFO of FETCH_FIFO (8) instructions.

    Rules
    -----
    1. A burst covers the instructions from `next` up to the end of its aligned group of
       min(FETCH_GROUP, max_burst) instructions in DRAM, but none beyond the program.
    2. A new request is put up in a cycle in which none is up, `next` is inside the program, and
       the FIFO has room for the whole burst beside what it holds and what is granted. It is
       visible to the arbiter in the following cycle and waits for its grant; the grant advances
       `next`. (A request and its successor are thus at least two cycles apart.) It is `urgent`
       while neither the FIFO nor the output register holds an instruction and none is under way.
    3. A beat handed over by the memory port in cycle t is copied in t, written in t + 1; an
       instruction whose last beat it was moves to the output register in t + 2, if that is empty,
       and can be taken in t + 3 (`timing.FETCH_VISIBLE`). The output register is empty in the
       cycle after a take.
    4. A jump in cycle t empties the FIFO, takes back the request if it is not granted in that
       very cycle, marks every granted beat that has not yet been written as stale, and sets
       `next`; rule 2 applies from cycle t + 1 on. Stale beats are dropped as they come.

    Members
    -------
    run: In, put up requests. base: In, DRAM address of instruction 0, a multiple of 64.
    length: In, instructions in the program.
    request: Out(stream) of `address_layout`. urgent: Out, it is to be granted first; never high
    without a request. A register.
    beat_valid, beat_data, beat_failed: In, from the memory port.
    jump, target: In, flush and continue at `target`.
    o: Out(stream), instruction words in order.
    error: ErrorCode.AXI_RESPONSE for one cycle if a beat failed that is not stale.
    """

    def __init__(self, port: PortConfig):
        self._port = port
        self._beats = INSTRUCTION_BYTES // port.bytes
        self._group = min(FETCH_GROUP, port.max_burst // self._beats)
        super().__init__(
            {
                "run": In(1),
                "base": In(32),
                "length": In(INDEX_BITS),
                "request": Out(stream.Signature(address_layout())),
                "urgent": Out(1),
                "beat_valid": In(1),
                "beat_data": In(8 * port.bytes),
                "beat_failed": In(1),
                "jump": In(1),
                "target": In(INDEX_BITS),
                "o": Out(stream.Signature(8 * INSTRUCTION_BYTES)),
                "error": Out(6),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        asked = Signal(range(self._group + 1))  # instructions in the request
        granted = self.request.valid & self.request.ready
        taken = self.o.valid & self.o.ready
        claimed = Signal(range(FETCH_FIFO + 1))  # instructions in the FIFO or granted
        kept = claimed - taken
        m.d.sync += claimed.eq(Mux(granted, kept + asked, kept))
        with m.If(self.jump):
            m.d.sync += claimed.eq(0)

        # The memory port's registers feed every memory; the instructions' copy has its own.
        self._beat_valid = Signal()
        self._data = Signal.like(self.beat_data, reset_less=True)
        self._failed = Signal(reset_less=True)
        m.d.sync += self._beat_valid.eq(self.beat_valid)
        with m.If(self.beat_valid):
            m.d.sync += [self._data.eq(self.beat_data), self._failed.eq(self.beat_failed)]

        self._request(m, asked, claimed, kept == 0)
        fresh = self._stale_beats(m, asked)
        self._fifo(m, fresh)
        return m

    def _request(self, m: Module, asked: Signal, claimed: Signal, empty: Value) -> None:
        """Rules 1 and 2.

        Parameters
        ----------
        asked, claimed: see `elaborate`.
        empty: nothing will be claimed in the next cycle, unless a grant comes in this one.
        """
        following = Signal(INDEX_BITS)
        in_dram = Signal(32 - exact_log2(INSTRUCTION_BYTES))
        asked_for = Signal.like(self.request.payload, reset_less=True)
        group_left = Signal(range(self._group + 1))
        # Instructions from `following` to the end of the program, negative beyond it. A run starts
        # with a reset, in which this already counts the whole program.
        left = Signal(signed(INDEX_BITS + 1), reset_less=True)
        count = Signal(range(self._group + 1))
        # Only the low bits are compared, and added once more, so that no carry is waited for.
        base = self.base[exact_log2(INSTRUCTION_BYTES) :]
        place = (base + following)[: exact_log2(self._group)]
        few = left[: len(group_left)]
        ends = ~left[len(group_left) :].any() & (few < group_left)
        m.d.comb += [
            in_dram.eq(base + following),
            group_left.eq(self._group - place),
            count.eq(Mux(ends, few, group_left)),
            self.request.payload.eq(asked_for),
        ]
        wanted = Signal()
        m.d.comb += wanted.eq(self.run & ~left[-1] & left.any() & (claimed + count <= FETCH_FIFO))
        with m.If(self.request.valid):
            m.d.sync += self.urgent.eq(empty & ~self.request.ready)
            with m.If(self.request.ready):
                m.d.sync += [
                    self.request.valid.eq(0),
                    following.eq(following + asked),
                    left.eq(left - asked),
                ]
        with m.Else():
            m.d.sync += [
                self.request.valid.eq(wanted),
                self.urgent.eq(wanted & empty),
                asked_for.address.eq(in_dram << exact_log2(INSTRUCTION_BYTES)),
                asked_for.length.eq(count * self._beats - 1),
                asked.eq(count),
            ]
        with m.If(~self.run):
            m.d.sync += left.eq(self.length)
        with m.If(self.jump):
            m.d.sync += [
                self.request.valid.eq(0),
                self.urgent.eq(0),
                following.eq(self.target),
                left.eq(self.length - self.target),
            ]

    def _stale_beats(self, m: Module, asked: Signal) -> Signal:
        """Rule 4. Returns the strobe of a beat that belongs into the FIFO."""
        coming = Signal(range(16 * self._group * self._beats + 1))  # granted, not written
        stale = Signal.like(coming)
        granted = self.request.valid & self.request.ready
        # The grant is known late.
        kept = coming - self._beat_valid
        m.d.sync += coming.eq(Mux(granted, kept + asked * self._beats, kept))
        fresh = Signal()
        none_stale = Signal(init=1)
        m.d.comb += fresh.eq(self._beat_valid & none_stale)
        # A jump has taken back the request: in the cycle behind it nothing is granted, and what is
        # coming is stale.
        jumped = Signal()
        m.d.sync += jumped.eq(self.jump)
        with m.If(self.jump):
            m.d.sync += none_stale.eq(0)
        with m.Elif(jumped):
            left = Signal.like(coming)
            m.d.comb += left.eq(kept)
            m.d.sync += [stale.eq(left), none_stale.eq(left == 0)]
        with m.Elif(self._beat_valid & ~none_stale):
            m.d.sync += [stale.eq(stale - 1), none_stale.eq(stale == 1)]
        with m.If(fresh & self._failed):
            m.d.comb += self.error.eq(ErrorCode.AXI_RESPONSE)
        return fresh

    def _fifo(self, m: Module, fresh: Signal) -> None:
        """Rule 3: written by beats, read by instructions."""
        bits = 8 * self._port.bytes
        words = data.ArrayLayout(bits, self._beats)
        m.submodules.fifo = fifo = memory.Memory(shape=words, depth=FETCH_FIFO, init=[])
        write = fifo.write_port(granularity=1)
        read = fifo.read_port(domain="comb")
        head = Signal(range(FETCH_FIFO))
        tail = Signal(range(FETCH_FIFO))
        level = Signal(range(FETCH_FIFO + 1))
        beat = Signal(range(self._beats))
        complete = Signal()
        moved = Signal()
        m.d.comb += [
            complete.eq(fresh & (beat == self._beats - 1)),
            write.addr.eq(tail),
            read.addr.eq(head),
            moved.eq(~self.o.valid & (level != 0)),
        ]
        for k in range(self._beats):
            m.d.comb += [write.en[k].eq(fresh & (beat == k)), write.data[k].eq(self._data)]
        m.d.sync += level.eq(level + complete - moved)
        word = Signal.like(self.o.payload, reset_less=True)
        m.d.comb += self.o.payload.eq(word)
        with m.If(~self.o.valid):
            m.d.sync += [word.eq(read.data), self.o.valid.eq(level != 0)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(fresh):
            m.d.sync += beat.eq(beat + 1)
        with m.If(complete):
            m.d.sync += tail.eq(tail + 1)
        with m.If(moved):
            m.d.sync += head.eq(head + 1)
        with m.If(self.jump):
            m.d.sync += [head.eq(0), tail.eq(0), level.eq(0), beat.eq(0), self.o.valid.eq(0)]

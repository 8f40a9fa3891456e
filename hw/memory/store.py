"""The store unit: activation scratchpad to DRAM, read ahead into a FIFO."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ErrorCode, Unit
from hw.arch.timing import ACTIVATION_READ_LATENCY, STORE_BURSTS
from hw.common.layouts import unit_layout
from hw.common.level import count_level
from hw.common.ports import NO_COLLISION, UnitSignature, activation_read
from hw.memory.walker import PAGE_BYTES, BurstWalker, burst_layout

__all__ = ["StoreUnit"]

PAGE_BITS = exact_log2(PAGE_BYTES)
OPEN_BURSTS = 16
"""Granted bursts that can be remembered; at least the largest `port.outstanding`."""


class StoreUnit(wiring.Component):
    """Read rows ahead, ask for a burst when all its rows wait, then send it without a pause.

    Rules
    -----
    1. The next instruction is accepted when the walker has begun the last run of the previous one
       (`BurstWalker`); its rows may be read and its bursts granted before that one is done.
    2. The reader takes the walker's next burst when it has none, or reads the last row of its
       own, and fewer than STORE_BURSTS bursts lie between it and their grant. First row read:
       `timing.STORE_READ` (4) cycles after the issue.
    3. The reader reads one row per cycle while fewer than `store_fifo` rows are on their way or
       in the FIFO. A row's place is free in the cycle after its W beat was accepted.
    4. A burst is asked for `timing.STORE_ASK` (5) cycles after the read of its last row: four for
       the scratchpad, one to be written. Bursts are asked for in order, one at a time.
    5. W is valid from the cycle after the grant until the burst's last beat is accepted.
    6. `done` is high `timing.STORE_DONE` (1) cycle after the write response of the last burst of
       an instruction.
    7. A burst outside the store window gives STORE_WINDOW and is not written, nor is any burst
       behind it; a row beyond the scratchpad gives ADDRESS with the same effect; a failed response
       AXI_RESPONSE.

    Members
    -------
    unit: UnitSignature. request: Out(stream) of `burst_layout`.
    read: Out(activation_read).
    w: Out(stream) of (data, last), for the W channel.
    b_valid, b_response: In, the B channel; its ready is constantly 1.
    window_base, window_limit: In, first and past-the-end byte address that may be written.
    stalled: Out, a burst waits for its grant, its beats or its response, and no beat is sent.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        row = data.StructLayout({"data": 8 * config.port.bytes, "last": 1})
        super().__init__(
            {
                "unit": Out(UnitSignature(unit_layout(Unit.STORE))),
                "request": Out(stream.Signature(burst_layout())),
                "read": Out(activation_read(config)),
                "w": Out(stream.Signature(row)),
                "b_valid": In(1),
                "b_response": In(2),
                "window_base": In(32),
                "window_limit": In(32),
                "stalled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walker = walker = BurstWalker(Unit.STORE, self._config.port)
        self._granted, self._failed = Signal(), Signal()
        m.d.comb += [
            walker.i.payload.eq(self.unit.instruction.payload),
            walker.i.valid.eq(self.unit.instruction.valid & ~self.unit.abort),
            self.unit.instruction.ready.eq(walker.i.ready & ~self.unit.abort),
            self.unit.error.eq(walker.error),
            self._granted.eq(self.request.valid & self.request.ready),
        ]
        accepted = walker.i.valid & walker.i.ready
        inside = 2 * STORE_BURSTS + OPEN_BURSTS
        m.d.comb += self.unit.busy.eq(
            count_level(m, "inside", inside, accepted, self.unit.done).some
        )

        burst, row_read, burst_read = self._reader(m, walker)
        self._requests(m, burst, burst_read)
        self._rows(m, row_read, burst_read)
        self._responses(m)
        return m

    def _reader(self, m: Module, walker: BurstWalker) -> tuple[data.View, Signal, Signal]:
        """Rules 2, 3 and 7. Returns the burst being read, and strobes per row and per burst."""
        burst = Signal(burst_layout(), reset_less=True)
        left = Signal(8, reset_less=True)  # rows to read behind the next one
        last_row = Signal(reset_less=True)  # there are none
        reading = Signal()
        row_read = Signal()
        burst_read = Signal()
        taken = Signal()
        offered = walker.o.payload
        sent = self.w.valid & self.w.ready
        rows = count_level(m, "rows", self._config.port.store_fifo, row_read, sent)
        waiting = count_level(m, "waiting", STORE_BURSTS, taken, self._granted)

        # Whether `burst.local` lies inside the scratchpad: known as early as the address.
        fits = Signal(reset_less=True)
        rows_of_all = self._config.memory.activation_rows
        ends = reading & ~rows.full & last_row  # the next burst may be taken even if this one fails
        m.d.comb += [
            row_read.eq(reading & fits & ~rows.full),
            burst_read.eq(ends & fits),
            self.read.enable.eq(row_read),
            self.read.address.eq(burst.local),
            walker.o.ready.eq((~reading | ends) & ~waiting.full & ~self._failed),
            taken.eq(walker.o.valid & walker.o.ready),
        ]
        with m.If(taken):
            m.d.sync += [
                reading.eq(1),
                burst.eq(offered),
                fits.eq(offered.local < rows_of_all),
                left.eq(offered.length),
                last_row.eq(offered.length == 0),
            ]
        with m.Elif(row_read):
            m.d.sync += [
                burst.local.eq(burst.local + 1),
                fits.eq(burst.local != rows_of_all - 1),
                left.eq(left - 1),
                last_row.eq(left == 1),
                reading.eq(~last_row),
            ]
        with m.Elif(~fits):
            m.d.sync += reading.eq(0)
        self._checks(m, burst, taken, reading & ~fits)
        return burst, row_read, burst_read

    def _checks(self, m: Module, burst: data.View, taken: Signal, overrun: Value) -> None:
        """Rule 7: a burst is checked in the cycle after it was taken.

        Its last row arrives ACTIVATION_READ_LATENCY + 1 cycles after that at the earliest, those
        of the bursts before it one cycle earlier at the latest: `failed` lies just between, so that
        it holds back the requests of this burst and later ones.
        """
        check, refused = Signal(), Signal(6)
        beat_bits = exact_log2(self._config.port.bytes)
        # A burst does not cross a page: only the bits below change from first to last beat.
        index = burst.address[beat_bits:PAGE_BITS] + burst.length
        last_beat = Cat(index[: PAGE_BITS - beat_bits], burst.address[PAGE_BITS:])
        within = (burst.address >= self.window_base) & (last_beat < self.window_limit[beat_bits:])
        m.d.sync += [check.eq(taken), refused.eq(ErrorCode.NONE)]
        with m.If(check & ~within):
            m.d.sync += refused.eq(ErrorCode.STORE_WINDOW)
        with m.Elif(overrun):
            m.d.sync += refused.eq(ErrorCode.ADDRESS)
        refusal = Signal()
        m.d.comb += refusal.eq(refused != ErrorCode.NONE)
        with m.If(refusal):
            m.d.comb += self.unit.error.eq(refused)
        with m.If(_delayed(m, refusal, ACTIVATION_READ_LATENCY - 2)):
            m.d.sync += self._failed.eq(1)

    def _requests(self, m: Module, burst: data.View, burst_read: Signal) -> None:
        """Rule 4: the burst's address waits until its last row has been written to the FIFO."""
        asked = data.StructLayout({"address": 32, "length": 8, "last": 1})
        m.submodules.bursts = bursts = memory.Memory(shape=asked, depth=STORE_BURSTS, init=[])
        write = bursts.write_port()
        read = bursts.read_port(domain="comb")
        head = Signal(range(STORE_BURSTS))
        tail = Signal(range(STORE_BURSTS))
        arrived = _delayed(m, burst_read, ACTIVATION_READ_LATENCY) & ~self._failed
        ready = count_level(m, "ready", STORE_BURSTS, arrived, self._granted)
        m.d.comb += [
            write.addr.eq(tail),
            write.en.eq(burst_read),
            write.data.address.eq(burst.address),
            write.data.length.eq(burst.length),
            write.data.last.eq(burst.last),
            read.addr.eq(head),
            self.request.valid.eq(ready.some),
            self.request.payload.address.eq(read.data.address),
            self.request.payload.length.eq(read.data.length),
            self.request.payload.last.eq(read.data.last),
        ]
        with m.If(burst_read):
            m.d.sync += tail.eq(tail + 1)
        with m.If(self._granted):
            m.d.sync += head.eq(head + 1)

    def _rows(self, m: Module, row_read: Signal, burst_read: Signal) -> None:
        """Rule 5: rows go through a block RAM whose output always holds the oldest row."""
        depth = self._config.port.store_fifo
        m.submodules.rows = rows = memory.Memory(
            shape=8 * self._config.port.bytes, depth=depth, init=[], attrs=NO_COLLISION
        )
        write = rows.write_port()
        read = rows.read_port()
        # Whether a row ends its burst decides on what follows in the same cycle: a register, which
        # is earlier than the output of a block RAM.
        m.submodules.lasts = lasts = memory.Memory(shape=1, depth=depth, init=[])
        mark = lasts.write_port()
        marked = lasts.read_port(domain="comb")
        head = Signal(range(depth))
        second = Signal(range(depth), init=1)  # head + 1
        tail = Signal(range(depth))
        sent = Signal()
        ended = sent & self.w.payload.last
        # granted bursts whose last beat is not yet sent
        sending = count_level(m, "sending", OPEN_BURSTS, self._granted, ended)
        m.d.comb += [
            write.en.eq(_delayed(m, row_read, ACTIVATION_READ_LATENCY)),
            write.addr.eq(tail),
            write.data.eq(self.read.data),
            mark.en.eq(write.en),
            mark.addr.eq(tail),
            mark.data.eq(_delayed(m, burst_read, ACTIVATION_READ_LATENCY)),
            self.w.valid.eq(sending.some),
            self.w.payload.data.eq(read.data),
            sent.eq(self.w.valid & self.w.ready),
            # A row is written at least two cycles before its burst can be granted, so that the
            # read of the cycle before `valid` already sees it.
            read.addr.eq(Mux(sent, second, head)),
            marked.addr.eq(read.addr),
        ]
        m.d.sync += self.w.payload.last.eq(marked.data)
        with m.If(write.en):
            m.d.sync += tail.eq(tail + 1)
        with m.If(sent):
            m.d.sync += [head.eq(second), second.eq(second + 1)]

    def _responses(self, m: Module) -> None:
        """Rule 6: which responses end an instruction follows from the order of the grants."""
        ends = Signal(OPEN_BURSTS)
        head = Signal(range(OPEN_BURSTS))
        tail = Signal(range(OPEN_BURSTS))
        # granted bursts without a response
        answers = count_level(m, "answers", OPEN_BURSTS, self._granted, self.b_valid)
        with m.If(self._granted):
            m.d.sync += [
                ends.bit_select(tail, 1).eq(self.request.payload.last),
                tail.eq(tail + 1),
            ]
        with m.If(self.b_valid):
            m.d.sync += head.eq(head + 1)
        m.d.sync += self.unit.done.eq(self.b_valid & ends.bit_select(head, 1))
        with m.If(self.b_valid & self.b_response.any()):
            m.d.comb += self.unit.error.eq(ErrorCode.AXI_RESPONSE)
        m.d.comb += self.stalled.eq(
            (self.request.valid | answers.some) & ~(self.w.valid & self.w.ready)
        )


def _delayed(m: Module, strobe: Signal, cycles: int) -> Signal:
    for _ in range(cycles):
        later = Signal.like(strobe)
        m.d.sync += later.eq(strobe)
        strobe = later
    return strobe

"""From the core's AXI4 port to a memory controller's native port of another width."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.boards import CONVERTER_BEATS

__all__ = ["AxiSlaveSignature", "BurstConverter", "NativeSignature"]

OKAY, SLAVE_ERROR, DECODE_ERROR = 0, 2, 3
INCREMENT = 1
OPEN = 16
"""Reads, and writes, that may be under way."""


class AxiSlaveSignature(wiring.Signature):
    """The slave's side of the core's memory port: AXI4 without identifiers.

    Parameters
    ----------
    width: bits of data.
    """

    def __init__(self, width: int):
        members: dict[str, wiring.Member] = {}
        for channel in ("aw", "ar"):
            members |= {
                f"{channel}valid": In(1),
                f"{channel}ready": Out(1),
                f"{channel}addr": In(32),
                f"{channel}len": In(8),
                f"{channel}size": In(3),
                f"{channel}burst": In(2),
            }
        members |= {"wvalid": In(1), "wready": Out(1), "wlast": In(1)}
        members |= {"wdata": In(width), "wstrb": In(width // 8)}
        members |= {"bvalid": Out(1), "bready": In(1), "bresp": Out(2)}
        members |= {"rvalid": Out(1), "rready": In(1), "rlast": Out(1)}
        members |= {"rdata": Out(width), "rresp": Out(2)}
        super().__init__(members)


class NativeSignature(wiring.Signature):
    """The master's side of a LiteDRAM native port.

    A command is a word to read or to write. The controller takes the data of writes, in order of
    their commands, in the cycles in which `wdata_ready` is high, whatever `wdata_valid` says; it
    gives what was read in the cycles in which `rdata_valid` is high, and cannot be held.

    Parameters
    ----------
    address_bits: of a word's number.
    width: bits of a word.
    """

    def __init__(self, address_bits: int, width: int):
        super().__init__(
            {
                "cmd_valid": Out(1),
                "cmd_ready": In(1),
                "cmd_we": Out(1),
                "cmd_addr": Out(address_bits),
                "wdata_valid": Out(1),
                "wdata_ready": In(1),
                "wdata_data": Out(width),
                "wdata_we": Out(width // 8),
                "rdata_valid": In(1),
                "rdata_data": In(width),
            }
        )


class _Bursts(wiring.Component):
    """Takes addresses of bursts and judges them: two registers, so that no sum meets another.

    Parameters
    ----------
    width: bits of a beat. size: bytes of the memory.

    Members
    -------
    i_valid, i_ready, address, beats, beat_size, kind: the AXI4 channel.
    valid: Out, a burst waits; taken: In, it goes.
    first: Out, number of its first beat in the memory. length: Out, beats − 1.
    error: Out, response.
    """

    def __init__(self, width: int, size: int):
        self._shift = exact_log2(width // 8)
        self._bits = exact_log2(size) - self._shift
        super().__init__(
            {
                "i_valid": In(1),
                "i_ready": Out(1),
                "address": In(32),
                "beats": In(8),
                "beat_size": In(3),
                "kind": In(2),
                "valid": Out(1),
                "taken": In(1),
                "first": Out(self._bits),
                "length": Out(8),
                "error": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal()
        first = Signal(32 - self._shift, reset_less=True)
        length = Signal(8, reset_less=True)
        known = Signal(reset_less=True)
        passes = ~self.valid | self.taken
        m.d.comb += self.i_ready.eq(~held | passes)
        with m.If(self.i_ready):
            m.d.sync += [
                held.eq(self.i_valid),
                first.eq(self.address >> self._shift),
                length.eq(self.beats),
                known.eq((self.kind == INCREMENT) & (self.beat_size == self._shift)),
            ]
        beyond = (first + length)[self._bits :].any()
        with m.If(passes):
            m.d.sync += [
                self.valid.eq(held),
                self.first.eq(first),
                self.length.eq(length),
                self.error.eq(Mux(beyond, DECODE_ERROR, Mux(known, OKAY, SLAVE_ERROR))),
            ]
        return m


class _Writes(wiring.Component):
    """Beats of writes on their way to words.

    Members
    -------
    w_valid, w_ready, w_last, w_data, w_strobes: the AXI4 channel W.
    waits: Out, a word of which `ask` has not been high waits here.
    ask: In, the command of the next word is given.
    idle: Out, every word that was asked for has been taken.
    take: In, the controller takes the word in `data`, `enable`.
    b_valid, b_ready, b_response: the AXI4 channel B. error: In, the response of what is taken now.
    """

    def __init__(self, width: int, native: int, beats: int):
        self._width, self._native, self._beats = width, native, beats
        super().__init__(
            {
                "w_valid": In(1),
                "w_ready": Out(1),
                "w_last": In(1),
                "w_data": In(width),
                "w_strobes": In(width // 8),
                "waits": Out(1),
                "ask": In(1),
                "idle": Out(1),
                "take": In(1),
                "valid": Out(1),
                "data": Out(native),
                "enable": Out(native // 8),
                "error": In(2),
                "b_valid": Out(1),
                "b_ready": In(1),
                "b_response": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ratio = self._width // self._native
        layout = data.StructLayout({"data": self._width, "strobes": self._width // 8, "last": 1})
        m.submodules.beats = beats = fifo.SyncFIFO(width=layout.size, depth=self._beats)
        m.submodules.answers = answers = fifo.SyncFIFO(width=2, depth=OPEN)
        incoming, beat = data.View(layout, beats.w_data), data.View(layout, beats.r_data)
        m.d.comb += [
            incoming.data.eq(self.w_data),
            incoming.strobes.eq(self.w_strobes),
            incoming.last.eq(self.w_last),
            beats.w_en.eq(self.w_valid),
            self.w_ready.eq(beats.w_rdy),
        ]
        # A word counts when it has reached the register that the controller reads.
        arrived = Signal()
        here = Signal(range((self._beats + 2) * ratio))
        asked = Signal.like(here)
        m.d.sync += [
            arrived.eq(beats.w_en & beats.w_rdy),
            here.eq(here + Mux(arrived, ratio, 0) - self.ask),
            asked.eq(asked + self.ask - self.take),
        ]
        m.d.comb += [self.waits.eq(here.any()), self.idle.eq(~asked.any())]

        part = Signal(range(ratio)) if ratio > 1 else Const(0, 1)
        ends = Signal()
        fills = beats.r_rdy & (~self.valid | self.take)
        m.d.comb += beats.r_en.eq(fills & (part == ratio - 1))
        with m.If(self.take):
            m.d.sync += self.valid.eq(0)
        with m.If(fills):
            m.d.sync += [
                self.valid.eq(1),
                self.data.eq(beat.data.word_select(part, self._native)),
                self.enable.eq(beat.strobes.word_select(part, self._native // 8)),
                ends.eq(beat.last & (part == ratio - 1)),
            ]
            if ratio > 1:
                m.d.sync += part.eq(part + 1)
        m.d.comb += [
            answers.w_en.eq(self.take & ends),
            answers.w_data.eq(self.error),
            self.b_valid.eq(answers.r_rdy),
            self.b_response.eq(answers.r_data),
            answers.r_en.eq(self.b_ready),
        ]
        return m


class _Reads(wiring.Component):
    """Words that were read on their way to beats.

    Members
    -------
    begin: In, a read of `length` + 1 beats with the response `error` begins; only when `may_begin`.
    room: Out, one more word may be asked for; ask: In, it is.
    valid, data: In, a word comes.
    r_valid, r_ready, r_last, r_data, r_response: the AXI4 channel R.
    """

    def __init__(self, width: int, native: int, room: int):
        self._width, self._native, self._room = width, native, room
        super().__init__(
            {
                "may_begin": Out(1),
                "begin": In(1),
                "length": In(8),
                "error": In(2),
                "room": Out(1),
                "ask": In(1),
                "valid": In(1),
                "data": In(native),
                "r_valid": Out(1),
                "r_ready": In(1),
                "r_last": Out(1),
                "r_data": Out(width),
                "r_response": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ratio = self._width // self._native
        m.submodules.words = words = fifo.SyncFIFO(width=self._native, depth=self._room)
        m.submodules.bursts = bursts = fifo.SyncFIFO(width=10, depth=OPEN)
        credits = Signal(range(self._room + 1), init=self._room)
        m.d.sync += credits.eq(credits - self.ask + (words.r_en & words.r_rdy))
        m.d.comb += [
            self.room.eq(credits.any()),
            words.w_en.eq(self.valid),
            words.w_data.eq(self.data),
            self.may_begin.eq(bursts.w_rdy),
            bursts.w_en.eq(self.begin),
            bursts.w_data.eq(Cat(self.length, self.error)),
        ]
        length, error = bursts.r_data[:8], bursts.r_data[8:]

        parts = Signal(self._width, reset_less=True)
        number = Signal(range(ratio)) if ratio > 1 else Const(0, 1)
        full = Signal()
        position = Signal(8)
        goes = bursts.r_rdy & (~self.r_valid | self.r_ready) & (error.any() | full)
        moves = goes & ~error.any()
        last = position == length
        m.d.comb += [words.r_en.eq(~full | moves), bursts.r_en.eq(goes & last)]
        with m.If(moves):
            m.d.sync += full.eq(0)
        with m.If(words.r_en & words.r_rdy):
            m.d.sync += [
                parts.eq(Cat(parts, words.r_data)[self._native :]),
                full.eq(number == ratio - 1),
            ]
            if ratio > 1:
                m.d.sync += number.eq(number + 1)
        with m.If(self.r_ready):
            m.d.sync += self.r_valid.eq(0)
        with m.If(goes):
            m.d.sync += [
                self.r_valid.eq(1),
                self.r_data.eq(Mux(error.any(), 0, parts)),
                self.r_response.eq(error),
                self.r_last.eq(last),
                position.eq(Mux(last, 0, position + 1)),
            ]
        return m


class BurstConverter(wiring.Component):
    """An AXI4 slave that splits bursts into words of a native port, one in every cycle.

    Rules
    -----
    1. Bursts are full-width INCR of any length; the low bits of an address, below a beat, do not
       count. A burst of another kind or size answers SLVERR, one that does not lie in the memory
       DECERR. Neither reaches the memory: all beats of such a read are zeros with the error, those
       of such a write are taken and dropped.
    2. Of a read and a write that wait, the one whose kind was not begun last is begun; a write
       waits until a beat is there. The master sends the beats of a write without waiting for reads.
    3. A word of a write is asked for when its data wait in a register, or are sure to when it is
       taken; a word of a read when there is room for what comes back. The controller cannot wait.
    4. Reads answer in their order, and writes in theirs. A write answers when the controller has
       taken its last word: whatever is asked for later, at any port of the controller, sees it.
    5. Words follow each other without a gap, also across bursts.

    Latency (hw/arch/boards.py, CONVERTER_*): a burst that is accepted in cycle t is a command in
    t + 3; the word that ends a beat and comes back in t makes the beat valid in t + 3.

    Parameters
    ----------
    width: bits of the AXI4 port.
    native: bits of a word of the memory, `width` divided by a power of two.
    size: bytes of the memory, a power of two; it lies at address 0.
    room: words of reads that may be under way.
    beats: of writes that may wait.

    Members
    -------
    bus: AXI4, `AxiSlaveSignature`. port: `NativeSignature`.

    Raises
    ------
    ValueError
        If a size does not fit.
    """

    def __init__(
        self, width: int, native: int, size: int, *, room: int = 32, beats: int = CONVERTER_BEATS
    ):
        ratio, rest = divmod(width, native)
        if native % 8 or rest or ratio & (ratio - 1):
            raise ValueError(f"{native} bits are not {width} bits divided by a power of two")
        if size & (size - 1) or not width // 8 < size <= 1 << 32:
            raise ValueError(f"Memory must be a power of two up to 2^32 bytes, not {size}")
        self._width, self._native, self._size, self._ratio = width, native, size, ratio
        self._room, self._beats = room, beats
        self._word_bits = exact_log2(size * 8 // native)
        super().__init__(
            {
                "bus": Out(AxiSlaveSignature(width)),
                "port": Out(NativeSignature(self._word_bits, native)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ar = ar = _Bursts(self._width, self._size)
        m.submodules.aw = aw = _Bursts(self._width, self._size)
        m.submodules.writes = writes = _Writes(self._width, self._native, self._beats)
        m.submodules.reads = reads = _Reads(self._width, self._native, self._room)
        self._connect(m, ar, aw, writes, reads)

        # The burst that is being split.
        active, we = Signal(), Signal()
        error = Signal(2)  # of a write; what it writes is dropped here
        word = Signal(self._word_bits, reset_less=True)
        left = Signal(range(256 * self._ratio), reset_less=True)  # words behind this one
        drops = Signal()
        steps = Signal()
        ends = Signal()
        m.d.comb += [
            self.port.cmd_valid.eq(active & ~error.any() & Mux(we, writes.waits, reads.room)),
            self.port.cmd_we.eq(we),
            self.port.cmd_addr.eq(word),
            drops.eq(active & error.any() & writes.waits & writes.idle),
            steps.eq((self.port.cmd_valid & self.port.cmd_ready) | drops),
            ends.eq(~active | (steps & (left == 0))),
            writes.ask.eq(steps & we),
            writes.take.eq(self.port.wdata_ready | drops),
            writes.error.eq(Mux(drops, error, OKAY)),
            reads.ask.eq(steps & ~we),
        ]
        with m.If(steps):
            m.d.sync += [word.eq(word + 1), left.eq(left - 1)]

        wrote = Signal()
        opened = Signal(range(OPEN + 1))  # writes without their answer
        can_read = ar.valid & reads.may_begin
        can_write = aw.valid & writes.waits & (opened != OPEN)
        begins_read = can_read & (wrote | ~can_write)
        begins_write = can_write & ~begins_read
        answered = self.bus.bvalid & self.bus.bready
        m.d.comb += [
            ar.taken.eq(ends & begins_read),
            aw.taken.eq(ends & begins_write),
            reads.begin.eq(ar.taken),
        ]
        m.d.sync += opened.eq(opened + aw.taken - answered)
        with m.If(ends):
            m.d.sync += [
                active.eq(Mux(begins_read, ~ar.error.any(), begins_write)),
                we.eq(~begins_read),
                error.eq(Mux(begins_read, OKAY, aw.error)),
                word.eq(Mux(begins_read, ar.first, aw.first) << exact_log2(self._ratio)),
                left.eq(
                    Cat(
                        Const(self._ratio - 1, exact_log2(self._ratio)),
                        Mux(begins_read, ar.length, aw.length),
                    )
                ),
            ]
            with m.If(begins_read | begins_write):
                m.d.sync += wrote.eq(begins_write)
        return m

    def _connect(self, m: Module, ar: _Bursts, aw: _Bursts, writes: _Writes, reads: _Reads) -> None:
        bus, port = self.bus, self.port
        for channel, bursts in (("ar", ar), ("aw", aw)):
            m.d.comb += [
                bursts.i_valid.eq(getattr(bus, f"{channel}valid")),
                getattr(bus, f"{channel}ready").eq(bursts.i_ready),
                bursts.address.eq(getattr(bus, f"{channel}addr")),
                bursts.beats.eq(getattr(bus, f"{channel}len")),
                bursts.beat_size.eq(getattr(bus, f"{channel}size")),
                bursts.kind.eq(getattr(bus, f"{channel}burst")),
            ]
        m.d.comb += [
            writes.w_valid.eq(bus.wvalid),
            bus.wready.eq(writes.w_ready),
            writes.w_last.eq(bus.wlast),
            writes.w_data.eq(bus.wdata),
            writes.w_strobes.eq(bus.wstrb),
            bus.bvalid.eq(writes.b_valid),
            bus.bresp.eq(writes.b_response),
            writes.b_ready.eq(bus.bready),
            reads.length.eq(ar.length),
            reads.error.eq(ar.error),
            reads.valid.eq(port.rdata_valid),
            reads.data.eq(port.rdata_data),
            reads.r_ready.eq(bus.rready),
            bus.rvalid.eq(reads.r_valid),
            bus.rlast.eq(reads.r_last),
            bus.rdata.eq(reads.r_data),
            bus.rresp.eq(reads.r_response),
            port.wdata_valid.eq(writes.valid),
            port.wdata_data.eq(writes.data),
            port.wdata_we.eq(writes.enable),
        ]

"""From the core's AXI4 port to a memory controller's native port of another width."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.boards import CONVERTER_BEATS
from hw.boards.converter_channels import OKAY, OPEN, Bursts, Reads, Writes

__all__ = ["AxiSlaveSignature", "BurstConverter", "NativeSignature"]


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
        m.submodules.ar = ar = Bursts(self._width, self._size)
        m.submodules.aw = aw = Bursts(self._width, self._size)
        m.submodules.writes = writes = Writes(self._width, self._native, self._beats)
        m.submodules.reads = reads = Reads(self._width, self._native, self._room)
        self._connect(m, ar, aw, writes, reads)

        # The burst that is being split.
        active, we = Signal(), Signal()
        error = Signal(2)  # of a write; what it writes is dropped here
        word = Signal(self._word_bits, reset_less=True)
        left = Signal(range(256 * self._ratio), reset_less=True)  # words behind this one
        # A command that the controller did not take: its ready, which it finds out late, ends here,
        # and the splitter goes on by registers alone.
        kept = Signal()
        kept_we, kept_word = Signal(reset_less=True), Signal.like(word)
        asks = Signal()
        drops = Signal()
        steps = Signal()
        ends = Signal()
        m.d.comb += [
            asks.eq(active & ~error.any() & Mux(we, writes.waits, reads.room)),
            self.port.cmd_valid.eq(kept | asks),
            self.port.cmd_we.eq(Mux(kept, kept_we, we)),
            self.port.cmd_addr.eq(Mux(kept, kept_word, word)),
            drops.eq(active & error.any() & writes.waits & writes.idle),
            steps.eq((asks & ~kept) | drops),
            ends.eq(~active | (steps & (left == 0))),
            writes.ask.eq(steps & we),
            writes.take.eq(self.port.wdata_ready | drops),
            writes.error.eq(Mux(drops, error, OKAY)),
            reads.ask.eq(steps & ~we),
        ]
        m.d.sync += kept.eq(self.port.cmd_valid & ~self.port.cmd_ready)
        with m.If(~kept):
            m.d.sync += [kept_we.eq(we), kept_word.eq(word)]
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

    def _connect(self, m: Module, ar: Bursts, aw: Bursts, writes: Writes, reads: Reads) -> None:
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

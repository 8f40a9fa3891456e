"""The host link's far end: frames of hw/arch/link.py become accesses of a bus."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, ValueLike
from amaranth.lib import memory, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out

from hw.arch.link import HEADER, MAX_WORDS, SYNC_REPLY, SYNC_REQUEST, Command, LinkStatus
from hw.boards.uart import UartReceiver, UartTransmitter

__all__ = ["SerialBridge"]


class SerialBridge(wiring.Component):
    """Executes requests from a serial line on a Wishbone bus, and replies.

    Rules
    -----
    1. A request acts when all of it has arrived and its CRC is right, and not before. Everything
       else is dropped: bytes in front of SYNC_REQUEST, a request with a silence of more than
       `silence` cycles between two bytes, what arrives before the reply to the last one is sent.
    2. A WRITE with the sequence number of the request before replies again and does not act.
    3. Fresh after a reset, until HELLO: READ and WRITE do nothing.
    4. Every word is one access of the bus, in order of address. An access that ends in `err` sets
       BUS_ERROR, and those behind it follow all the same.

    Parameters
    ----------
    divisor: clock cycles of a bit.
    silence: clock cycles, more than two bytes take.

    Members
    -------
    rx, tx: the line, idle at 1.
    cyc, stb, we, adr, dat_w, sel, dat_r, ack, err: Wishbone classic, 32 bits, addresses of words.

    Raises
    ------
    ValueError
        If `silence` is too short.
    """

    def __init__(self, divisor: int, silence: int):
        if silence <= 20 * divisor:
            raise ValueError(f"silence must be more than {20 * divisor} cycles, not {silence}")
        self._divisor, self._silence = divisor, silence
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "cyc": Out(1),
                "stb": Out(1),
                "we": Out(1),
                "adr": Out(30),
                "dat_w": Out(32),
                "sel": Out(4, init=0xF),
                "dat_r": In(32),
                "ack": In(1),
                "err": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self._divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(self._divisor)
        m.submodules.crc = self._crc = catalog.CRC32_ETHERNET(data_width=8).create()
        m.submodules.words = words = memory.Memory(shape=32, depth=MAX_WORDS + 1, init=[])
        self._write, self._read = words.write_port(), words.read_port()
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        self._in, self._out = receiver, transmitter.i

        self._header = Signal(8 * HEADER.size, reset_less=True)
        self._command, self._sequence = self._header[:8], self._header[8:16]
        self._count = self._header[16:24]
        self._number = Signal(8)  # of the word in hand
        self._byte = Signal(3)  # of a word, of the header
        self._word = Signal(32, reset_less=True)
        self._status = Signal(len(LinkStatus))
        self._reads = Signal()
        # Both terms stand still in the cycle before an access. Behind the address lie all of the
        # SoC's decoders, and its answer is wanted in the same cycle.
        m.d.sync += self.adr.eq(self._header[26:] + self._number)
        m.d.comb += [
            self.dat_w.eq(self._read.data),
            self.we.eq(~self._reads),
            self.stb.eq(self.cyc),
            self._read.addr.eq(self._number),
            self._write.addr.eq(self._number),
            self._write.data.eq(Cat(self._word[8:], receiver.data)),
        ]
        with m.FSM(name="state"):
            self._receive(m)
            self._judge(m)
            self._act(m)
            self._reply(m)
        return m

    def _receive(self, m: Module) -> None:
        """Rule 1."""
        came = self._in.valid
        waited = Signal(range(self._silence + 1))
        m.d.sync += waited.eq(Mux(came, 0, waited + 1))
        with m.State("IDLE"):
            m.d.sync += [waited.eq(0), self._byte.eq(0), self._number.eq(0)]
            m.d.comb += self._crc.start.eq(1)
            with m.If(came & (self._in.data == SYNC_REQUEST)):
                m.next = "HEADER"
        with m.State("HEADER"):
            self._take(m)
            with m.If(came):
                m.d.sync += self._header.eq(Cat(self._header[8:], self._in.data))
                with m.If(self._byte == HEADER.size - 1):
                    m.d.sync += self._byte.eq(0)
                    # The command has moved down by the time that the last byte comes.
                    command, count = self._header[8:16], self._header[24:32]
                    with m.If((command == Command.WRITE) & count.any()):
                        m.next = "DATA"
                    with m.Else():
                        m.next = "CHECK"
            self._hush(m, waited)
        with m.State("DATA"):
            self._take(m)
            with m.If(came):
                m.d.sync += self._word.eq(Cat(self._word[8:], self._in.data))
                with m.If(self._byte == 3):
                    m.d.comb += self._write.en.eq(1)
                    m.d.sync += [self._byte.eq(0), self._number.eq(self._number + 1)]
                    with m.If(self._number + 1 == self._count):
                        m.d.sync += self._number.eq(0)
                        m.next = "CHECK"
            self._hush(m, waited)
        with m.State("CHECK"):
            self._take(m)
            with m.If(came & (self._byte == 3)):
                m.d.sync += self._byte.eq(0)
                m.next = "JUDGE"
            self._hush(m, waited)

    def _take(self, m: Module) -> None:
        """A byte of a request: into the CRC, and counted."""
        m.d.comb += [self._crc.data.eq(self._in.data), self._crc.valid.eq(self._in.valid)]
        with m.If(self._in.valid):
            m.d.sync += self._byte.eq(self._byte + 1)

    def _hush(self, m: Module, waited: Signal) -> None:
        with m.If(~self._in.valid & (waited == self._silence)):
            m.next = "IDLE"

    def _judge(self, m: Module) -> None:
        """Rules 2, 3."""
        fresh = Signal(init=1)
        last = Signal(8)
        hello = self._command == Command.HELLO
        access = (self._command == Command.READ) | (self._command == Command.WRITE)
        known = hello | (access & self._count.any())
        with m.State("JUDGE"):
            m.d.sync += [self._reads.eq(self._command == Command.READ), self._byte.eq(0)]
            with m.If(~self._crc.match_detected):
                m.next = "IDLE"
            with m.Elif(~known | hello | fresh):
                m.d.sync += [
                    self._status.eq(
                        Mux(fresh, LinkStatus.FRESH, 0) | Mux(known, 0, LinkStatus.UNKNOWN)
                    ),
                    self._reads.eq(0),
                    last.eq(self._sequence),
                ]
                with m.If(hello):
                    m.d.sync += fresh.eq(0)
                m.next = "FIRST"
            with m.Elif((self._command == Command.WRITE) & (self._sequence == last)):
                m.next = "FIRST"
            with m.Else():
                m.d.sync += [self._status.eq(0), last.eq(self._sequence)]
                with m.If(self._command == Command.READ):
                    m.next = "FIRST"
                with m.Else():
                    m.next = "FETCH"

    def _act(self, m: Module) -> None:
        """Rule 4. Neither the request nor what follows the answer waits for the bus's decoders.

        So an access takes two cycles more than its slave does.
        """
        answered, failed = Signal(), Signal(reset_less=True)
        final = self._number + 1 == self._count
        ends = self.cyc & (self.ack | self.err)
        m.d.sync += [answered.eq(ends), failed.eq(self.err), self.cyc.eq(0)]
        with m.State("FETCH"):
            m.next = "ACCESS"
        with m.State("ACCESS"):
            m.d.sync += self.cyc.eq(~ends & ~answered)
            with m.If(self.cyc):
                m.d.sync += self._word.eq(self.dat_r)
            with m.If(answered):
                m.d.sync += self._number.eq(self._number + 1)
                with m.If(failed):
                    m.d.sync += self._status.eq(self._status | LinkStatus.BUS_ERROR)
                with m.If(self._reads):
                    m.next = "WORD"
                with m.Elif(final):
                    m.next = "FIRST"
                with m.Else():
                    m.next = "FETCH"

    def _reply(self, m: Module) -> None:
        more = Signal()
        m.d.comb += more.eq(self._reads & (self._number != self._count))
        with m.State("FIRST"):
            self._send(m, SYNC_REPLY, "SEQUENCE")
            m.d.comb += self._crc.start.eq(1)
        with m.State("SEQUENCE"):
            self._send(m, self._sequence, "COUNT", counted=True)
        with m.State("COUNT"):
            self._send(m, Mux(self._reads, self._count, 0), None, counted=True)
            with m.If(self._out.ready):
                with m.If(more):
                    m.next = "ACCESS"
                with m.Else():
                    m.next = "STATUS"
        with m.State("WORD"):
            self._send(m, self._word[:8], None, counted=True)
            with m.If(self._out.ready):
                m.d.sync += [self._word.eq(self._word >> 8), self._byte.eq(self._byte + 1)]
                with m.If(self._byte == 3):
                    m.d.sync += self._byte.eq(0)
                    with m.If(more):
                        m.next = "ACCESS"
                    with m.Else():
                        m.next = "STATUS"
        with m.State("STATUS"):
            self._send(m, self._status, "SEAL", counted=True)
        with m.State("SEAL"):
            self._send(m, self._crc.crc.word_select(self._byte[:2], 8), None)
            with m.If(self._out.ready):
                m.d.sync += self._byte.eq(self._byte + 1)
                with m.If(self._byte == 3):
                    m.d.sync += self._byte.eq(0)
                    m.next = "IDLE"

    def _send(
        self, m: Module, value: ValueLike, then: str | None, *, counted: bool = False
    ) -> None:
        """Offer a byte; `counted`: it is part of what the CRC is over."""
        value = Const(value, 8) if isinstance(value, int) else value
        m.d.comb += [self._out.valid.eq(1), self._out.payload.eq(value)]
        if counted:
            m.d.comb += [self._crc.data.eq(value), self._crc.valid.eq(self._out.ready)]
        if then is not None:
            with m.If(self._out.ready):
                m.next = then

"""Bytes over a serial line: 8 data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import cdc, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter", "divisor_of"]

TOLERANCE = 0.025
"""By which the rate may differ: the last bit is sampled a quarter of a bit beside its middle."""


def divisor_of(clock_hz: float, baud: float) -> int:
    """Clock cycles of a bit.

    Raises
    ------
    ValueError
        If no whole number of cycles comes near enough.
    """
    divisor = max(round(clock_hz / baud), 1)
    if divisor < 4 or abs(clock_hz / divisor / baud - 1) > TOLERANCE:
        raise ValueError(
            f"{clock_hz / 1e6:g} MHz gives no {baud:,.0f} baud: {divisor} cycles a bit are "
            f"{clock_hz / divisor:,.0f}"
        )
    return divisor


class UartReceiver(wiring.Component):
    """Receives bytes; a byte whose stop bit is not high is dropped.

    Handshake: `valid` is high for one cycle per byte, which cannot be held.

    Latency: in the middle of the stop bit, and two cycles.

    Parameters
    ----------
    divisor: clock cycles of a bit, at least 4.

    Members
    -------
    rx: In, the line. valid, data: Out.
    """

    def __init__(self, divisor: int):
        self._divisor = divisor
        super().__init__({"rx": In(1, init=1), "valid": Out(1), "data": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = cdc.FFSynchronizer(self.rx, line, init=1)
        timer = Signal(range(2 * self._divisor))
        left = Signal(range(10))  # bits to sample; 9: start bit
        m.d.sync += self.valid.eq(0)
        with m.If(left == 0):
            with m.If(~line):
                m.d.sync += [left.eq(9), timer.eq(self._divisor + self._divisor // 2 - 2)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [left.eq(left - 1), timer.eq(self._divisor - 1)]
            with m.If(left == 1):
                m.d.sync += self.valid.eq(line)
            with m.Else():
                m.d.sync += self.data.eq(Cat(self.data[1:], line))
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes.

    Handshake: `i` is ready when the stop bit of the byte before has ended.

    Parameters
    ----------
    divisor: clock cycles of a bit.

    Members
    -------
    i: In(stream) of bytes. tx: Out, the line.
    """

    def __init__(self, divisor: int):
        self._divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = Signal(9, init=0x1FF)
        left = Signal(range(11))
        timer = Signal(range(self._divisor))
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(left == 0):
            with m.If(self.i.valid):
                m.d.sync += [
                    self.tx.eq(0),
                    bits.eq(Cat(self.i.payload, Const(1, 1))),
                    left.eq(10),
                    timer.eq(self._divisor - 1),
                ]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [
                self.tx.eq(bits[0]),
                bits.eq(Cat(bits[1:], Const(1, 1))),
                left.eq(left - 1),
                timer.eq(self._divisor - 1),
            ]
        return m

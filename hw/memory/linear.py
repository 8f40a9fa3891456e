"""A memory written by beats and read by rows of several beats."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.isa import LOCAL_BITS, ErrorCode
from hw.arch.timing import TOKEN_LATENCY, WRITE_LATENCY
from hw.common.ports import NO_COLLISION, ReadSignature, WriteSignature

__all__ = ["LinearMemory"]


class LinearMemory(wiring.Component):
    """Weight scratchpad and parameter memory: `beats_per_row` memories of one beat side by side.

    A read of row r gives the beats r·k .. r·k + k−1, the first in the low bits.

    Latency: read data one cycle after `enable` (`timing.WEIGHT_READ_LATENCY`,
    `timing.PARAMETER_READ_LATENCY`), held until the next read; a write in cycle t is seen by reads
    from cycle t + `timing.WRITE_LATENCY` (2) on; `error` one cycle after a read beyond the last
    row.

    Parameters
    ----------
    beat_bits: width of a beat.
    beats_per_row: k, a power of two.
    rows: rows, a power of two; rows × beats_per_row at most 2^LOCAL_BITS (config.py checks).

    Members
    -------
    read: In(ReadSignature), address in rows.
    write: In(WriteSignature), address in beats; the writer has checked it.
    error: ErrorCode.ADDRESS for one cycle, else 0.
    """

    def __init__(self, *, beat_bits: int, beats_per_row: int, rows: int):
        self._beat_bits = beat_bits
        self._beats = beats_per_row
        self._rows = rows
        column_bits = exact_log2(beats_per_row)
        super().__init__(
            {
                "read": In(ReadSignature(LOCAL_BITS - column_bits, beat_bits * beats_per_row)),
                "write": In(WriteSignature(LOCAL_BITS, beat_bits)),
                "error": Out(6),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        row_bits = exact_log2(self._rows)
        column_bits = exact_log2(self._beats)
        outside = Signal()
        m.d.comb += outside.eq(self.read.address[row_bits:].any())
        m.d.sync += self.error.eq(0)
        with m.If(self.read.enable & outside):
            m.d.sync += self.error.eq(ErrorCode.ADDRESS)

        # Registers between the writer and the columns. A read that depends on a write comes
        # TOKEN_LATENCY cycles after it at the earliest.
        assert WRITE_LATENCY <= TOKEN_LATENCY
        selected = Signal(self._beats)
        row = Signal(row_bits, reset_less=True)
        value = Signal(self._beat_bits, reset_less=True)
        m.d.sync += [
            selected[k].eq(self.write.enable & (self.write.address[:column_bits] == k))
            for k in range(self._beats)
        ]
        m.d.sync += [row.eq(self.write.address[column_bits:]), value.eq(self.write.data)]

        columns = []
        for k in range(self._beats):
            m.submodules[f"column{k}"] = column = memory.Memory(
                shape=self._beat_bits, depth=self._rows, init=[], attrs=NO_COLLISION
            )
            read = column.read_port()
            write = column.write_port()
            m.d.comb += [
                read.en.eq(self.read.enable & ~outside),
                read.addr.eq(self.read.address),
                write.en.eq(selected[k]),
                write.addr.eq(row),
                write.data.eq(value),
            ]
            columns.append(read.data)
        m.d.comb += self.read.data.eq(Cat(*columns))
        return m

"""A double buffer that is written by rows and read by columns."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

__all__ = ["Transposer"]


class Transposer(wiring.Component):
    """Two tiles of L×L bytes, one being written, the other being read.

    A row comes turned upwards by its number, so that byte i of row j lies in memory (i + j) mod L.
    Then column i is one byte of each memory, those of row j at memory (i + j) mod L again: it is
    read turned upwards by its number, and whoever takes it turns it back.

    Handshake: none. A tile's last write comes before its first read.
    Latency: a write in cycle t is seen from t + 1 on; `column` shows in `read` a cycle later, with
    the half of that cycle.

    Parameters
    ----------
    lanes: L, a power of two.

    Members
    -------
    write, half, index, row: write row `index`, turned upwards by `index` bytes, to a tile.
    column, read_half: what `read` shows: byte j of the column is byte (j + `column`) mod L.

    Tested range: tests/hw/compute/vector/test_transposer.py.
    """

    def __init__(self, lanes: int):
        self._lanes = lanes
        index = exact_log2(lanes)
        super().__init__(
            {
                "write": In(1),
                "half": In(1),
                "index": In(index),
                "row": In(8 * lanes),
                "read_half": In(1),
                "column": In(index),
                "read": Out(8 * lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self._lanes
        index = exact_log2(lanes)
        columns = []
        for k in range(lanes):
            m.submodules[f"memory{k}"] = bytes_k = memory.Memory(
                shape=8, depth=2 * lanes, init=[], attrs={"ram_style": "distributed"}
            )
            write = bytes_k.write_port()
            read = bytes_k.read_port(domain="comb")
            place = Signal(index, name=f"place{k}", reset_less=True)
            m.d.sync += place.eq(k - self.column)
            m.d.comb += [
                write.en.eq(self.write),
                write.addr.eq(Cat(self.index, self.half)),
                write.data.eq(self.row.word_select(k, 8)),
                read.addr.eq(Cat(place, self.read_half)),
            ]
            columns.append(read.data)
        m.d.comb += self.read.eq(Cat(*columns))
        return m

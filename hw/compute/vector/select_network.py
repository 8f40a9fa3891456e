"""The select network: any byte of two rows in any lane."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.compute.parts.select import chosen

__all__ = ["SelectNetwork"]


class SelectNetwork(wiring.Component):
    """Bytes for the lanes of one step, chosen among those of two rows.

    What the lanes of a whole row take is held in rings of `lanes / width` places that turn by one
    place per step, so that there is one multiplexer per lane of a step and none in front of it.

    Handshake: `load` takes `select` and `valid` and puts the rings at a row's first step; `step`
    turns them, and comes with every step.
    Latency: none from the rows to `picked`; their register is the client's.

    Parameters
    ----------
    lanes: bytes of a row, a power of two.
    width: lanes of a step; divides `lanes`.

    Members
    -------
    load, step: strobes; not both in one cycle.
    select: per lane of the row, a byte of `first`, then of `second`.
    valid: lanes that are selected; the others are `pad`.
    turns: choose by `shift` instead of by the rings.
    shift: byte of `first` that the step's first lane takes; the others take those behind it, round.
    first, second: rows.
    picked: bytes of the step, first lane lowest.

    Tested range: tests/hw/compute/vector/test_select_network.py.
    """

    def __init__(self, lanes: int, width: int):
        self._lanes = lanes
        self._width = width
        index = exact_log2(lanes)
        super().__init__(
            {
                "load": In(1),
                "step": In(1),
                "select": In(data.ArrayLayout(index + 1, lanes)),
                "valid": In(lanes),
                "pad": In(8),
                "turns": In(1),
                "shift": In(index),
                "first": In(8 * lanes),
                "second": In(8 * lanes),
                "picked": Out(8 * width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, width = self._lanes, self._width
        index = exact_log2(lanes)
        select = Signal((index + 1) * lanes, reset_less=True)
        valid = Signal(lanes, reset_less=True)
        with m.If(self.load):
            m.d.sync += [select.eq(self.select), valid.eq(self.valid)]
        with m.Elif(self.step):
            m.d.sync += [
                select.eq(select.rotate_right((index + 1) * width)),
                valid.eq(valid.rotate_right(width)),
            ]
        source = [Cat(self.first, self.second).word_select(k, 8) for k in range(2 * lanes)]
        picked: list[Value] = []
        for lane in range(width):
            turned = Cat((self.shift + lane)[:index], C(0, 1))
            place = Mux(self.turns, turned, select.word_select(lane, index + 1))
            picked.append(Mux(valid[lane], chosen(source, place), self.pad))
        m.d.comb += self.picked.eq(Cat(*picked))
        return m

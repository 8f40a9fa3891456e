"""Weight loader: one group of weight rows per cycle, one block ahead of the stream."""

from amaranth.hdl import C, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import BLOCK_CLAIM, WEIGHT_LAG, WEIGHT_READ_LATENCY
from hw.common.ports import weight_read
from hw.compute.parts.latch import strobe_line

__all__ = ["WeightLoader"]

FIRST_LAG = WEIGHT_LAG - BLOCK_CLAIM


class WeightLoader(wiring.Component):
    """Reads weight blocks, groups counting up from `base`.

    Latency: `start` in cycle t reads the first group in t + 1 + FIRST_LAG, when the last block of
    the instruction before has been read and taken over; `next` in cycle t reads in t + WEIGHT_LAG.
    A block takes rows / LW cycles.

    Members
    -------
    start: begin an instruction's first block at `base`.
    next: load the following block.
    weight: read port of the weight scratchpad.
    valid: the port's `data` is a group.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        port = weight_read(config)
        super().__init__(
            {
                "start": In(1),
                "next": In(1),
                "base": In(len(port.create().address)),
                "weight": Out(port),
                "valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        assert WEIGHT_READ_LATENCY == 1
        groups = self._config.weight_block_groups
        left = Signal(range(groups + 1))
        due, _ = strobe_line(m, self.next, self.start, WEIGHT_LAG - 1, "due")
        enable = self.weight.enable
        with m.If(enable):
            m.d.sync += [left.eq(left - 1), self.weight.address.eq(self.weight.address + 1)]
        begin, _ = strobe_line(m, self.start, C(0), FIRST_LAG, "begin")
        with m.If(begin):
            m.d.sync += self.weight.address.eq(self.base)
        with m.If(begin | due):
            m.d.sync += left.eq(groups)
        m.d.comb += enable.eq(left != 0)
        m.d.sync += self.valid.eq(enable)
        return m

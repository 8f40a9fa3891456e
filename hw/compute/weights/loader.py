"""Weight loader: one group of weight rows per cycle, one block ahead of the stream."""

from amaranth.hdl import C, Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import CENTRED_WEIGHT_BITS, AcceleratorConfig
from hw.arch.timing import BLOCK_CLAIM, WEIGHT_LAG, WEIGHT_READ_LATENCY
from hw.common.ports import weight_read
from hw.compute.parts.latch import strobe_line

__all__ = ["WeightLoader"]

CODE_BITS = 8


class WeightLoader(wiring.Component):
    """Reads weight blocks, groups counting up from `base`, and gives their weights as numbers.

    With the feature attention a register stands behind the port, and a zero point is taken off
    every weight behind it; the reads are a cycle earlier for that, so that `valid` is not later.

    Latency: `start` in cycle t reads the first group in t + 1 + FIRST_LAG, when the last block of
    the instruction before has been read and taken over; `next` in cycle t reads in t + WEIGHT_LAG.
    `valid` follows a cycle later. With attention the reads are in t + FIRST_LAG and
    t + WEIGHT_LAG − 1, and `valid` follows two cycles later. A block takes rows / LW cycles.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    start: begin an instruction's first block at `base`.
    next: load the following block.
    weight: read port of the weight scratchpad.
    valid: `data` is a group.
    data: weights of the group, LW rows of cols, column 0 first.
    unsigned, zero_point: with attention: what a byte is, and what is taken off. Held from the cycle
        of an instruction's `start` until its first group is read; the loader keeps them.

    Tested range: tests/hw/compute/weights/test_loader.py.
    """

    FIRST_LAG = WEIGHT_LAG - BLOCK_CLAIM

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._centred = "attention" in config.features
        port = weight_read(config)
        bits = CENTRED_WEIGHT_BITS if self._centred else CODE_BITS
        lanes = config.array.weight_rows_per_cycle * config.array.cols
        super().__init__(
            {
                "start": In(1),
                "next": In(1),
                "base": In(len(port.create().address)),
                "weight": Out(port),
                "valid": Out(1),
                "data": Out(signed(bits)).array(lanes),
                **({"unsigned": In(1), "zero_point": In(signed(9))} if self._centred else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        assert WEIGHT_READ_LATENCY == 1
        groups = self._config.weight_block_groups
        early = 1 if self._centred else 0
        left = Signal(range(groups + 1))
        due, _ = strobe_line(m, self.next, self.start, WEIGHT_LAG - 1 - early, "due")
        enable = self.weight.enable
        with m.If(enable):
            m.d.sync += [left.eq(left - 1), self.weight.address.eq(self.weight.address + 1)]
        begin, _ = strobe_line(m, self.start, C(0), self.FIRST_LAG - early, "begin")
        with m.If(begin):
            m.d.sync += self.weight.address.eq(self.base)
        with m.If(begin | due):
            m.d.sync += left.eq(groups)
        m.d.comb += enable.eq(left != 0)
        arrived = Signal()
        m.d.sync += arrived.eq(enable)
        if self._centred:
            self._centre(m, begin, arrived)
        else:
            m.d.comb += self.valid.eq(arrived)
            for lane, word in enumerate(self.data):
                m.d.comb += word.eq(self.weight.data.word_select(lane, CODE_BITS).as_signed())
        return m

    def _centre(self, m: Module, begin: Value, arrived: Value) -> None:
        """The register behind the port, then (byte as u8 or s8) − zero point: nine bits.

        Groups of the instruction before are valid until the cycle in which the first group of this
        one is read at the latest: the zero point changes behind it.
        """
        group = Signal(len(self.weight.data), reset_less=True)
        unsigned, zero_point = Signal(reset_less=True), Signal(signed(9), reset_less=True)
        first_read = Signal()
        m.d.sync += [self.valid.eq(arrived), first_read.eq(begin)]
        with m.If(first_read):
            m.d.sync += [unsigned.eq(self.unsigned), zero_point.eq(self.zero_point)]
        with m.If(arrived):
            m.d.sync += group.eq(self.weight.data)
        for lane, word in enumerate(self.data):
            byte = group.word_select(lane, CODE_BITS)
            code = Cat(byte, byte[-1] & ~unsigned).as_signed()
            m.d.comb += word.eq(code - zero_point)

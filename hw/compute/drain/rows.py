"""Destination side of DRAIN: pooling, row assembly and addresses, in a circuit without hFA."""

import itertools
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ADDRESS_BITS, DELTA_BITS
from hw.common.agu import COUNT_BITS, Nest, Walker
from hw.common.ports import activation_write

__all__ = ["CODE", "RowAssembly", "assembly_members"]

CODE = signed(9)
"""A code between requantization and the scratchpad: -128..255."""


def assembly_members(config: AcceleratorConfig) -> dict[str, Any]:
    """Members that both kinds of assembly have.

    begin: the fields are new. stop: write nothing more.
    counts, destination, destination_deltas: fields, stable from `begin` on.
    codes: a step of requantized lanes.
    arrived: `LEAD` cycles before the codes. opens, row: in that cycle, without transform: the
        first of a pool window, the last of a scratchpad row.
    write: a scratchpad row, one cycle after the codes that complete it.
    finished: in the cycle of the last row's write.
    """
    return {
        "begin": In(1),
        "stop": In(1),
        "counts": In(COUNT_BITS).array(4),
        "destination": In(ADDRESS_BITS),
        "destination_deltas": In(signed(DELTA_BITS)).array(5),
        "arrived": In(1),
        "codes": In(CODE).array(config.lanes.requantize),
        "opens": In(1),
        "row": In(1),
        "write": Out(activation_write(config)),
        "finished": Out(1),
    }


class RowAssembly(wiring.Component):
    """Running maximum per channel, rotating by one step; whole rows are written.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    As in `assembly_members`.
    """

    LEAD = 0

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(assembly_members(config))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, steps = self._config.lanes.requantize, self._config.requantize_steps
        per_row = self._config.lane_block // lanes
        row = self.row & self.arrived
        best = [
            [Signal(CODE, name=f"best{s}_{lane}", reset_less=True) for lane in range(lanes)]
            for s in range(steps)
        ]
        with m.If(self.arrived):
            for lane, code in enumerate(self.codes):
                held = best[0][lane]
                m.d.sync += best[-1][lane].eq(Mux(self.opens | (code > held), code, held))
            for older, newer in itertools.pairwise(best):
                m.d.sync += [o.eq(n) for o, n in zip(older, newer, strict=True)]

        blocks = self._config.array.blocks_per_row
        m.submodules.targets = nest = Nest((1 + exact_log2(blocks), *(COUNT_BITS,) * 4))
        m.submodules.target = walker = Walker(5)
        counts = [blocks, *self.counts]
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, counts, strict=True)]
        m.d.comb += [
            port.eq(value)
            for port, value in zip(walker.deltas, self.destination_deltas, strict=True)
        ]
        m.d.comb += [
            nest.load.eq(self.begin),
            nest.step.eq(row),
            walker.load.eq(self.begin),
            walker.step.eq(row),
            walker.advance.eq(nest.advance),
            walker.base.eq(self.destination),
            self.write.address.eq(walker.address),
            self.write.data.eq(Cat(code[:8] for group in best[-per_row:] for code in group)),
        ]
        m.d.sync += [
            self.write.enable.eq(row & ~self.stop),
            self.finished.eq(row & nest.last & ~self.stop),
        ]
        return m

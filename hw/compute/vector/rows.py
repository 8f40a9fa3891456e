"""Rows on their way to the lanes of the vector unit."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import ACTIVATION_READ_LATENCY, ROW_LATENCY
from hw.compute.vector.decode import VectorParameters
from hw.compute.vector.select_network import SelectNetwork
from hw.compute.vector.transposer import Transposer

__all__ = ["ARRIVED", "PICKED", "Rows", "SteppedLines"]

ARRIVED = 1 + ACTIVATION_READ_LATENCY
"""Cycles from a row's address to its bytes at the read port."""
PICKED = ARRIVED + 2
"""Cycles from a step's address to the select network."""
assert ROW_LATENCY == ARRIVED + 3


class SteppedLines:
    """Flags of the steps under way: item k of a line is the flag of cycle a, k cycles later.

    Attributes
    ----------
    present, load, opens, inside: a step; its row's first step; the first row of a window; nothing
        clipped.
    last_n0: n0 is at its last. emits, row: results of the step leave; and end their row.
    """

    present: Value
    load: Value
    opens: Value
    inside: Value
    last_n0: Value
    emits: Value
    row: Value


class Rows:
    """Row registers; elements of a step stand in the lowest lanes in cycle a + ROW_LATENCY.

    Attributes
    ----------
    left, right: rows of source 0 and source 1, the step's elements lowest.
    live: FOLD: lanes that count, in step with `left`.
    """

    def __init__(self, config: AcceleratorConfig, parameters: VectorParameters):
        self._config = config
        self._parameters = parameters
        bits = 8 * config.lane_block
        self.left = Signal(bits, name="left", reset_less=True)
        self.right = Signal(bits, name="right", reset_less=True)
        self.live = Signal(config.lane_block, name="live", reset_less=True)

    def elaborate(
        self, m: Module, first_data: Value, second_data: Value, lines: SteppedLines, offset: Value
    ) -> None:
        """Add the circuit.

        Parameters
        ----------
        first_data, second_data: of the read ports, held until the next read.
        lines: flags of the steps.
        offset: lanes by which the row of cycle a moves upwards.
        """
        p, config = self._parameters, self._config
        lanes, bits = config.lane_block, 8 * config.lane_block
        load = lines.load
        # a + ARRIVED: rows arrive
        first, second = Signal(bits, reset_less=True), Signal(bits, reset_less=True)
        with m.If(load[ARRIVED]):
            fill = p.fill.replicate(lanes)
            m.d.sync += first.eq(Mux(lines.inside[ARRIVED], first_data, fill))
        with m.If(self._second_arrives(load)):
            m.d.sync += second.eq(second_data)
        # one later: lanes move to their place in a packed row; the row before becomes the second
        for stage in range(ARRIVED + 1):
            register = Signal.like(offset, name=f"offset{stage}")
            m.d.sync += register.eq(offset)
            offset = register
        last = Signal(bits, reset_less=True)
        shifted, partner = Signal(bits, reset_less=True), Signal(bits, reset_less=True)
        taken = Signal(lanes, reset_less=True)
        with m.If(load[ARRIVED + 1]):
            m.d.sync += [
                last.eq(first),
                partner.eq(Mux(p.previous, last, second)),
                taken.eq(~C(0, lanes)),
                shifted.eq(first),
            ]
            with m.If(p.shifts):
                mask = Cat(p.pack_lanes > lane for lane in range(lanes))
                m.d.sync += [
                    taken.eq(_shift_lanes(mask, offset, 1)),
                    shifted.eq(_shift_lanes(first, offset, 8, turn=p.folds)),
                ]
        self._merge(m, lines, (shifted, taken, partner))
        if p.folds:
            self._count(m, lines)
            other = Mux(p.permute.serial, second, partner) if config.vector_steps == 1 else second
            self._pick(m, lines, last, other, shifted, offset)

    def _merge(self, m: Module, lines: SteppedLines, rows: tuple[Value, Value, Value]) -> None:
        """A cycle later still: merge with the row so far, which has rotated back to its place."""
        p, lanes = self._parameters, self._config.lane_block
        shifted, taken, partner = rows
        left, right = self.left, self.right
        step = 8 * self._config.lanes.vector
        turned = left.rotate_right(step)
        rest = Mux(lines.opens[ARRIVED + 2], p.pad.replicate(lanes), turned)
        with m.If(lines.load[ARRIVED + 2]):
            merged = [
                Mux(taken[lane], shifted.word_select(lane, 8), rest.word_select(lane, 8))
                for lane in range(lanes)
            ]
            m.d.sync += [left.eq(Cat(merged)), right.eq(partner)]
        with m.Elif(lines.present[ARRIVED + 2]):
            m.d.sync += [left.eq(turned), right.eq(right.rotate_right(step))]

    def network(self) -> SelectNetwork:
        """The select network; its rings are loaded by the parent."""
        return self._network

    def _second_arrives(self, load: Value) -> Value:
        """When source 1 is taken. The port holds it; the select network wants it a cycle late."""
        p = self._parameters
        if not p.folds:
            return load[ARRIVED]
        late: Value = p.permute.serial
        if self._config.vector_steps > 1:
            late = p.permute.active | p.permute.spreads
        return Mux(late, load[ARRIVED + 1], load[ARRIVED])

    def _count(self, m: Module, lines: SteppedLines) -> None:
        live = self.live
        with m.If(lines.load[ARRIVED + 2]):
            m.d.sync += live.eq(
                Mux(lines.last_n0[ARRIVED + 2], self._parameters.fold.counted, ~C(0, len(live)))
            )
        with m.Elif(lines.present[ARRIVED + 2]):
            m.d.sync += live.eq(live.rotate_right(self._config.lanes.vector))

    def _pick(
        self,
        m: Module,
        lines: SteppedLines,
        last: Value,
        other: Value,
        shifted: Value,
        offset: Value,
    ) -> None:
        """Bytes of the select network in a + PICKED; TRANSPOSE: of the tile that is read."""
        p, config = self._parameters, self._config
        lanes, steps = config.lane_block, config.vector_steps
        index = exact_log2(lanes)
        transposes = p.permute.transposes
        m.submodules.transposer = buffer = Transposer(lanes)
        written = lines.load[PICKED] & transposes
        row = Signal(index, name="tile_row", reset_less=True)
        m.d.sync += row.eq(offset)
        half, read_half = Signal(name="tile_half"), Signal(name="read_half")
        # The last row of a tile ends its half.
        with m.If(written & lines.last_n0[PICKED]):
            m.d.sync += half.eq(~half)
        column = Signal(index, name="tile_column")
        step = Signal(range(steps), name="tile_step") if steps > 1 else C(0, 0)
        leaves = lines.emits[PICKED] & transposes
        following = Signal(index, name="next_column")
        m.d.comb += following.eq(column + (leaves & lines.row[PICKED]))
        m.d.sync += column.eq(following)
        with m.If(leaves & lines.row[PICKED] & (column == lanes - 1)):
            m.d.sync += read_half.eq(~read_half)
        if steps > 1:
            with m.If(leaves):
                m.d.sync += step.eq(step + 1)
        m.d.comb += [
            buffer.write.eq(written),
            buffer.half.eq(half),
            buffer.index.eq(row),
            buffer.row.eq(shifted),
            buffer.read_half.eq(read_half),
            buffer.column.eq(following),
        ]
        self._network = m.submodules.network = network = SelectNetwork(lanes, config.lanes.vector)
        width = exact_log2(config.lanes.vector)
        m.d.comb += [
            network.step.eq(Mux(transposes, lines.emits[PICKED], lines.present[PICKED])),
            network.turns.eq(transposes),
            network.shift.eq(column + Cat(C(0, width), step)),
            network.first.eq(Mux(transposes, buffer.read, last)),
            network.second.eq(other),
            network.pad.eq(p.pad),
        ]
        picked = 8 * config.lanes.vector
        with m.If(p.permute.active):
            m.d.sync += self.left[:picked].eq(network.picked)
        with m.If(p.permute.spreads):
            m.d.sync += self.right[:picked].eq(network.picked)


def _shift_lanes(row: Value, lanes: Value, bits: int, *, turn: bool = False) -> Value:
    """Move lanes of some bits upwards by `lanes`, which is below their number.

    What leaves at the top is lost or, with `turn`, comes in at the bottom.
    """
    for bit in range(exact_log2(len(row) // bits)):
        distance = bits << bit
        entering: Any = row[len(row) - distance :] if turn else C(0, distance)
        moved = Cat(entering, row[: len(row) - distance])
        row = Mux(lanes[bit], moved, row)
    return row

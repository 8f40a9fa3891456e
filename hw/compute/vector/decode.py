"""One set of registers for both vector instructions."""

from typing import Any

from amaranth.hdl import C, Module, Mux, Signal, Value, signed

from hw.arch.instructions.elementwise import UNIT_MULTIPLIER, UNIT_SHIFT
from hw.arch.isa import (
    ADDRESS_BITS,
    DELTA_BITS,
    STEP_BITS,
    TABLE_BITS,
    Elementwise,
    ElementwiseOp,
    Opcode,
    Reduce,
    ReduceOp,
)
from hw.common.agu import COUNT_BITS
from hw.common.layouts import instruction_layout
from hw.compute.vector.affine import AFFINE_PARAMETERS, Combine

__all__ = ["AffineInput", "VectorParameters"]

WINDOW_BITS = 8
REDUCE_BIT = (Opcode.REDUCE & ~Opcode.ELEMENTWISE).bit_length() - 1
"""A bit that only REDUCE has: which of the two it is costs no gate in front of 300 registers."""


class AffineInput:
    """What enters the affine pipeline as u."""

    NOTHING, SECOND, PRODUCT, SUM = range(4)


class VectorParameters:
    """Registers of the instruction inside the vector unit, in a form common to both kinds.

    A REDUCE uses all seven loops (window r0, r1, r2, then n0..n3); an ELEMENTWISE uses n0..n3 and
    has a window of one row, of which nothing is clipped.

    Attributes
    ----------
    affine: AFFINE_PARAMETERS.
    operand: `AffineInput`.
    fixed_w: w is `constant_w`, not the element (or the reduced maximum).
    negative_u: u counts negative.
    offset_a, offset_b: subtracted from the elements for products and sums.
    fill: byte that stands for a clipped row.
    """

    def __init__(self) -> None:
        def register(shape: Any, name: str) -> Signal:
            return Signal(shape, name=name, reset_less=True)

        def registers(count: int, shape: Any, name: str) -> list[Signal]:
            return [register(shape, f"{name}{i}") for i in range(count)]

        self.reduce = register(1, "reduce")
        self.op = register(3, "op")
        self.previous = register(1, "previous")
        self.two_sources = register(1, "two_sources")
        self.pack = register(1, "pack")
        self.maximum = register(1, "maximum")
        self.signed = registers(2, 1, "signed")
        self.counts = registers(4, COUNT_BITS, "count")
        self.produced = register(COUNT_BITS, "produced")
        self.window = registers(3, WINDOW_BITS, "window")
        self.source = registers(2, ADDRESS_BITS, "source")
        self.source0_deltas = registers(7, signed(DELTA_BITS), "source0_delta")
        self.source1_deltas = registers(4, signed(DELTA_BITS), "source1_delta")
        self.destination = register(ADDRESS_BITS, "destination")
        self.destination_deltas = registers(4, signed(DELTA_BITS), "destination_delta")
        self.starts = registers(3, signed(11), "start")
        self.steps = registers(3, STEP_BITS, "step")
        self.bounds = registers(3, 11, "bound")
        self.pad = register(8, "pad")
        self.fill = register(8, "fill")
        self.pack_lanes = register(5, "pack_lanes")
        self.table = register(TABLE_BITS, "table")
        self.affine = Signal(AFFINE_PARAMETERS, reset_less=True)
        self.constant = register(signed(25), "constant")
        self.shift_k = register(6, "shift_k")
        self.operand = register(2, "operand")
        self.fixed_w = register(1, "fixed_w")
        self.constant_w = register(signed(9), "constant_w")
        self.negative_u = register(1, "negative_u")
        self.offset_a = register(signed(9), "offset_a")
        self.offset_b = register(signed(9), "offset_b")

    def take(self, payload: Any) -> list[Any]:
        """Statements that load the registers from {opcode, word}."""
        word = payload.word
        layouts = (instruction_layout(Elementwise), instruction_layout(Reduce))
        e, r = (layout(word[: layout.size]) for layout in layouts)
        reduce = payload.opcode[REDUCE_BIT]
        return [*self._nest(reduce, e, r), *self._arithmetic(reduce, e, r)]

    def _nest(self, reduce: Value, e: Any, r: Any) -> list[Any]:
        result = [
            self.reduce.eq(reduce),
            self.op.eq(Mux(reduce, r.op, e.op)),
            self.previous.eq(~reduce & e.previous),
            self.two_sources.eq(~reduce & ~e.previous & (e.op != ElementwiseOp.COPY)),
            self.produced.eq(Mux(reduce, r.counts[0], e.counts[0] - e.previous)),
            self.source[0].eq(Mux(reduce, r.source, e.source0)),
            self.source[1].eq(e.source1),
            self.destination.eq(Mux(reduce, r.destination, e.destination)),
            self.table.eq(Mux(reduce, r.table, e.table)),
            self.pad.eq(r.pad),
            self.pack_lanes.eq(r.pack_lanes),
            self.signed[0].eq(Mux(reduce, r.signed, e.signed[0])),
            self.signed[1].eq(e.signed[1]),
        ]
        for i in range(4):
            result += [
                self.counts[i].eq(Mux(reduce, r.counts[i], e.counts[i])),
                self.source0_deltas[3 + i].eq(
                    Mux(reduce, r.source_deltas[3 + i], e.source0_deltas[i])
                ),
                self.source1_deltas[i].eq(e.source1_deltas[i]),
                self.destination_deltas[i].eq(
                    Mux(reduce, r.destination_deltas[i], e.destination_deltas[i])
                ),
            ]
        for i in range(3):
            result += [
                self.window[i].eq(Mux(reduce, r.window[i], 1)),
                self.source0_deltas[i].eq(r.source_deltas[i]),
                self.starts[i].eq(r.starts[i]),
                self.steps[i].eq(r.steps[i]),
                self.bounds[i].eq(r.bounds[i]),
            ]
        return result

    def _arithmetic(self, reduce: Value, e: Any, r: Any) -> list[Any]:
        total = reduce & (r.op == ReduceOp.SUM)
        copy = ~reduce & (e.op == ElementwiseOp.COPY)
        product = ~reduce & (e.op == ElementwiseOp.PRODUCT)
        maximum = ~reduce & (e.op == ElementwiseOp.MAX)
        minimum = ~reduce & (e.op == ElementwiseOp.MIN)
        scaled = ~reduce & ~copy & ~product
        a = self.affine
        pad = (r.pad ^ (r.signed << 7)) - (r.signed << 7)  # the byte as a code
        return [
            self.pack.eq(reduce & (r.op == ReduceOp.PACK)),
            self.maximum.eq(reduce & (r.op == ReduceOp.MAX)),
            # The lowest code loses against every other.
            self.fill.eq(Mux(r.op == ReduceOp.MAX, r.signed << 7, r.pad)),
            a.ra_multiplier.eq(Mux(scaled, e.multiplier_a, UNIT_MULTIPLIER)),
            a.ra_shift.eq(Mux(scaled, e.shift_a, UNIT_SHIFT)),
            a.rb_multiplier.eq(Mux(reduce, r.multiplier, e.multiplier_b)),
            a.rb_shift.eq(Mux(reduce, r.shift, e.shift_b)),
            self.constant.eq(Mux(scaled, e.constant, 0)),
            self.shift_k.eq(e.shift_k),
            a.combine.eq(Mux(maximum, Combine.MAX, Mux(minimum, Combine.MIN, C(Combine.ADD, 2)))),
            a.zero_point.eq(Mux(total, r.zero_point, Mux(scaled, e.zero_point, 0))),
            a.low.eq(Mux(reduce, r.low, e.low)),
            a.high.eq(Mux(reduce, r.high, e.high)),
            self.operand.eq(
                Mux(
                    total,
                    AffineInput.SUM,
                    Mux(product, AffineInput.PRODUCT, Mux(scaled, AffineInput.SECOND, C(0, 2))),
                )
            ),
            self.fixed_w.eq(total | product),
            self.constant_w.eq(Mux(product, e.zero_point, 0)),
            self.negative_u.eq(~reduce & e.negative_b),
            self.offset_a.eq(Mux(reduce, pad, e.multiplier_a[:9].as_signed())),
            self.offset_b.eq(e.constant[:9].as_signed()),
        ]

    def settle(self, m: Module) -> None:
        """K = constant·2^shift, a cycle after `take`."""
        m.d.sync += self.affine.k.eq(self.constant << self.shift_k)

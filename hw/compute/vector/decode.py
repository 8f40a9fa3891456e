"""One set of registers for all vector instructions."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed

from hw.arch.config import AcceleratorConfig
from hw.arch.group_numerics import STANDARD_BITS
from hw.arch.instructions.elementwise import UNIT_MULTIPLIER, UNIT_SHIFT
from hw.arch.isa import (
    ADDRESS_BITS,
    DELTA_BITS,
    FIXED_POINT,
    STEP_BITS,
    TABLE_BITS,
    Elementwise,
    ElementwiseOp,
    Fold,
    FoldOp,
    Opcode,
    Permute,
    PermuteOp,
    Reduce,
    ReduceOp,
)
from hw.common.agu import COUNT_BITS
from hw.common.layouts import instruction_layout
from hw.compute.vector.affine import AFFINE_PARAMETERS, Combine
from hw.compute.vector.fold_decode import FoldParameters, PermuteParameters

__all__ = ["AffineInput", "VectorParameters"]

WINDOW_BITS = 8
REDUCE_BIT = (Opcode.REDUCE & ~Opcode.ELEMENTWISE).bit_length() - 1
"""A bit that ELEMENTWISE has not and REDUCE has: which of the two it is costs no gate in front of
300 registers."""
FOLD_BIT = (Opcode.FOLD & ~Opcode.ELEMENTWISE).bit_length() - 1
"""The same of FOLD; PERMUTE has both. Nests of all but REDUCE lie in one place of the word."""
assert Opcode.PERMUTE == Opcode.ELEMENTWISE | 1 << REDUCE_BIT | 1 << FOLD_BIT
GAIN_SHIFT = FIXED_POINT - STANDARD_BITS
"""Places by which a NORM_APPLY's u·G is shifted where G has no fraction."""


class _Words:
    """Views of an instruction word as each class, and which of them it is.

    Attributes
    ----------
    e, r, f, q: the word as ELEMENTWISE, REDUCE, FOLD, PERMUTE.
    is_elementwise, is_reduce, is_fold, is_permute: exactly one is high.
    spreads: ELEMENTWISE with `spread`.
    """

    def __init__(self, payload: Any, folds: bool):
        layouts = [instruction_layout(kind) for kind in (Elementwise, Reduce, Fold, Permute)]
        self.e, self.r, self.f, self.q = (layout(payload.word[: layout.size]) for layout in layouts)
        reduce, fold = payload.opcode[REDUCE_BIT], payload.opcode[FOLD_BIT]
        if folds:
            self.is_elementwise = ~(reduce | fold)
            self.is_reduce = reduce & ~fold
            self.is_fold, self.is_permute = fold & ~reduce, fold & reduce
            self.spreads = self.is_elementwise & self.e.spread
        else:
            self.is_elementwise, self.is_reduce = ~reduce, reduce
            self.is_fold, self.is_permute, self.spreads = C(0, 1), C(0, 1), C(0, 1)


class AffineInput:
    """What enters the affine pipeline as u."""

    NOTHING, SECOND, PRODUCT, SUM = range(4)
    TOTAL, EXPONENTIAL, SHARED = range(4, 7)
    """Of FOLD: the lane's sum of products, its exponential, the result of all lanes."""


class VectorParameters:
    """Registers of the instruction inside the vector unit, in a form common to all kinds.

    A REDUCE uses all seven loops (window r0, r1, r2, then n0..n3); the others use n0..n3 and have a
    window of one row, of which nothing is clipped.

    Attributes
    ----------
    affine: AFFINE_PARAMETERS.
    operand: `AffineInput`.
    fixed_w: w is `constant_w`, not the element (or the reduced maximum).
    negative_u: u counts negative.
    offset_a, offset_b: subtracted from the elements for products and sums.
    fill: byte that stands for a clipped row.
    shifts: rows move by the lane offset: PACK, TRANSPOSE.
    folds: the circuit has FOLD and PERMUTE. fold, permute: what only they have.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._lanes = config.lane_block
        self.folds = "fold" in config.features
        self.fold = FoldParameters(config)
        self.permute = PermuteParameters(config)

        def register(shape: Any, name: str) -> Signal:
            return Signal(shape, name=name, reset_less=True)

        def registers(count: int, shape: Any, name: str) -> list[Signal]:
            return [register(shape, f"{name}{i}") for i in range(count)]

        self.reduce = register(1, "reduce")
        self.previous = register(1, "previous")
        self.two_sources = register(1, "two_sources")
        self.pack = register(1, "pack")
        self.shifts = register(1, "shifts") if self.folds else self.pack
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
        self.operand = register(3 if self.folds else 2, "operand")
        self.fixed_w = register(1, "fixed_w")
        self.constant_w = register(signed(9), "constant_w")
        self.negative_u = register(1, "negative_u")
        self.offset_a = register(signed(9), "offset_a")
        self.offset_b = register(signed(9), "offset_b")

    def take(self, m: Module, payload: Any) -> None:
        """Load the registers from {opcode, word}; to be called where an instruction is taken."""
        words = _Words(payload, self.folds)
        m.d.sync += [*self._nest(words), *self._arithmetic(words)]
        r = words.r
        with m.If(words.is_reduce & (r.op == ReduceOp.SUM) & r.add_first):
            m.d.sync += [self.affine.zero_point.eq(0), self.constant_w.eq(r.zero_point)]
        if self.folds:
            m.d.sync += self.fold.take(words.is_fold, words.f)
            m.d.sync += self.permute.take(words.is_permute, words.spreads, words.q)
            self._folded(m, words)

    def selection(self, payload: Any) -> tuple[Value, Value]:
        """(select, valid) of the select network for the instruction in `payload`."""
        words = _Words(payload, self.folds)
        return self.permute.selection(words.spreads, words.e.lane, words.q)

    def _nest(self, words: _Words) -> list[Any]:
        reduce, elementwise, e, r = words.is_reduce, words.is_elementwise, words.e, words.r
        result = [
            self.reduce.eq(reduce),
            self.previous.eq(elementwise & e.previous),
            self.two_sources.eq(elementwise & ~e.previous & (e.op != ElementwiseOp.COPY)),
            self.produced.eq(Mux(reduce, r.counts[0], e.counts[0] - (elementwise & e.previous))),
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

    def _arithmetic(self, words: _Words) -> list[Any]:
        reduce, elementwise, e, r = words.is_reduce, words.is_elementwise, words.e, words.r
        total = reduce & (r.op == ReduceOp.SUM)
        product = elementwise & (e.op == ElementwiseOp.PRODUCT)
        maximum = elementwise & (e.op == ElementwiseOp.MAX)
        minimum = elementwise & (e.op == ElementwiseOp.MIN)
        scaled = elementwise & (e.op != ElementwiseOp.COPY) & ~product
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
            self.negative_u.eq(elementwise & e.negative_b),
            self.offset_a.eq(Mux(reduce, pad, e.multiplier_a[:9].as_signed())),
            self.offset_b.eq(e.constant[:9].as_signed()),
        ]

    def _folded(self, m: Module, words: _Words) -> None:
        """What FOLD and PERMUTE change in the common registers."""
        f, q = words.f, words.q
        is_fold, is_permute = words.is_fold, words.is_permute
        a = self.affine

        def op(*operations: FoldOp) -> Value:
            return is_fold & Cat(f.op == operation for operation in operations).any()

        dot, norm = op(FoldOp.DOT), op(FoldOp.NORM_APPLY)
        compares, argmax = op(FoldOp.MAX, FoldOp.ARGMAX), op(FoldOp.ARGMAX)
        softmax = op(FoldOp.SOFTMAX_COLLECT, FoldOp.SOFTMAX_APPLY)
        transposes = is_permute & (q.op == PermuteOp.TRANSPOSE)
        operand = Mux(
            op(FoldOp.SOFTMAX_APPLY),
            AffineInput.EXPONENTIAL,
            Mux(compares | (dot & f.lanes), AffineInput.SHARED, C(AffineInput.TOTAL, 3)),
        )
        m.d.sync += self.shifts.eq((words.is_reduce & (words.r.op == ReduceOp.PACK)) | transposes)
        with m.If(is_fold):
            m.d.sync += [
                self.two_sources.eq(dot | softmax),
                self.table.eq(Mux(softmax | argmax, 0, f.table)),
                a.zero_point.eq(Mux(compares, 0, f.zero_point)),
                a.low.eq(f.low),
                a.high.eq(f.high),
                self.operand.eq(operand),
                self.fixed_w.eq(1),
                self.offset_a.eq(Mux(dot, f.zero_points[0], 0)),
                self.offset_b.eq(Mux(dot, f.zero_points[1], 0)),
            ]
        with m.If(dot | compares):
            m.d.sync += self.produced.eq(1)
        with m.If(compares):  # codes as they are
            m.d.sync += [a.rb_multiplier.eq(UNIT_MULTIPLIER), a.rb_shift.eq(UNIT_SHIFT)]
        with m.If(norm):
            m.d.sync += a.ra_shift.eq(GAIN_SHIFT - f.coefficient_shift)
        with m.If(is_permute):
            m.d.sync += [
                self.two_sources.eq(self.permute.two_sources(q)),
                self.table.eq(0),
                self.signed[0].eq(0),
                self.pad.eq(q.pad),
            ]
        with m.If(is_permute | argmax):
            m.d.sync += [a.low.eq(0), a.high.eq(255)]
        with m.If(transposes):
            m.d.sync += [self.pack_lanes.eq(1), self.produced.eq(self._lanes)]

    def settle(self, m: Module) -> None:
        """K = constant·2^shift, a cycle after `take`."""
        m.d.sync += self.affine.k.eq(self.constant << self.shift_k)

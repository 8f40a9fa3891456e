"""Registers of the vector unit for what only FOLD and PERMUTE have."""

from typing import Any

from amaranth.hdl import C, Cat, Mux, Signal, Value
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.instructions.fold import STATISTICS
from hw.arch.instructions.permute import SELECTED
from hw.arch.isa import FoldOp, PermuteOp
from hw.common.agu import COUNT_BITS

__all__ = ["ELEMENT_BITS", "EPSILON_BITS", "FoldParameters", "PermuteParameters"]

ELEMENT_BITS = 11
EPSILON_BITS = 34


def _flag(name: str) -> Signal:
    return Signal(name=name, reset_less=True)


class FoldParameters:
    """What a FOLD does; all low where the instruction is another one.

    Attributes
    ----------
    active: it is a FOLD.
    lanewise: DOT, a result in every lane.
    shared: one result per group, from the lanes' common sums: DOT with `lanes`, MAX, ARGMAX.
    grouped: a row per group is written: DOT, MAX, ARGMAX.
    compares: MAX and ARGMAX. argmax: ARGMAX.
    gather: results of consecutive groups become lanes.
    softmax: exponentials are looked up. collects: a collecting pass. applies: an applying one.
    square: NORM_COLLECT. norm: NORM_APPLY.
    paced: a collecting pass whose sums are complete: the engine works on every group.
    first: sums are cleared.
    entry: of the first group.
    elements: of a group. epsilon: E0.
    counted: lanes that count in the last n0.
    exponentials: table slot of the exponentials.
    """

    def __init__(self, config: AcceleratorConfig):
        self._lanes = config.lane_block
        self.active = _flag("fold")
        self.lanewise = _flag("lanewise")
        self.shared = _flag("shared")
        self.grouped = _flag("grouped")
        self.compares = _flag("compares")
        self.argmax = _flag("argmax")
        self.gather = _flag("gather")
        self.softmax = _flag("softmax")
        self.collects = _flag("collects")
        self.applies = _flag("applies")
        self.square = _flag("square")
        self.norm = _flag("norm")
        self.paced = _flag("paced")
        self.first = _flag("first_pass")
        self.entry = Signal(exact_log2(STATISTICS), name="entry", reset_less=True)
        self.elements = Signal(ELEMENT_BITS, name="elements", reset_less=True)
        self.epsilon = Signal(EPSILON_BITS, name="epsilon", reset_less=True)
        self.counted = Signal(self._lanes, name="counted", reset_less=True)
        self.exponentials = Signal(4, name="exponentials", reset_less=True)
        self.rows = Signal(COUNT_BITS, name="rows_of_groups", reset_less=True)

    def take(self, is_fold: Value, f: Any) -> list[Any]:
        """Statements that load the registers from a view of `Fold`."""

        def op(*operations: FoldOp) -> Value:
            return is_fold & Cat(f.op == operation for operation in operations).any()

        dot = op(FoldOp.DOT)
        compares = op(FoldOp.MAX, FoldOp.ARGMAX)
        collects = op(FoldOp.SOFTMAX_COLLECT, FoldOp.NORM_COLLECT)
        norm = op(FoldOp.NORM_APPLY)
        lane_bits = exact_log2(self._lanes)
        gathered = (f.counts[2] + (self._lanes - 1)) >> lane_bits
        return [
            self.active.eq(is_fold),
            self.lanewise.eq(dot & ~f.lanes),
            self.shared.eq((dot & f.lanes) | compares),
            self.grouped.eq(dot | compares),
            self.compares.eq(compares),
            self.argmax.eq(op(FoldOp.ARGMAX)),
            self.gather.eq((dot | compares) & f.gather),
            self.softmax.eq(op(FoldOp.SOFTMAX_COLLECT, FoldOp.SOFTMAX_APPLY)),
            self.collects.eq(collects),
            self.applies.eq(op(FoldOp.SOFTMAX_APPLY, FoldOp.NORM_APPLY)),
            self.square.eq(op(FoldOp.NORM_COLLECT)),
            self.norm.eq(norm),
            self.paced.eq(collects & f.last),
            self.first.eq(f.first),
            self.entry.eq(f.entry),
            self.elements.eq(f.elements),
            self.epsilon.eq(f.epsilon),
            self.counted.eq(
                Cat((f.valid == 0) | (f.valid > lane) | norm for lane in range(self._lanes))
            ),
            self.exponentials.eq(f.table - 1),
            self.rows.eq(Mux(f.gather & (dot | compares), gathered, f.counts[2])),
        ]


class PermuteParameters:
    """What a PERMUTE does; all low where the instruction is another one.

    Attributes
    ----------
    active: it is a PERMUTE. transposes: TRANSPOSE.
    serial: source 1 is read a cycle late.
    weights: results are beats of the weight scratchpad.
    spreads: ELEMENTWISE with `spread`, whose source 1 passes through the select network.
    """

    def __init__(self, config: AcceleratorConfig):
        self._lanes = config.lane_block
        self._selectable = range(min(config.lane_block, SELECTED))
        self.active = _flag("permute")
        self.transposes = _flag("transposes")
        self.serial = _flag("serial")
        self.weights = _flag("weights")
        self.spreads = _flag("spreads")

    def take(self, is_permute: Value, spreads: Value, q: Any) -> list[Any]:
        """Statements that load the registers from a view of `Permute`."""
        return [
            self.active.eq(is_permute),
            self.transposes.eq(is_permute & (q.op == PermuteOp.TRANSPOSE)),
            self.serial.eq(is_permute & q.serial),
            self.weights.eq(is_permute & q.space),
            self.spreads.eq(spreads),
        ]

    def two_sources(self, q: Any) -> Value:
        """Whether a SELECT reads source 1: a valid lane selects one of its bytes."""
        index = exact_log2(self._lanes)
        if self._lanes > SELECTED:
            return C(0, 1)  # PERMUTE is refused
        wanted = Cat(q.valid[lane] & q.select[lane][index] for lane in self._selectable)
        return (q.op == PermuteOp.SELECT) & wanted.any()

    def selection(self, spreads: Value, lane: Value, q: Any) -> tuple[Value, Value]:
        """(select, valid) of the network, per lane."""
        index = exact_log2(self._lanes)
        spread = Cat(lane[:index], 1)
        transposed = q.op == PermuteOp.TRANSPOSE
        select = [Mux(spreads, spread, q.select[k][: index + 1]) for k in self._selectable]
        valid = [spreads | Mux(transposed, q.counts[0] > k, q.valid[k]) for k in self._selectable]
        beyond = self._lanes - len(self._selectable)  # PERMUTE is refused, `spread` is not
        return Cat(*select, *[spread] * beyond), Cat(*valid, *[spreads] * beyond)

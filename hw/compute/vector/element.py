"""One lane of the vector unit: operands, reduction, affine pipeline, table lookup."""

import itertools

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import AFFINE_LATENCY, ELEMENT_LATENCY, TABLE_LATENCY
from hw.common.ports import WriteSignature
from hw.compute.vector.affine import BIAS_BITS, GAIN_BITS, U_BITS, AffineLane
from hw.compute.vector.decode import AffineInput, VectorParameters

__all__ = [
    "EXPONENT_BITS",
    "GROUP_SUM_BITS",
    "LANE_LATENCY",
    "TERM_BITS",
    "ElementLane",
    "table_write_signature",
]

LANE_LATENCY = ELEMENT_LATENCY + AFFINE_LATENCY + TABLE_LATENCY
DIFFERENCE_BITS = 10
SCALED_BITS = 12
"""Signed, of the number of elements with which a norm multiplies."""
EXPONENT_BITS = 21
GROUP_SUM_BITS = 19
"""Signed, of a sum over the elements of a norm."""
TERM_BITS = DIFFERENCE_BITS + SCALED_BITS
"""Signed, of a product of two differences; an exponential is narrower."""


def table_write_signature(config: AcceleratorConfig) -> WriteSignature:
    """Beats of the lookup tables, all tables in a row."""
    beats = config.memory.tables * config.table_beats
    return WriteSignature(exact_log2(beats), 8 * config.port.bytes)


class ElementLane(wiring.Component):
    """Two bytes per cycle in, one byte out.

    Handshake: none; the parent's valid lines enable the stages.
    Latency: LANE_LATENCY cycles; of FOLD, stages wait for what lies beside the lane.

    Parameters
    ----------
    config: the accelerator.
    parameters: registers of the instruction, shared by all lanes.

    Members
    -------
    present: bit k: stage k of the first two (FOLD: four) holds an element.
    opens: bit k of the same line; bit 1: the first element of a window is in stage 1.
    emits: bit k: stage k holds an element whose result leaves (the last one of its window).
    left, right: bytes of source 0 and source 1.
    table_write: fills the lane's copy of the tables.
    result: byte to store.

    With the feature fold:

    live: the element counts.
    minus_sum: NORM_APPLY: negative sum of the group whose element is in stage 2.
    shared: result of all lanes, when `emits` bit 2 takes it.
    factor, factor_shift: scale of u, in the cycles in which the affine pipeline takes them.
    first_stages: enables of its stages 6 and 7 for w.
    gain, bias: NORM_APPLY: G and B, in the cycles in which the affine pipeline takes them.
    term: a product in stage 2, an exponential in stage 3, or zero where the element does not count.
    element: in stage 2; zero (compared: below every code) where it does not count.
    """

    def __init__(self, config: AcceleratorConfig, parameters: VectorParameters):
        self._config = config
        self._parameters = parameters
        folds = parameters.folds
        fold_members = {
            "live": In(1),
            "minus_sum": In(signed(GROUP_SUM_BITS)),
            "shared": In(signed(U_BITS)),
            "factor": In(24),
            "factor_shift": In(5),
            "first_stages": In(2),
            "gain": In(signed(GAIN_BITS)),
            "bias": In(signed(BIAS_BITS)),
            "term": Out(signed(TERM_BITS)),
            "element": Out(signed(9)),
        }
        super().__init__(
            {
                "present": In(4 if folds else 2),
                "opens": In(3 if folds else 2),
                "emits": In(LANE_LATENCY),
                "left": In(8),
                "right": In(8),
                "table_write": In(table_write_signature(config)),
                "result": Out(8),
                **(fold_members if folds else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        folds = self._parameters.folds
        u = Signal(signed(U_BITS), name="u", reset_less=True)
        w = Signal(signed(9), name="w", reset_less=True)
        m.submodules.affine = affine = AffineLane(normalises=folds)
        distance = self._distance(m) if folds else None
        beat = self._look_up(m, affine.code, distance)
        exponential = C(0, 1) if distance is None else self._exponential(m, distance, beat)
        self._operands(m, u, w, exponential)
        m.d.comb += [
            affine.stages.eq(self.emits[ELEMENT_LATENCY:]),
            affine.u.eq(u),
            affine.w.eq(w),
            affine.parameters.eq(self._parameters.affine),
        ]
        if folds:
            m.d.comb += [
                affine.normal.eq(self._parameters.fold.norm),
                affine.first_stages.eq(self.first_stages),
                affine.gain.eq(self.gain),
                affine.bias.eq(self.bias),
                affine.parameters.rb_multiplier.eq(self.factor),
                affine.parameters.rb_shift.eq(self.factor_shift),
            ]
        return m

    def _differences(self, m: Module) -> tuple[Signal, Signal, Signal, Signal]:
        """First stage: both elements, and what is multiplied."""
        p = self._parameters
        a, b = (
            Cat(byte, byte[7] & is_signed).as_signed()
            for byte, is_signed in ((self.left, p.signed[0]), (self.right, p.signed[1]))
        )
        factor_bits = SCALED_BITS if p.folds else DIFFERENCE_BITS
        value_a, value_b = Signal(signed(9), reset_less=True), Signal(signed(9), reset_less=True)
        difference_a = Signal(signed(DIFFERENCE_BITS), reset_less=True)
        difference_b = Signal(signed(factor_bits), reset_less=True)
        second: Value = b - p.offset_b
        if p.folds:
            f = p.fold
            second = Mux(f.norm, f.elements, Mux(f.square, a, b) - p.offset_b)
        with m.If(self.present[0]):
            m.d.sync += [value_a.eq(a), difference_a.eq(a - p.offset_a)]
            m.d.sync += [value_b.eq(b), difference_b.eq(second)]
        return value_a, value_b, difference_a, difference_b

    def _operands(self, m: Module, u: Signal, w: Signal, exponential: Value) -> None:
        """Three stages: differences; product, sum or maximum; choice."""
        p = self._parameters
        value_a, value_b, difference_a, difference_b = self._differences(m)
        # One accumulator for each step of a row; they rotate, so that no multiplexer is needed.
        held = [
            Signal(signed(U_BITS), name=f"held{s}", reset_less=True)
            for s in range(self._config.vector_steps)
        ]
        product = Signal(signed(DIFFERENCE_BITS + len(difference_b)), reset_less=True)
        element, other = Signal(signed(9), reset_less=True), Signal(signed(9), reset_less=True)
        before = held[0]
        greatest = Mux(self.opens[1] | (value_a > before), value_a, before)
        with m.If(self.present[1]):
            m.d.sync += [
                product.eq(difference_a * difference_b),
                element.eq(value_a),
                other.eq(value_b),
            ]
        total: Value
        if p.folds:
            total, adds = self._total(m, before, difference_a, product, element, exponential)
        else:
            total, adds = Mux(self.opens[1], 0, before) + difference_a, self.present[1]
        with m.If(adds):
            m.d.sync += held[-1].eq(Mux(p.maximum, greatest, total))
            m.d.sync += [older.eq(newer) for older, newer in itertools.pairwise(held)]

        chosen = Signal(signed(U_BITS))
        with m.Switch(p.operand):
            with m.Case(AffineInput.SECOND):
                m.d.comb += chosen.eq(other)
            with m.Case(AffineInput.PRODUCT):
                m.d.comb += chosen.eq(product)
            with m.Case(AffineInput.SUM):
                m.d.comb += chosen.eq(held[-1])
            if p.folds:
                with m.Case(AffineInput.EXPONENTIAL):
                    m.d.comb += chosen.eq(self.term)
                with m.Case(AffineInput.SHARED):
                    m.d.comb += chosen.eq(self.shared)
        negated: Value = Mux(p.negative_u, -chosen, chosen)
        if p.folds:
            negated = Mux(p.operand == AffineInput.TOTAL, total, negated)
        with m.If(self.emits[2]):
            m.d.sync += [
                u.eq(negated),
                w.eq(Mux(p.fixed_w, p.constant_w, Mux(p.maximum, held[-1], element))),
            ]

    def _total(
        self,
        m: Module,
        before: Value,
        difference: Value,
        product: Value,
        element: Value,
        exponential: Value,
    ) -> tuple[Value, Value]:
        """(sum, when it is kept): of differences in stage 1, of products in stage 2.

        NORM_APPLY: n·x less the sum of its group.
        """
        f = self._parameters.fold
        live = Signal(3, name="live_line", reset_less=True)
        m.d.sync += live.eq(Cat(self.live, live)[:3])
        counted = (product.as_unsigned() & live[1].replicate(len(product))).as_signed()
        kept = exponential & live[2].replicate(len(exponential))
        m.d.comb += [
            self.element.eq(
                Mux(live[1], element, Mux(f.compares, C(-256, signed(9)), C(0, signed(9))))
            ),
            self.term.eq(Mux(f.softmax, kept, counted)),
        ]
        opens = Mux(f.active, self.opens[2], self.opens[1])
        base = Mux(f.norm, self.minus_sum, Mux(opens, C(0, signed(U_BITS)), before))
        added = Mux(f.active, counted, difference)
        total = Signal(signed(U_BITS), name="total")
        m.d.comb += total.eq(base + added)
        return total, Mux(f.active, self.present[2], self.present[1])

    def _distance(self, m: Module) -> Signal:
        """First stage: by how much the element lies below the maximum, modulo 256."""
        distance = Signal(8, name="distance", reset_less=True)
        with m.If(self.present[0]):
            m.d.sync += distance.eq(self.right - self.left)
        return distance

    def _exponential(self, m: Module, distance: Signal, beat: Value) -> Value:
        """Word of the table in stage 3; also the choice of `term`."""
        word_bits = exact_log2(self._config.port.bytes) - 2
        for stage in range(1, 3):
            low = Signal(word_bits, name=f"distance{stage}", reset_less=True)
            m.d.sync += low.eq(distance)
            distance = low
        words = Value.cast(beat)
        return (
            words.word_select(distance, 32)[:EXPONENT_BITS] if word_bits else words[:EXPONENT_BITS]
        )

    def _look_up(self, m: Module, code: Value, distance: Signal | None) -> Value:
        """Three stages: read the beat that holds the entry, a register, choose its byte.

        For a softmax the same port reads the exponential in stage 1. Returns the register.
        """
        p, config = self._parameters, self._config
        byte_bits = exact_log2(config.port.bytes)
        beats = config.memory.tables * config.table_beats
        m.submodules.tables = tables = memory.Memory(
            shape=data.ArrayLayout(8, config.port.bytes), depth=beats, init=[]
        )
        write, read = tables.write_port(), tables.read_port()
        looked_up = p.table != 0
        stage = ELEMENT_LATENCY + AFFINE_LATENCY
        reads: Value = self.emits[stage] & looked_up
        keeps: Value = self.emits[stage + 1]
        address: Value = Cat(code[byte_bits:8], p.table - 1)
        if distance is not None:
            f = p.fold
            place = distance[byte_bits - 2 :]
            inside = 8 - byte_bits  # bits of a beat's number in its slot
            word = Cat(place[:inside], f.exponentials + place[inside:])
            reads = Mux(f.softmax, self.present[1], reads)
            keeps = Mux(f.softmax, self.present[2], keeps)
            address = Mux(f.softmax, word, address)
        m.d.comb += [
            write.en.eq(self.table_write.enable),
            write.addr.eq(self.table_write.address),
            write.data.eq(self.table_write.data),
            read.en.eq(reads),
            read.addr.eq(address),
        ]
        plain = [Signal(8, name=f"plain{k}", reset_less=True) for k in range(2)]
        beat = Signal.like(read.data, name="beat", reset_less=True)
        with m.If(self.emits[stage]):
            m.d.sync += plain[0].eq(code)
        with m.If(self.emits[stage + 1]):
            m.d.sync += plain[1].eq(plain[0])
        with m.If(keeps):
            m.d.sync += beat.eq(read.data)
        with m.If(self.emits[stage + 2]):
            m.d.sync += self.result.eq(Mux(looked_up, beat[plain[1][:byte_bits]], plain[1]))
        return Value.cast(beat)

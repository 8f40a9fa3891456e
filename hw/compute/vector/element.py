"""One lane of the vector unit: operands, reduction, affine pipeline, table lookup."""

import itertools

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import AFFINE_LATENCY, ELEMENT_LATENCY, TABLE_LATENCY
from hw.common.ports import WriteSignature
from hw.compute.vector.affine import U_BITS, AffineLane
from hw.compute.vector.decode import AffineInput, VectorParameters

__all__ = ["LANE_LATENCY", "ElementLane", "table_write_signature"]

LANE_LATENCY = ELEMENT_LATENCY + AFFINE_LATENCY + TABLE_LATENCY
DIFFERENCE_BITS = 10


def table_write_signature(config: AcceleratorConfig) -> WriteSignature:
    """Beats of the lookup tables, all tables in a row."""
    beats = config.memory.tables * config.table_beats
    return WriteSignature(exact_log2(beats), 8 * config.port.bytes)


class ElementLane(wiring.Component):
    """Two bytes per cycle in, one byte out.

    Handshake: none; the parent's valid lines enable the stages.
    Latency: LANE_LATENCY cycles.

    Parameters
    ----------
    config: the accelerator.
    parameters: registers of the instruction, shared by all lanes.

    Members
    -------
    present: bit k: stage k of the first two holds an element.
    opens: bit 1 of the same line: the first element of a window is in stage 1.
    emits: bit k: stage k holds an element whose result leaves (the last one of its window).
    left, right: bytes of source 0 and source 1.
    table_write: fills the lane's copy of the tables.
    result: byte to store.
    """

    def __init__(self, config: AcceleratorConfig, parameters: VectorParameters):
        self._config = config
        self._parameters = parameters
        super().__init__(
            {
                "present": In(2),
                "opens": In(1),
                "emits": In(LANE_LATENCY),
                "left": In(8),
                "right": In(8),
                "table_write": In(table_write_signature(config)),
                "result": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        u, w = self._operands(m)
        m.submodules.affine = affine = AffineLane()
        m.d.comb += [
            affine.stages.eq(self.emits[ELEMENT_LATENCY:]),
            affine.u.eq(u),
            affine.w.eq(w),
            affine.parameters.eq(self._parameters.affine),
        ]
        self._look_up(m, affine.code)
        return m

    def _operands(self, m: Module) -> tuple[Value, Value]:
        """Three stages: differences; product, sum or maximum; choice."""
        p = self._parameters
        a, b = (
            Cat(byte, byte[7] & is_signed).as_signed()
            for byte, is_signed in ((self.left, p.signed[0]), (self.right, p.signed[1]))
        )
        value_a, value_b = Signal(signed(9), reset_less=True), Signal(signed(9), reset_less=True)
        difference_a = Signal(signed(DIFFERENCE_BITS), reset_less=True)
        difference_b = Signal(signed(DIFFERENCE_BITS), reset_less=True)
        with m.If(self.present[0]):
            m.d.sync += [value_a.eq(a), difference_a.eq(a - p.offset_a)]
            m.d.sync += [value_b.eq(b), difference_b.eq(b - p.offset_b)]

        # One accumulator for each step of a row; they rotate, so that no multiplexer is needed.
        held = [
            Signal(signed(U_BITS), name=f"held{s}", reset_less=True)
            for s in range(self._config.vector_steps)
        ]
        product = Signal(signed(2 * DIFFERENCE_BITS), reset_less=True)
        element, other = Signal(signed(9), reset_less=True), Signal(signed(9), reset_less=True)
        before = held[0]
        greatest = Mux(self.opens | (value_a > before), value_a, before)
        total = Mux(self.opens, 0, before) + difference_a
        with m.If(self.present[1]):
            m.d.sync += [
                product.eq(difference_a * difference_b),
                element.eq(value_a),
                other.eq(value_b),
                held[-1].eq(Mux(p.maximum, greatest, total)),
            ]
            m.d.sync += [older.eq(newer) for older, newer in itertools.pairwise(held)]

        u, w = Signal(signed(U_BITS), reset_less=True), Signal(signed(9), reset_less=True)
        chosen = Signal(signed(U_BITS))
        with m.Switch(p.operand):
            with m.Case(AffineInput.SECOND):
                m.d.comb += chosen.eq(other)
            with m.Case(AffineInput.PRODUCT):
                m.d.comb += chosen.eq(product)
            with m.Case(AffineInput.SUM):
                m.d.comb += chosen.eq(held[-1])
        with m.If(self.emits[2]):
            m.d.sync += [
                u.eq(Mux(p.negative_u, -chosen, chosen)),
                w.eq(Mux(p.fixed_w, p.constant_w, Mux(p.maximum, held[-1], element))),
            ]
        return u, w

    def _look_up(self, m: Module, code: Value) -> None:
        """Three stages: read the beat that holds the entry, a register, choose its byte."""
        p, config = self._parameters, self._config
        byte_bits = exact_log2(config.port.bytes)
        beats = config.memory.tables * config.table_beats
        m.submodules.tables = tables = memory.Memory(
            shape=data.ArrayLayout(8, config.port.bytes), depth=beats, init=[]
        )
        write, read = tables.write_port(), tables.read_port()
        looked_up = p.table != 0
        stage = ELEMENT_LATENCY + AFFINE_LATENCY
        m.d.comb += [
            write.en.eq(self.table_write.enable),
            write.addr.eq(self.table_write.address),
            write.data.eq(self.table_write.data),
            read.en.eq(self.emits[stage] & looked_up),
            read.addr.eq(Cat(code[byte_bits:8], p.table - 1)),
        ]
        plain = [Signal(8, name=f"plain{k}", reset_less=True) for k in range(2)]
        beat = Signal.like(read.data, name="beat", reset_less=True)
        with m.If(self.emits[stage]):
            m.d.sync += plain[0].eq(code)
        with m.If(self.emits[stage + 1]):
            m.d.sync += [plain[1].eq(plain[0]), beat.eq(read.data)]
        with m.If(self.emits[stage + 2]):
            m.d.sync += self.result.eq(Mux(looked_up, beat[plain[1][:byte_bits]], plain[1]))

"""What the lanes of a FOLD have in common: sums, statistics, the engine, coefficients."""

from amaranth.hdl import C, Module, Mux, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.compute.parts.latch import delayed
from hw.compute.vector.affine import BIAS_BITS, GAIN_BITS, U_BITS
from hw.compute.vector.coefficients import Coefficients
from hw.compute.vector.decode import VectorParameters
from hw.compute.vector.element import GROUP_SUM_BITS, TERM_BITS
from hw.compute.vector.fold_sums import FoldSums
from hw.compute.vector.reciprocal import RECIPROCAL_BITS, SHIFT_BITS, ReciprocalEngine
from hw.compute.vector.statistics import Statistics

__all__ = ["FoldEngine"]


class FoldEngine(wiring.Component):
    """Sums over lanes and steps, and what is made of them.

    Handshake: none; strobes of the parent.
    Latency: a group's result is there, and `done`, FoldSums.latency cycles after its last step.

    Parameters
    ----------
    config: the accelerator.
    parameters: registers of the instruction.

    Members
    -------
    begin: an instruction begins.
    present, opens, closes, ends: a step brings terms; it is the first, the last of its group; with
        `gather`, its result ends a row.
    terms, elements: per lane of the step.
    done: a result of all lanes is there. ends_row: it ends a row.
    results: per lane: the sum, the largest element, or the index byte by byte.
    following, again: applying: turn of the next group, of the first one.
    minus_sum, factor, factor_shift: of the group, as `Statistics` gives them.
    fetched, row: a row of coefficients. step, first: of elements, as `Coefficients` takes them.
    gains, biases: per lane.

    Tested range: tests/hw/compute/vector/test_fold.py.
    """

    def __init__(self, config: AcceleratorConfig, parameters: VectorParameters):
        self._config = config
        self._parameters = parameters
        width = config.lanes.vector
        super().__init__(
            {
                "begin": In(1),
                "present": In(1),
                "opens": In(1),
                "closes": In(1),
                "ends": In(1),
                "terms": In(data.ArrayLayout(signed(TERM_BITS), width)),
                "elements": In(data.ArrayLayout(signed(9), width)),
                "done": Out(1),
                "ends_row": Out(1),
                "results": Out(data.ArrayLayout(signed(U_BITS), width)),
                "following": In(1),
                "again": In(1),
                "minus_sum": Out(signed(GROUP_SUM_BITS)),
                "factor": Out(RECIPROCAL_BITS),
                "factor_shift": Out(SHIFT_BITS),
                "fetched": In(1),
                "row": In(8 * config.lane_block),
                "step": In(1),
                "first": In(1),
                "gains": Out(data.ArrayLayout(signed(GAIN_BITS), width)),
                "biases": Out(data.ArrayLayout(signed(BIAS_BITS), width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        f = self._parameters.fold
        width = self._config.lanes.vector
        m.submodules.sums = sums = FoldSums(width)
        m.d.comb += [
            sums.present.eq(self.present),
            sums.opens.eq(self.opens),
            sums.closes.eq(self.closes),
            sums.terms.eq(self.terms),
            sums.elements.eq(self.elements),
            self.done.eq(sums.done & f.shared),
            self.ends_row.eq(delayed(m, self.ends, sums.latency, "ends")),
        ]
        for lane in range(width):
            byte = sums.index.word_select(lane, 8) if lane < 2 else C(0, 8)
            compared = Mux(f.argmax, byte, sums.largest)
            m.d.comb += self.results[lane].eq(Mux(f.compares, compared, sums.total))
        self._groups(m, sums)
        self._coefficients(m)
        return m

    def _groups(self, m: Module, sums: FoldSums) -> None:
        """Statistics, and the engine at work on them."""
        p = self._parameters
        f = p.fold
        m.submodules.statistics = statistics = Statistics()
        m.submodules.engine = engine = ReciprocalEngine()
        m.d.comb += [
            statistics.begin.eq(self.begin),
            statistics.entry.eq(f.entry),
            statistics.add.eq(sums.done & f.collects),
            statistics.first.eq(f.first),
            statistics.last.eq(f.paced),
            statistics.total.eq(sums.total),
            statistics.elements_total.eq(sums.elements_total),
            statistics.following.eq(self.following),
            statistics.again.eq(self.again),
            statistics.applies.eq(f.applies),
            statistics.fixed.eq(p.affine.rb_multiplier),
            statistics.fixed_shift.eq(p.affine.rb_shift),
            engine.start.eq(statistics.start),
            engine.norm.eq(f.square),
            engine.elements.eq(f.elements),
            engine.factor.eq(p.affine.rb_multiplier),
            engine.epsilon.eq(f.epsilon),
            engine.total.eq(statistics.group_total),
            engine.elements_total.eq(statistics.group_sum),
            statistics.found.eq(engine.done),
            statistics.reciprocal_found.eq(engine.reciprocal),
            statistics.shift_found.eq(engine.shift),
            statistics.sum_found.eq(engine.sum),
            self.minus_sum.eq(statistics.minus_sum),
            self.factor.eq(statistics.reciprocal),
            self.factor_shift.eq(statistics.shift),
        ]

    def _coefficients(self, m: Module) -> None:
        config = self._config
        m.submodules.coefficients = held = Coefficients(config.lane_block, config.lanes.vector)
        m.d.comb += [
            held.begin.eq(self.begin),
            held.take.eq(self.fetched),
            held.row.eq(self.row),
            held.step.eq(self.step),
            held.first.eq(self.first),
            self.gains.eq(held.gains),
            self.biases.eq(held.biases),
        ]

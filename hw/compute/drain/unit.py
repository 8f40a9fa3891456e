"""DRAIN: accumulators to activation rows."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Drain, ErrorCode
from hw.arch.timing import ACCUMULATOR_READ_LATENCY, REQUANTIZE_LATENCY
from hw.common.layouts import instruction_layout
from hw.common.ports import UnitSignature, accumulator_read, activation_write, parameter_read
from hw.compute.drain.output_transform import OutputTransform
from hw.compute.drain.parameters import REGISTERS_LEAD, DrainParameters
from hw.compute.drain.requantize import RequantizeLane
from hw.compute.drain.rows import RowAssembly
from hw.compute.drain.tiles import TileAssembly
from hw.compute.drain.walk import DrainWalk, sections
from hw.compute.parts.latch import Fields, delayed
from hw.compute.parts.select import chosen

__all__ = ["DrainUnit"]

FIELDS = (
    "accumulator", "counts", "window", "accumulator_deltas", "destination", "destination_deltas",
    "parameter", "zero_point", "low", "high", "transform_t", "transform_s",
)  # fmt: skip


class DrainUnit(wiring.Component):
    """Requantizes accumulator rows, keeps the maximum of each pool window, writes rows.

    With the feature hfa, instructions with a transform take points of tiles through the output
    transform first (isa.Drain).

    Handshake: an instruction is accepted while none is inside; `done` in the cycle of the last
    row's write. Never stalls.
    Latency: timing.drain_duration.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    unit: queue side.
    accumulator: accumulator rows, data ACCUMULATOR_READ_LATENCY cycles after `enable`.
    parameter: parameter rows, data one cycle after `enable`.
    write: rows of the activation scratchpad.

    Tested range: tests/hw/compute/drain/test_drain.py, test_drain_tiles.py.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._lanes = config.lanes.requantize
        self._steps = config.requantize_steps
        self._hfa = "hfa" in config.features
        super().__init__(
            {
                "unit": Out(UnitSignature(instruction_layout(Drain))),
                "accumulator": Out(accumulator_read(config)),
                "parameter": Out(parameter_read(config)),
                "write": Out(activation_write(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._fields = f = Fields(instruction_layout(Drain), FIELDS)
        self._begin, self._finished = Signal(), Signal()
        self._tiles = Signal()
        if self._hfa:
            # A register: right from the cycle after `begin` on, long before the first point comes.
            m.d.sync += self._tiles.eq((f.transform_t | f.transform_s).any())
        self._issue(m)
        self._walk = self._source(m)
        self._accumulator_line(m)
        taken = self._taken(m)
        valid, values, divided = self._valid[ACCUMULATOR_READ_LATENCY], taken, None
        if self._hfa:
            valid, values, divided = self._transform(m, valid, taken)
        parameters = self._parameters(m, divided)
        codes = self._requantize(m, valid, values, parameters)
        self._assemble(m, codes)
        return m

    def _issue(self, m: Module) -> None:
        """An instruction is accepted in cycle t; `begin` is high in t + 1."""
        unit, begin = self.unit, self._begin
        self._active = active = Signal()
        misaligned = Signal()
        m.d.comb += [
            unit.instruction.ready.eq(~active & ~unit.abort),
            unit.busy.eq(active),
            unit.done.eq(self._finished),
            misaligned.eq(
                self._fields.parameter[: exact_log2(self._config.parameter_row_beats)].any()
            ),
        ]
        m.d.sync += [begin.eq(0), unit.error.eq(0)]
        with m.If(unit.instruction.valid & unit.instruction.ready):
            m.d.sync += self._fields.take(unit.instruction.payload)
            m.d.sync += [active.eq(1), begin.eq(1)]
        overflow = self.accumulator.address[
            exact_log2(self._config.memory.accumulator_rows) + 1 :
        ].any()
        refused = begin & misaligned
        with m.If(refused | (self.accumulator.enable & overflow)):
            m.d.sync += unit.error.eq(ErrorCode.ADDRESS.value)
        self._started = begin & ~misaligned
        with m.If(self._finished | unit.abort | refused):
            m.d.sync += active.eq(0)

    def _source(self, m: Module) -> DrainWalk:
        """Accumulator addresses; cycle a is that of the address."""
        f = self._fields
        m.submodules.walk = walk = DrainWalk(self._config)
        m.d.comb += [
            walk.begin.eq(self._begin),
            walk.started.eq(self._started),
            walk.stop.eq(self.unit.abort),
            walk.accumulator.eq(f.accumulator),
            walk.transform_t.eq(f.transform_t),
            walk.transform_s.eq(f.transform_s),
            self.accumulator.enable.eq(walk.enable),
            self.accumulator.address.eq(walk.address),
        ]
        _assign(m, walk.counts, f.counts)
        _assign(m, walk.window, f.window)
        _assign(m, walk.deltas, f.accumulator_deltas)
        return walk

    def _accumulator_line(self, m: Module) -> None:
        """`valid[k]` and `places[k]` are the walk's enable and place of k + 1 cycles ago."""
        self._valid = valid = Signal(ACCUMULATOR_READ_LATENCY + 1)
        m.d.sync += valid.eq(Mux(self.unit.abort, 0, Cat(self._walk.enable, valid)[: len(valid)]))
        self._places = places = [
            Signal.like(self._walk.place, name=f"place{k}", reset_less=True)
            for k in range(ACCUMULATOR_READ_LATENCY + 1)
        ]
        for source, target in zip([self._walk.place, *places], places, strict=False):
            m.d.sync += target.eq(source)

    def _step(self, place: Value) -> Value:
        """Requantization step of a place."""
        return place >> exact_log2(sections(self._config))

    def _taken(self, m: Module) -> list[Signal]:
        """Lanes of the current step, one cycle behind the accumulators."""
        bits = self._config.memory.accumulator_bits
        result = []
        for index in range(self._lanes):
            taken = Signal(signed(bits), name=f"taken{index}", reset_less=True)
            columns = [
                self.accumulator.data.word_select(step * self._lanes + index, bits)
                for step in range(self._steps)
            ]
            with m.If(self._valid[ACCUMULATOR_READ_LATENCY - 1]):
                step = self._step(self._places[ACCUMULATOR_READ_LATENCY - 1])
                m.d.sync += taken.eq(chosen(columns, step))
            result.append(taken)
        return result

    def _transform(
        self, m: Module, valid: Value, taken: list[Signal]
    ) -> tuple[Value, list[Value], Value]:
        """Put the output transform between the accumulators and the requantization lanes."""
        config, f, tiles = self._config, self._fields, self._tiles
        lanes = config.lanes.output_transform
        parts = sections(config)
        m.submodules.transform = unit = OutputTransform(
            lanes, config.memory.accumulator_bits, "hfa_nested" in config.features
        )
        part = self._places[ACCUMULATOR_READ_LATENCY][: exact_log2(parts)]
        for lane in range(lanes):
            m.d.comb += unit.i[lane].eq(chosen(taken[lane::lanes], part))
        m.d.comb += [
            unit.transform_t.eq(f.transform_t),
            unit.transform_s.eq(f.transform_s),
            unit.clear.eq(self._begin | self.unit.abort),
            unit.i_valid.eq(valid & tiles),
        ]
        # Every section of a step gets the results; assembly keeps those of the right one.
        values = [Mux(tiles, unit.o[lane % lanes], taken[lane]) for lane in range(self._lanes)]
        return Mux(tiles, unit.o_valid, valid), values, unit.divided

    def _parameters(self, m: Module, divided: Value | None) -> DrainParameters:
        f, walk = self._fields, self._walk

        def later(value: Value) -> Value:
            """The parameters' cycle a, so that they meet the accumulators."""
            cycles = ACCUMULATOR_READ_LATENCY + 1 - REGISTERS_LEAD
            return delayed(m, value, cycles, "walk")

        m.submodules.parameters = unit = DrainParameters(self._config)
        connect(m, unit.read, flipped(self.parameter))
        m.d.comb += [
            unit.begin.eq(self._begin),
            unit.parameter.eq(f.parameter),
            unit.enable.eq(later(walk.enable)),
            unit.step.eq(later(self._step(walk.place))),
            unit.block_moves.eq(later(walk.block_moves)),
        ]
        if divided is not None:
            m.d.comb += [
                unit.tiles.eq(self._tiles),
                unit.tile_ends.eq(later(walk.tile_ends)),
                unit.block_ends.eq(later(walk.block_ends)),
                unit.divided.eq(divided),
                # Results per axis are 2^transform.
                unit.results.eq(f.transform_t + (f.transform_s << 1)),
            ]
        return unit

    def _requantize(
        self, m: Module, valid: Value, values: list[Value], parameters: DrainParameters
    ) -> list[Value]:
        """Requantization lanes; `self._arriving[-1]` with their codes."""
        f = self._fields
        line = Signal(REQUANTIZE_LATENCY)
        m.d.sync += line.eq(Mux(self.unit.abort, 0, Cat(valid, line)[:REQUANTIZE_LATENCY]))
        self._arriving = line
        codes = []
        for index, value in enumerate(values):
            m.submodules[f"lane{index}"] = lane = RequantizeLane(
                self._config.memory.accumulator_bits
            )
            m.d.comb += [
                lane.stages.eq(Cat(valid, line)),
                lane.accumulator.eq(value),
                lane.bias.eq(parameters.bias[index]),
                lane.multiplier.eq(parameters.multiplier[index]),
                lane.shift.eq(parameters.shift[index]),
                lane.zero_point.eq(f.zero_point),
                lane.low.eq(f.low),
                lane.high.eq(f.high),
            ]
            codes.append(lane.code)
        return codes

    def _assemble(self, m: Module, codes: list[Value]) -> None:
        """A row is written one cycle behind its newest codes."""
        f, walk = self._fields, self._walk
        depth = len(self._valid) + REQUANTIZE_LATENCY
        per_row = self._config.lane_block // self._lanes
        row = walk.closes & walk.enable
        if per_row > 1:
            step = self._step(walk.place)
            row = row & (step[: exact_log2(per_row)] == per_row - 1)
        kind = TileAssembly if self._hfa else RowAssembly
        m.submodules.assembly = assembly = kind(self._config)
        depth -= assembly.LEAD
        opens_line, row_line = Signal(depth), Signal(depth)
        m.d.sync += [
            opens_line.eq(Cat(walk.opens, opens_line)[:depth]),
            row_line.eq(Cat(row, row_line)[:depth]),
        ]
        m.d.comb += [
            assembly.begin.eq(self._begin),
            assembly.stop.eq(self.unit.abort),
            assembly.destination.eq(f.destination),
            assembly.arrived.eq(self._arriving[-1 - assembly.LEAD]),
            assembly.opens.eq(opens_line[-1]),
            assembly.row.eq(row_line[-1]),
            self._finished.eq(assembly.finished),
        ]
        _assign(m, assembly.counts, f.counts)
        _assign(m, assembly.destination_deltas, f.destination_deltas)
        _assign(m, assembly.codes, codes)
        if isinstance(assembly, TileAssembly):
            m.d.comb += [
                assembly.transform_t.eq(f.transform_t),
                assembly.transform_s.eq(f.transform_s),
            ]
            _assign(m, assembly.window, f.window)
        connect(m, assembly.write, flipped(self.write))


def _assign(m: Module, targets: Iterable[Any], sources: Iterable[Any]) -> None:
    """Connect two sequences of values."""
    m.d.comb += [to.eq(of) for to, of in zip(targets, sources, strict=True)]

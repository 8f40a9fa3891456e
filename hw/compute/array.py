"""The multiplier array: controller, feed, weight loader and a chain of columns."""

import itertools

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ErrorCode
from hw.arch.timing import ACTIVATION_READ_LATENCY, FEED_LATENCY
from hw.common.layouts import instruction_layout
from hw.common.ports import UnitSignature, accumulator_read, activation_read, weight_read
from hw.compute.array_control import ArrayControl
from hw.compute.chain import LINE_LEAD, READ_LAG, WRITE_LAG
from hw.compute.column import Column, DrainPort
from hw.compute.latch import delayed
from hw.compute.weights import WeightLoader

__all__ = ["ArrayUnit"]


class ArrayUnit(wiring.Component):
    """Streams activation vectors past weight blocks into the accumulators (isa.Array).

    Handshake: an instruction is accepted when the stream before it has ended; `done` follows in
    the cycle in which the last column writes its last sum. Never stalls.
    Latency: timing.array_duration from issue to `done`, timing.array_occupancy between issues.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    unit: queue side.
    activation: scratchpad rows, data ACTIVATION_READ_LATENCY cycles after `enable`.
    weight: weight groups (LW rows of cols bytes, row by row), data one cycle after `enable`.
    drain_read: accumulator row of all columns, data two cycles after `enable` and held until the
        next read. Reading the bank that the array reads in that cycle raises BANK_CONFLICT.
    vectors: high in a cycle in which a position that produces a sum enters.

    Tested range: tests/hw/compute/test_array.py.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "unit": Out(UnitSignature(instruction_layout(Array))),
                "activation": Out(activation_read(config)),
                "weight": Out(weight_read(config)),
                "drain_read": In(accumulator_read(config)),
                "vectors": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.control = control = ArrayControl(self._config)
        m.submodules.loader = loader = WeightLoader(self._config)
        wiring.connect(m, control.unit, flipped(self.unit))
        wiring.connect(m, loader.weight, flipped(self.weight))
        m.d.comb += [
            loader.start.eq(control.weight_start),
            loader.next.eq(control.weight_next),
            loader.base.eq(control.weight_base),
            self.activation.enable.eq(control.activation_enable),
            self.activation.address.eq(control.activation_address),
            self.vectors.eq(control.read.enable),
        ]
        columns = [Column(self._config, c) for c in range(self._config.array.cols)]
        for index, column in enumerate(columns):
            m.submodules[f"column{index}"] = column
        self._feed(m, control, columns[0])
        self._weights(m, loader, columns)
        for left, right in itertools.pairwise(columns):
            wiring.connect(m, left.o, right.i)
        conflict = self._drain(m, columns)
        with m.If(control.unit.error != 0):
            m.d.comb += self.unit.error.eq(control.unit.error)
        with m.Elif(conflict):
            m.d.comb += self.unit.error.eq(ErrorCode.BANK_CONFLICT.value)
        return m

    def _feed(self, m: Module, control: ArrayControl, first: Column) -> None:
        """Centre the activations and put the parts of the chain into their order in time."""
        array = self._config.array
        # `control` is one cycle behind the address, operands are FEED_LATENCY behind it.
        lag = FEED_LATENCY - 1
        inside = delayed(m, control.activation_enable, ACTIVATION_READ_LATENCY, "inside")
        arrived = delayed(m, control.control.present, ACTIVATION_READ_LATENCY, "arrived")
        flip = Signal(8)
        zero_point = Signal(signed(9))
        m.d.comb += [
            flip.eq(Cat(0, 0, 0, 0, 0, 0, 0, control.signed)),
            zero_point.eq(control.zero_point ^ flip),
        ]
        for lane in range(array.rows):
            byte = self.activation.data.word_select(lane, 8)
            centred = Signal(signed(array.activation_bits), name=f"centred{lane}", reset_less=True)
            with m.If(arrived):
                m.d.sync += centred.eq(Mux(inside, (byte ^ flip) - zero_point, 0))
            m.d.comb += first.i.x[lane].eq(centred)
        m.d.comb += [
            first.i.control.eq(delayed(m, control.control, lag, "control")),
            first.i.line.eq(delayed(m, control.line, lag - LINE_LEAD, "line")),
            first.i.read.eq(delayed(m, control.read, lag + READ_LAG, "read")),
        ]
        write = {"enable": control.read.enable, "address": control.read.address}
        for name, value in write.items():
            m.d.comb += first.i.write[name].eq(delayed(m, value, lag + WRITE_LAG, f"write_{name}"))

    def _weights(self, m: Module, loader: WeightLoader, columns: list[Column]) -> None:
        array = self._config.array
        first = columns[0]
        m.d.comb += first.weights_valid.eq(loader.valid)
        for row in range(array.weight_rows_per_cycle):
            m.d.comb += first.weights[row].eq(self.weight.data.word_select(row, 8 * array.cols))
        for left, right in itertools.pairwise(columns):
            m.d.comb += right.weights_valid.eq(left.weights_valid_next)
            m.d.comb += [i.eq(o) for i, o in zip(right.weights, left.weights_next, strict=True)]

    def _drain(self, m: Module, columns: list[Column]) -> Signal:
        """Serve the drain; return the bank conflict, one cycle late."""
        row_bits = exact_log2(self._config.memory.accumulator_rows)
        port = DrainPort(self._config).create()
        bank = self.drain_read.address[row_bits]
        m.d.comb += [
            port.enable.eq(self.drain_read.enable),
            port.bank.eq(bank),
            port.row.eq(self.drain_read.address[:row_bits]),
            self.drain_read.data.eq(Cat(column.sum for column in columns)),
        ]
        m.d.sync += [port.taken.eq(port.enable), port.taken_bank.eq(port.bank)]
        for column in columns:
            m.d.comb += [
                column.drain.enable.eq(port.enable),
                column.drain.bank.eq(port.bank),
                column.drain.row.eq(port.row),
                column.drain.taken.eq(port.taken),
                column.drain.taken_bank.eq(port.taken_bank),
            ]
        # Bit c of reading[b]: column c reads bank b in this cycle.
        conflict = Signal()
        read = columns[0].i.read
        reading = [Signal(len(columns), name=f"reading{b}") for b in range(2)]
        for b, line in enumerate(reading):
            here = read.enable & (read.address[row_bits] == b)
            m.d.sync += line.eq(Cat(here, line)[: len(columns)])
        m.d.sync += conflict.eq(
            self.drain_read.enable & Mux(bank, reading[1].any(), reading[0].any())
        )
        return conflict

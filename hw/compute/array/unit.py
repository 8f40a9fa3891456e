"""The multiplier array: controller, feed, weight loader and a chain of columns."""

import itertools

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ErrorCode
from hw.arch.timing import ACTIVATION_READ_LATENCY, FEED_LATENCY
from hw.common.layouts import instruction_layout
from hw.common.ports import UnitSignature, accumulator_read, activation_read, weight_read
from hw.compute.array.chain import LINE_LEAD, READ_LAG, WRITE_LAG
from hw.compute.array.column import Column, DrainPort
from hw.compute.array.control import ArrayControl
from hw.compute.parts.latch import delayed
from hw.compute.transform.input import RAW_BITS, InputTransform
from hw.compute.transform.memory import TransformedMemory
from hw.compute.weights.loader import WeightLoader
from hw.compute.weights.transform import WeightTransform

__all__ = ["ArrayUnit"]

CENTRED_BITS = 9
"""An activation minus its zero point, or minus RAW_OFFSET."""
RAW_OFFSET = 128
"""What makes an offset-binary code s8 (winograd.Operand.RAW)."""


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
    drain_read: accumulator row of all columns, data ACCUMULATOR_READ_LATENCY cycles after `enable`
        and held until the next read. Reading the bank that the array reads in the cycle of the
        access, two cycles after `enable`, raises BANK_CONFLICT.
    vectors: high in a cycle in which a position that produces a sum enters.
    products: high once per rows × cols products (registers.COUNTERS).
    drained: with feature hfa: the instruction taken last has what its `late` wait is for, from two
        cycles behind its issue on.

    Tested range: tests/hw/compute/array/test_array.py.
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
                "products": Out(1),
                **({"drained": In(1, init=1)} if "hfa" in config.features else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._has_hfa = "hfa" in self._config.features
        m.submodules.control = control = ArrayControl(self._config)
        loader = (WeightTransform if self._has_hfa else WeightLoader)(self._config)
        m.submodules.loader = loader
        wiring.connect(m, control.unit, flipped(self.unit))
        wiring.connect(m, loader.weight, flipped(self.weight))
        m.d.comb += [
            loader.start.eq(control.weight_start),
            loader.next.eq(control.weight_next),
            loader.base.eq(control.weight_base),
            self.activation.enable.eq(control.activation_enable),
            self.activation.address.eq(control.activation_address),
            self.vectors.eq(control.read.enable),
            self.products.eq(control.products),
        ]
        columns = [Column(self._config, c) for c in range(self._config.array.cols)]
        for index, column in enumerate(columns):
            m.submodules[f"column{index}"] = column
        self._feed(m, control, columns[0])
        self._weights(m, control, loader, columns)
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
        # What is taken off a byte, and what stands for one outside the tensor.
        zero_point, outside = Signal(signed(9)), Signal(signed(9))
        m.d.comb += [
            flip.eq(Cat(0, 0, 0, 0, 0, 0, 0, control.signed)),
            zero_point.eq(control.zero_point ^ flip),
        ]
        if self._has_hfa:
            arrived = arrived | delayed(m, control.feed, ACTIVATION_READ_LATENCY, "fed")
            with m.If(control.raw):
                m.d.comb += zero_point.eq(RAW_OFFSET)
                m.d.comb += outside.eq((control.zero_point ^ flip) - RAW_OFFSET)
        operands: list[Value] = []
        for lane in range(array.rows):
            byte = self.activation.data.word_select(lane, 8)
            centred = Signal(signed(CENTRED_BITS), name=f"centred{lane}", reset_less=True)
            with m.If(arrived):
                m.d.sync += centred.eq(Mux(inside, (byte ^ flip) - zero_point, outside))
            operands.append(centred)
        if self._has_hfa:
            operands = self._transform(m, control, operands)
        m.d.comb += [x.eq(operand) for x, operand in zip(first.i.x, operands, strict=True)]
        m.d.comb += [
            first.i.control.eq(delayed(m, control.control, lag, "control")),
            first.i.line.eq(delayed(m, control.line, lag - LINE_LEAD, "line")),
            first.i.read.eq(delayed(m, control.read, lag + READ_LAG, "read")),
        ]
        write = {"enable": control.read.enable, "address": control.read.address}
        for name, value in write.items():
            m.d.comb += first.i.write[name].eq(delayed(m, value, lag + WRITE_LAG, f"write_{name}"))

    def _transform(self, m: Module, control: ArrayControl, rows: list[Value]) -> list[Value]:
        """Raw rows to U; rows of U, or the ones that came, to the first column."""
        m.submodules.transform = transform = InputTransform(self._config)
        m.submodules.transformed = transformed = TransformedMemory(self._config)
        # As many cycles behind `control` as the operands; U takes two of them.
        lag = FEED_LATENCY - 1
        ahead = lag - TransformedMemory.LATENCY
        m.d.comb += [
            transform.temporal.eq(control.temporal),
            transform.spatial.eq(control.spatial),
            transform.clear.eq(control.clear),
            transform.i_valid.eq(delayed(m, control.feed, lag, "feed")),
            transformed.geometry.eq(control.geometry),
            transformed.release.eq(control.release),
            transformed.clear.eq(control.clear),
            transformed.i_valid.eq(transform.o_valid),
            control.full.eq(transformed.full),
            control.drained.eq(self.drained),
            transformed.enable.eq(delayed(m, control.transformed, ahead, "transformed_enable")),
            transformed.half.eq(delayed(m, control.half, ahead, "transformed_half")),
            transformed.row.eq(delayed(m, control.row, ahead, "transformed_row")),
        ]
        m.d.comb += [i.eq(row[:RAW_BITS]) for i, row in zip(transform.i, rows, strict=True)]
        m.d.comb += [i.eq(o) for i, o in zip(transformed.i, transform.o, strict=True)]
        from_memory = delayed(m, control.transformed, lag, "from_memory")
        return [
            Mux(from_memory, stored, row) for stored, row in zip(transformed.o, rows, strict=True)
        ]

    def _weights(
        self,
        m: Module,
        control: ArrayControl,
        loader: WeightLoader | WeightTransform,
        columns: list[Column],
    ) -> None:
        array = self._config.array
        lanes = array.weight_rows_per_cycle * array.cols
        first = columns[0]
        m.d.comb += first.weights_valid.eq(loader.valid)
        if isinstance(loader, WeightTransform):
            m.d.comb += [
                loader.transform.eq(control.weight_transform),
                loader.temporal.eq(control.temporal),
                loader.spatial.eq(control.spatial),
                loader.abort.eq(control.clear),
                control.loaded.eq(loader.loaded),
            ]
            counts = zip(loader.counts, control.weight_counts, strict=True)
            m.d.comb += [to.eq(count) for to, count in counts]
            m.d.comb += [to.eq(row) for to, row in zip(first.weights, loader.data, strict=True)]
        else:
            words = [Signal(signed(array.weight_bits), name=f"word{k}") for k in range(lanes)]
            m.d.comb += [word.eq(data) for word, data in zip(words, loader.data, strict=True)]
            for row, to in enumerate(first.weights):
                m.d.comb += to.eq(Cat(words[row * array.cols : (row + 1) * array.cols]))
        if "attention" in self._config.features:
            m.d.comb += [
                loader.unsigned.eq(control.weight_unsigned),
                loader.zero_point.eq(control.weight_zero_point),
            ]
        for left, right in itertools.pairwise(columns):
            m.d.comb += right.weights_valid.eq(left.weights_valid_next)
            m.d.comb += [i.eq(o) for i, o in zip(right.weights, left.weights_next, strict=True)]

    def _drain(self, m: Module, columns: list[Column]) -> Signal:
        """Serve the drain; return the bank conflict, one cycle behind the access."""
        row_bits = exact_log2(self._config.memory.accumulator_rows)
        port = DrainPort(self._config).create()
        m.d.sync += [
            port.enable.eq(self.drain_read.enable),
            port.bank.eq(self.drain_read.address[row_bits]),
            port.row.eq(self.drain_read.address[:row_bits]),
        ]
        m.d.comb += self.drain_read.data.eq(Cat(column.sum for column in columns))
        # As in the columns: the cycle of the access.
        drained = delayed(m, port.enable, 1, "drained")
        bank = delayed(m, port.bank, 1, "drained_bank")
        for column in columns:
            m.d.comb += [
                column.drain.enable.eq(port.enable),
                column.drain.bank.eq(port.bank),
                column.drain.row.eq(port.row),
            ]
        # Bit c of reading[b]: column c reads bank b in this cycle.
        conflict = Signal()
        read = columns[0].i.read
        reading = [Signal(len(columns), name=f"reading{b}") for b in range(2)]
        for b, line in enumerate(reading):
            here = read.enable & (read.address[row_bits] == b)
            m.d.sync += line.eq(Cat(here, line)[: len(columns)])
        m.d.sync += conflict.eq(drained & Mux(bank, reading[1].any(), reading[0].any()))
        return conflict

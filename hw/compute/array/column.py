"""One column of the multiplier array: weights, multipliers, adder tree, accumulators, window."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.compute.array.chain import ChainSignature
from hw.compute.array.depthwise_tiles import POINTS, DepthwiseTiles
from hw.compute.array.window import DepthwiseWindow, selected_tap
from hw.compute.parts.latch import register_of
from hw.compute.parts.product import Product

__all__ = ["Column", "DrainPort"]

TREE_RADIX = 4
"""Products summed per register of the first tree level."""
STAGES = 4
"""Pipeline stages behind the vector register whose enables follow the vector."""


def total(values: Sequence[Any]) -> Any:
    """Balanced sum."""
    values = list(values)
    while len(values) > 1:
        pairs = [a + b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(values) - len(values) % 2 :]
    return values[0]


class DrainPort(wiring.Signature):
    """Accumulator read by the drain, the same for all columns; seen from the array."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__(
            {
                "enable": Out(1),
                "bank": Out(1),
                "row": Out(exact_log2(config.memory.accumulator_rows)),
            }
        )


class Column(wiring.Component):
    """Multiplies a passing vector with its weights and accumulates the sum.

    Latency: timing.COLUMN_LATENCY from the vector at `i` to the write of its sum; one cycle from
    `i` to `o` and from `weights` to `weights_next`.

    Parameters
    ----------
    config: the accelerator.
    index: position in the array; in depthwise mode the column takes lane `index` modulo lanes.

    Members
    -------
    i, o: the chain from the neighbour on the left to the one on the right.
    weights_valid, weights: one word for this column (lowest) and all columns to the right, per
        loaded row; `weights_valid_next`, `weights_next` pass the others on.
    drain: accumulator read of the drain; must not name the bank that the array reads in the next
        cycle, in which it is done.
    sum: accumulator, three cycles after `drain.enable`, held until the next one.
    """

    def __init__(self, config: AcceleratorConfig, index: int):
        self._config = config
        self._index = index
        array = config.array
        rest = array.cols - index - 1
        members: dict[str, Any] = {
            "i": In(ChainSignature(config)),
            "o": Out(ChainSignature(config)),
            "weights_valid": In(1),
            "weights": In(array.weight_bits * (rest + 1)).array(array.weight_rows_per_cycle),
            "drain": In(DrainPort(config)),
            "sum": Out(signed(config.memory.accumulator_bits)),
        }
        if rest:
            members["weights_valid_next"] = Out(1)
            members["weights_next"] = Out(array.weight_bits * rest).array(
                array.weight_rows_per_cycle
            )
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # _valid[k]: the stage of cycle q + 1 + k holds a vector that produces a sum.
        valid = Signal(STAGES)
        m.d.sync += valid.eq(Cat(self.o.control.valid, valid)[:STAGES])
        self._valid = Cat(self.o.control.valid, valid)
        self._pass_on(m)
        addend = self._multiply(m, self._weights(m))
        self._accumulate(m, addend)
        return m

    def _pass_on(self, m: Module) -> None:
        m.d.sync += [
            self.o.control.eq(self.i.control),
            self.o.line.eq(self.i.line),
            self.o.read.eq(self.i.read),
            self.o.write.eq(self.i.write),
        ]
        lanes = [register_of(m, lane) for lane in self.o.x]
        with m.If(self.i.control.present):
            m.d.sync += [o.eq(i) for o, i in zip(lanes, self.i.x, strict=True)]

    def _weights(self, m: Module) -> list[Signal]:
        """Shadow weights, shifted in LW rows at a time; the products take them in with a swap."""
        array = self._config.array
        shape = signed(array.weight_bits)
        shadow = [Signal(shape, name=f"shadow{r}", reset_less=True) for r in range(array.rows)]
        bits = array.weight_bits
        loaded = [w[:bits].as_signed() for w in self.weights]
        with m.If(self.weights_valid):
            following = [*shadow[len(loaded) :], *loaded]
            m.d.sync += [s.eq(n) for s, n in zip(shadow, following, strict=True)]
        if self._index < array.cols - 1:
            m.d.sync += self.weights_valid_next.eq(self.weights_valid)
            passed = [register_of(m, word) for word in self.weights_next]
            with m.If(self.weights_valid):
                m.d.sync += [n.eq(w[bits:]) for n, w in zip(passed, self.weights, strict=True)]
        return shadow

    def _operands(self, m: Module) -> list[Value]:
        """Next operand of every row: the vector's lane or a tap of the window."""
        rows = self._config.array.rows
        if "depthwise" not in self._config.features:
            return list(self.o.x)
        m.submodules.window = self._window = window = DepthwiseWindow(self._config)
        m.d.comb += [
            window.line.eq(self.o.line),
            window.pixel.eq(self.i.x[self._index % rows]),
            window.control.eq(self.i.control),
        ]
        control = self.o.control
        return [
            Mux(
                control.depthwise,
                selected_tap(window.taps, row, rows, control.tap_pass),
                self.o.x[row],
            )
            for row in range(rows)
        ]

    def _multiply(self, m: Module, weights: list[Signal]) -> Value:
        """Products (operand and product register), two registered levels of the adder tree."""
        array = self._config.array
        width = array.activation_bits + array.weight_bits
        products: list[Value] = []
        units: list[Product] = []
        # Operands are taken in cycle q, products in q + 1. The swap takes effect with the first
        # operands of the block: in that cycle the products of the block before are taken.
        for row, (following, weight) in enumerate(zip(self._operands(m), weights, strict=True)):
            product = Product(array.activation_bits, array.weight_bits)
            m.submodules[f"product{row}"] = product
            m.d.comb += [
                product.a.eq(following),
                product.b.eq(weight),
                product.load.eq(self.o.control.swap),
            ]
            products.append(product.product)
            units.append(product)
        groups = max(1, array.rows // TREE_RADIX)
        partial = _registers("partial", groups, signed(width + exact_log2(TREE_RADIX)))
        result = Signal(signed(width + exact_log2(array.rows)), reset_less=True)
        valid = self._valid
        # cycles q + 3, q + 4
        with m.If(valid[2]):
            m.d.sync += [p.eq(total(products[g::groups])) for g, p in enumerate(partial)]
        with m.If(valid[3]):
            m.d.sync += result.eq(total(partial))
        if "hfa_depthwise" in self._config.features:
            return self._tiles(m, units, weights, result)
        return result

    def _tiles(
        self, m: Module, units: list[Product], weights: list[Signal], result: Value
    ) -> Value:
        """Mode HFA_DEPTHWISE: the first four multipliers work for `DepthwiseTiles`."""
        m.submodules.tiles = tiles = DepthwiseTiles(self._config)
        window, control = self._window, self.o.control
        m.d.comb += [
            tiles.control.eq(self.i.control),
            tiles.previous.eq(window.previous),
            tiles.pixel.eq(window.pixel),
            tiles.stage.eq(control.swap & control.tiles),
            tiles.block.eq(control.tap_pass),
        ]
        m.d.comb += [to.eq(pixel) for to, pixel in zip(tiles.older, window.older, strict=True)]
        m.d.comb += [to.eq(weight) for to, weight in zip(tiles.shadow, weights, strict=True)]
        for k, unit in enumerate(units[:POINTS]):
            m.d.comb += tiles.products[k].eq(unit.product)
            with m.If(control.tiles):
                m.d.comb += [unit.a.eq(tiles.a[k]), unit.b.eq(tiles.b[k]), unit.load.eq(tiles.load)]
        # The position of a result stands in `o` four cycles before its addend is due.
        from_tiles = Signal(STAGES)
        m.d.sync += from_tiles.eq(Cat(control.tiles, from_tiles)[:STAGES])
        return Mux(from_tiles[-1], tiles.result, result)

    def _accumulate(self, m: Module, addend: Value) -> None:
        """Read, add and write one row per cycle in one bank; serve the drain from the other."""
        shape = signed(self._config.memory.accumulator_bits)
        row_bits = exact_log2(self._config.memory.accumulator_rows)
        read, write = self.o.read, self.o.write
        result = Signal(shape, reset_less=True)
        # A register in every column, so that the read reaches all of them.
        drained, drained_bank = Signal(), Signal(reset_less=True)
        drained_row = Signal(row_bits, reset_less=True)
        taken, taken_bank = Signal(), Signal(reset_less=True)
        m.d.sync += [
            drained.eq(self.drain.enable),
            drained_bank.eq(self.drain.bank),
            drained_row.eq(self.drain.row),
            taken.eq(drained),
            taken_bank.eq(drained_bank),
        ]
        data = []
        for bank in range(2):
            storage = memory.Memory(
                shape=shape, depth=self._config.memory.accumulator_rows, init=[]
            )
            m.submodules[f"bank{bank}"] = storage
            reader, writer = storage.read_port(), storage.write_port()
            here = read.enable & (read.address[row_bits] == bank)
            for_drain = drained & (drained_bank == bank)
            m.d.comb += [
                # cycle q + 3
                reader.en.eq(here | for_drain),
                reader.addr.eq(Mux(for_drain, drained_row, read.address[:row_bits])),
                # cycle q + 6
                writer.en.eq(write.enable & (write.address[row_bits] == bank)),
                writer.addr.eq(write.address[:row_bits]),
                writer.data.eq(result),
            ]
            data.append(reader.data)
        # cycle q + 4
        valid = self._valid
        overwrite, bank = Signal(reset_less=True), Signal(reset_less=True)
        held = Signal(shape, reset_less=True)
        m.d.sync += [overwrite.eq(read.overwrite), bank.eq(read.address[row_bits])]
        with m.If(valid[3]):
            m.d.sync += held.eq(Mux(overwrite, 0, Mux(bank, data[1], data[0])))
        total_taken = register_of(m, self.sum)
        with m.If(taken):
            m.d.sync += total_taken.eq(Mux(taken_bank, data[1], data[0]))
        # cycle q + 5
        with m.If(valid[4]):
            m.d.sync += result.eq(held + addend)


def _registers(name: str, count: int, shape: Shape) -> list[Signal]:
    return [Signal(shape, name=f"{name}{i}", reset_less=True) for i in range(count)]

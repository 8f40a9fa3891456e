"""Lowering of depthwise convolutions: a window slides over whole lines inside the columns."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.codegen.allocate import Region, split_banks
from compiler.codegen.convolution import axes_of, packed_parameters
from compiler.codegen.emitter import Emitter
from compiler.codegen.gemm import Ranges
from compiler.codegen.geometry import Axis, balanced, cuts, merge, product, tile_sizes
from compiler.codegen.schedule import Ring, Slots, Step, run
from compiler.codegen.tiling import (
    ARRAY_OVERHEAD,
    DRAIN_OVERHEAD,
    LOAD_OVERHEAD,
    MAX_POSITIONS,
    PORT_EFFICIENCY,
    STORE_OVERHEAD,
)
from compiler.codegen.transfers import Box, View, load_box, store_box
from compiler.ir import CompilerError, Convolution
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, Space, UnitInstruction, deltas
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor
from hw.arch.timing import LINE_HAZARD

MAX_WINDOW = 3


def suits(op: Convolution, config: AcceleratorConfig) -> bool:
    """Whether the DEPTHWISE mode computes this operator (else it runs block-diagonally)."""
    t, h, w = op.kernel
    dilated = any(d > 1 and k > 1 for d, k in zip(op.dilation, op.kernel, strict=True))
    temporal = h == w == 1 and op.stride[1] == op.stride[2] == 1
    windowed = (t,) if temporal else (h, w)
    stride = (op.stride[0],) if temporal else op.stride[1:]
    return (
        "depthwise" in config.features
        and op.depthwise
        and op.pool is None
        and not dilated
        and max(windowed) <= MAX_WINDOW
        and max(stride) <= MAX_WINDOW
    )


@dataclasses.dataclass(frozen=True, slots=True)
class DepthwiseTiling:
    """Sizes of a depthwise layer.

    Attributes
    ----------
    blocks: lane blocks in a tile.
    load, accumulator: outputs per load tile and per accumulator tile, along x, y, t.
    output, input: scratchpad regions, two slots each.
    cycles: estimate.
    """

    blocks: int
    load: tuple[int, int, int]
    accumulator: tuple[int, int, int]
    output: Region
    input: Region
    cycles: int

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {
            "blocks": self.blocks,
            "load": list(self.load),
            "accumulator": list(self.accumulator),
            "estimate": self.cycles,
        }


class Depthwise:
    """One depthwise layer.

    The array's x, y, t stand for tensor axes `order`: a temporal kernel slides along time, all
    pixels of a frame being its lines.
    """

    def __init__(self, emitter: Emitter, op: Convolution, source: Tensor, target: Tensor):
        self.emitter, self.config, self.op = emitter, emitter.config, op
        self.source, self.target = source, target
        self.axes, levels = merge(axes_of(op, source))
        self.from_view = View.of(source).merged(levels)
        self.to_view = View.of(target).merged(levels)
        t, h, w = op.kernel
        self.order = (2, 0, 1) if h == w == 1 and t > 1 else (0, 1, 2)
        self.window = (self.axes[self.order[0]].kernel, self.axes[self.order[1]].kernel)
        self.passes = ceil_div(product(self.window), self.config.array.rows)
        self.blocks = source.layout.blocks
        self.weights = self._weight_blocks()
        self.parameters = self._parameter_blocks()
        self.block_beats = self.config.weight_block_beats * self.passes * self._time_taps()
        self.parameter_beats = self.config.requantize_steps * self.config.parameter_row_beats
        self._turns = [0, 0]

    def _time_taps(self) -> int:
        return self.axes[self.order[2]].kernel

    def _weight_blocks(self) -> npt.NDArray[np.int8]:
        """[blocks, taps along the array's t, passes, rows, cols]."""
        config, lanes = self.config, self.config.lane_block
        of_lane = self.source.layout.lane_channels()
        kernel = self.op.weight[:, 0].transpose(0, 3, 2, 1)  # [C, x, y, t]
        kernel = kernel.transpose(0, *(1 + d for d in self.order))  # array's x, y, t
        taps = kernel.transpose(0, 3, 2, 1).reshape(kernel.shape[0], kernel.shape[3], -1)
        wide = np.zeros((of_lane.size, taps.shape[1], self.passes * config.array.rows), np.int8)
        wide[of_lane >= 0, :, : taps.shape[2]] = taps[of_lane[of_lane >= 0]]
        # [block, lane, t, pass, row] → [block, t, pass, row, lane]
        split = wide.reshape(self.blocks, lanes, taps.shape[1], self.passes, config.array.rows)
        moved = split.transpose(0, 2, 3, 4, 1)
        result = np.zeros((*moved.shape[:4], config.array.cols), np.int8)
        result[..., :lanes] = moved
        return result

    def _parameter_blocks(self) -> list[bytes]:
        """Parameters of each lane block, filled up to `cols` channels."""
        lanes, cols = self.config.lane_block, self.config.array.cols
        of_lane = self.source.layout.lane_channels()
        chosen = np.where(of_lane >= 0, of_lane, 0)
        valid = of_lane >= 0
        picked = dataclasses.replace(
            self.op,
            bias=(self.op.bias[chosen] * valid).astype(np.int32),
            multiplier=self.op.multiplier[chosen] * valid,
            shift=self.op.shift[chosen] * valid,
        )
        blocks = packed_parameters(picked, of_lane.size, lanes)
        return [block + bytes(8 * (cols - lanes)) for block in blocks]

    # Tiling

    def _stream(self, axis: Axis, outputs: int) -> int:
        """Steps of the stream along a window axis for so many outputs."""
        return (outputs - 1) * axis.stride + axis.kernel

    def _line(self, outputs: int) -> int:
        """Steps of the stream along the array's x: the line buffer wants a shortest line.

        What is streamed beyond the tensor is clipped; its sums are not drained.
        """
        line = self._stream(self.axes[self.order[0]], outputs)
        return max(line, LINE_HAZARD) if self.window[1] > 1 else line

    def _line_outputs(self, outputs: int) -> int:
        """Sums that a line of the stream leaves in the accumulators."""
        axis = self.axes[self.order[0]]
        return (self._line(outputs) - axis.kernel) // axis.stride + 1

    def _accumulator(self, load: tuple[int, int, int], blocks: int) -> tuple[int, ...] | None:
        rows = self.config.memory.accumulator_rows // blocks
        a, b, c = self.order
        width = self._line_outputs(load[a])
        if width > rows:
            return None
        part = list(load)
        part[b] = balanced(load[b], rows // width)
        part[c] = balanced(load[c], rows // (width * load[b])) if part[b] == load[b] else 1
        return tuple(part)

    def _pad(self, out: tuple[int, int, int]) -> int:
        """Rows behind each block of an output tile that take what unused columns produce.

        Where an accumulator row holds more channels than a lane block, its second scratchpad row
        means nothing. It is written one step further along the array's x and overwritten by the
        next output; only the last step falls behind the block.
        """
        if self.config.array.blocks_per_row == 1:
            return 0
        return (1, out[0], out[0] * out[1])[self.order[0]]

    def _try(self, load: tuple[int, int, int], blocks: int) -> DepthwiseTiling | None:
        config = self.config
        part = self._accumulator(load, blocks)
        if part is None:
            return None
        extents = [
            [axis.source(cut)[1] for cut in cuts(axis.out, n)]
            for axis, n in zip(self.axes, load, strict=True)
        ]
        in_rows = blocks * product([max(e) for e in extents])
        out_rows = blocks * (product(load) + self._pad(load))
        regions = split_banks([2 * out_rows, 2 * in_rows], config)
        if regions is None or in_rows // blocks > regions[1].row:
            return None
        a, b, c = self.order
        line = self._line(part[a])
        frame = line * self._stream(self.axes[b], part[b])
        if line > MAX_POSITIONS or frame > 1 << 20:
            return None
        if self.window[1] > 1 and line > config.memory.line_pixels:
            return None
        tiles = product([ceil_div(axis.out, n) for axis, n in zip(self.axes, load, strict=True)])
        inner = product([ceil_div(n, m) for n, m in zip(load, part, strict=True)])
        chunks = ceil_div(self.blocks, blocks)
        arrays = tiles * inner * chunks
        stream = frame * part[c] * blocks * self.passes * self._time_taps()
        outputs = product([axis.out for axis in self.axes]) * self.blocks
        array = arrays * (stream + ARRAY_OVERHEAD)
        drain = outputs * config.requantize_steps + arrays * DRAIN_OVERHEAD
        loads = self.blocks * product([sum(e) for e in extents])
        port = (loads + outputs) / PORT_EFFICIENCY + 8 * arrays
        serial = tiles * chunks * (LOAD_OVERHEAD + STORE_OVERHEAD)
        fill = in_rows + out_rows + stream + LOAD_OVERHEAD
        cycles = int(max(array, drain, port + serial // 2, loads + serial) + fill)
        output, source = regions
        return DepthwiseTiling(blocks, load, (part[0], part[1], part[2]), output, source, cycles)

    def tiling(self) -> DepthwiseTiling:
        """The cheapest tiling.

        Raises
        ------
        CompilerError
            If not even one line fits.
        """
        rows = self.config.memory.activation_rows
        sizes = [tile_sizes(axis.out, 1, min(rows, MAX_POSITIONS), 10) for axis in self.axes]
        capacity = min(
            self.config.memory.accumulator_rows,
            self.emitter.weights.capacity // (2 * self.block_beats),
            self.emitter.parameters.capacity // (2 * self.parameter_beats),
        )
        chunks = sorted({ceil_div(self.blocks, n) for n in range(1, self.blocks + 1)})
        found = [
            tiling
            for load in itertools.product(*sizes)
            for blocks in chunks
            if blocks <= max(capacity, 1)
            and (tiling := self._try((load[0], load[1], load[2]), blocks)) is not None
        ]
        if not found:
            raise CompilerError(
                f"{self.op.name} (Convolution): no tile of a depthwise convolution over lines of "
                f"{self.axes[0].size} pixels fits {self.config.name} ({rows} scratchpad rows, "
                f"lines of {self.config.memory.line_pixels})"
            )
        return min(found, key=lambda t: t.cycles)

    # Emission

    def emit(self) -> dict[str, Any]:
        """Emit the layer; returns the tiling for the report."""
        tiling = self.tiling()
        self.chosen = tiling
        self.chunks = cuts(self.blocks, tiling.blocks)
        self.tiles: list[Ranges] = [
            (x, y, t)
            for t, y, x in itertools.product(
                *(cuts(self.axes[d].out, tiling.load[d]) for d in (2, 1, 0))
            )
        ]
        slots = 2 if len(self.chunks) > 1 else 1
        self.weight_slot = tiling.blocks * self.block_beats
        self.weight_base = self.emitter.weights.take(slots * self.weight_slot)
        self.parameter_slot = tiling.blocks * self.parameter_beats
        self.parameter_base = self.emitter.parameters.take(slots * self.parameter_slot)
        rings = {
            "weight": Ring(slots, self._fill_weights),
            "parameter": Ring(slots, self._fill_parameters),
            "input": Ring(2, self._fill_input),
        }
        steps = [
            step
            for chunk in range(len(self.chunks))
            for tile in range(len(self.tiles))
            for step in self._tile_steps(chunk, tile)
        ]
        run(self.emitter, rings, steps)
        return tiling.describe()

    def _fill_weights(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        first, count = self.chunks[key]
        part = self.weights[first : first + count].transpose(1, 2, 0, 3, 4)
        data = np.ascontiguousarray(part).tobytes()
        local = self.weight_base + slot * self.weight_slot
        return [self.emitter.load_constant(data, Space.WEIGHT, local)]

    def _fill_parameters(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        first, count = self.chunks[key]
        data = b"".join(self.parameters[first : first + count])
        local = self.parameter_base + slot * self.parameter_slot
        return [self.emitter.load_constant(data, Space.PARAMETER, local)]

    def _source_box(self, chunk: int, tile: int) -> Box:
        ranges = [a.source(cut) for a, cut in zip(self.axes, self.tiles[tile], strict=True)]
        first, count = self.chunks[chunk]
        return Box(
            (ranges[0][0], ranges[1][0], ranges[2][0]),
            (ranges[0][1], ranges[1][1], ranges[2][1]),
            first,
            count,
        )

    def _fill_input(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, tuple)
        return [load_box(self.from_view, self._source_box(*key), self.chosen.input.slot(slot, 2))]

    def _target(self, chunk: int, tile: int) -> tuple[Box, tuple[int, int, int, int]]:
        """Box of a tile's outputs and its pitches in the scratchpad."""
        cut = self.tiles[tile]
        first, count = self.chunks[chunk]
        size = (cut[0][1], cut[1][1], cut[2][1])
        box = Box((cut[0][0], cut[1][0], cut[2][0]), size, first, count)
        x, y, t, block = box.pitches()
        return box, (x, y, t, block + self._pad(size))

    def _tile_steps(self, chunk: int, tile: int) -> list[Step]:
        cut = self.tiles[tile]
        parts = itertools.product(
            *(
                [(cut[d][0] + f, n) for f, n in cuts(cut[d][1], self.chosen.accumulator[d])]
                for d in (2, 1, 0)
            )
        )
        boxes: list[Ranges] = [(x, y, t) for t, y, x in parts]
        out_slot = self._turns[0]
        self._turns[0] = 1 - out_slot
        steps = []
        for number, part in enumerate(boxes):
            bank = self._turns[1]
            self._turns[1] = 1 - bank

            def body(
                slots: Slots,
                part: Ranges = part,
                bank: int = bank,
                last: bool = number == len(boxes) - 1,
            ) -> None:
                self._array(chunk, tile, part, bank, slots)
                self._drain(chunk, tile, part, bank, out_slot, slots["parameter"])
                if last:
                    box, pitches = self._target(chunk, tile)
                    row = self.chosen.output.slot(out_slot, 2)
                    self.emitter.emit(store_box(self.to_view, box, row, pitches))

            steps.append(Step({"weight": chunk, "parameter": chunk, "input": (chunk, tile)}, body))
        return steps

    def _array(self, chunk: int, tile: int, part: Ranges, bank: int, slots: Slots) -> None:
        box = self._source_box(chunk, tile)
        pitches = box.pitches()
        row = self.chosen.input.slot(slots["input"], 2)
        starts, bounds, counts, strides = [], [], [], []
        for place, d in enumerate(self.order):
            axis = self.axes[d]
            start = axis.start(part[d][0])
            row += (start - box.first[d]) * pitches[d]
            streamed = part[d][1]
            if place < 2:
                streamed = self._stream(axis, streamed)
            counts.append(self._line(part[d][1]) if place == 0 else streamed)
            strides.append(pitches[d] * (axis.stride if place == 2 else 1))
            starts.append(0 if axis.free else start)
            bounds.append(streamed if axis.free else axis.size)
        time = self.axes[self.order[2]]
        nest = (*counts, box.blocks, 1, self.passes, time.kernel, 1)
        step = (*strides, pitches[3], 0, 0, time.dilation * pitches[self.order[2]], 0)
        config = self.config
        self.emitter.emit(
            Array(
                mode=ArrayMode.DEPTHWISE,
                signed=int(self.source.signed),
                zero_point=self.source.zero_point & 0xFF,
                activation=row,
                weight=self.weight_base + slots["weight"] * self.weight_slot,
                accumulator=bank * config.memory.accumulator_rows,
                counts=nest,
                deltas=deltas(nest, step),
                starts=tuple(starts),
                steps=(1, 1, time.stride),
                dilations=(1, 1, time.dilation),
                bounds=tuple(bounds),
                window_x=self.window[0],
                window_y=self.window[1],
                emit_x=self.axes[self.order[0]].stride,
                emit_y=self.axes[self.order[1]].stride,
            )
        )

    def _drain(
        self, chunk: int, tile: int, part: Ranges, bank: int, out_slot: int, parameter: int
    ) -> None:
        box, pitches = self._target(chunk, tile)
        row = self.chosen.output.slot(out_slot, 2)
        row += sum((part[d][0] - box.first[d]) * pitches[d] for d in range(3))
        counts = tuple(part[d][1] for d in self.order)
        width = self._line_outputs(counts[0])
        rows = (1, width, width * counts[1], width * counts[1] * counts[2])
        nest = (1, 1, 1, *counts, box.blocks)
        along = [pitches[d] for d in self.order]
        out_nest = (self.config.array.blocks_per_row, *counts, box.blocks)
        self.emitter.emit(
            Drain(
                accumulator=bank * self.config.memory.accumulator_rows,
                counts=(*counts, box.blocks),
                accumulator_deltas=deltas(nest, (0, 0, 0, *rows)),
                destination=row,
                destination_deltas=deltas(out_nest, (along[0], *along, pitches[3])),
                parameter=self.parameter_base + parameter * self.parameter_slot,
                zero_point=self.target.zero_point,
                low=self.op.low,
                high=self.op.high,
            )
        )


def lower(emitter: Emitter, op: Convolution, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit a depthwise convolution; returns the tiling for the report."""
    return Depthwise(emitter, op, source, target).emit()

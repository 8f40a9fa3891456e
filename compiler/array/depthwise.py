"""Lowering of depthwise convolutions: a window slides over whole lines inside the columns."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from compiler.array.forms import axes_of, packed_parameters
from compiler.array.job import Ranges
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.transfers import Box, Strided, load_box, row_field, store_box
from compiler.ir import Convolution
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseTiling
from compiler.tile.geometry import Triple, cuts, merge
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, Space, UnitInstruction, deltas
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor
from hw.arch.timing import STRIP_LINES


def weight_blocks(
    op: Convolution, source: Tensor, order: Triple, config: AcceleratorConfig
) -> npt.NDArray[np.int8]:
    """Weights by lane block, [blocks, taps along the array's t, passes, rows, cols].

    Parameters
    ----------
    op, source: a depthwise convolution and its operand.
    order: the tensor axes that the array's x, y, t stand for.
    config: the accelerator.
    """
    rows, lanes = config.array.rows, config.lane_block
    of_lane = source.layout.lane_channels()
    kernel = op.weight[:, 0].transpose(0, 3, 2, 1)  # [C, x, y, t]
    kernel = kernel.transpose(0, *(1 + d for d in order))  # array's x, y, t
    taps = kernel.transpose(0, 3, 2, 1).reshape(kernel.shape[0], kernel.shape[3], -1)
    passes = ceil_div(taps.shape[2], rows)
    wide = np.zeros((of_lane.size, taps.shape[1], passes * rows), np.int8)
    wide[of_lane >= 0, :, : taps.shape[2]] = taps[of_lane[of_lane >= 0]]
    # [block, lane, t, pass, row] → [block, t, pass, row, lane]
    split = wide.reshape(source.layout.blocks, lanes, taps.shape[1], passes, rows)
    moved = split.transpose(0, 2, 3, 4, 1)
    result = np.zeros((*moved.shape[:4], config.array.cols), np.int8)
    result[..., :lanes] = moved
    return result


def parameter_blocks(op: Convolution, source: Tensor, config: AcceleratorConfig) -> list[bytes]:
    """Parameters of each lane block, filled up to `cols` channels."""
    lanes, cols = config.lane_block, config.array.cols
    blocks = packed_parameters(op, source.layout.lane_channels(), lanes)
    return [block + bytes(8 * (cols - lanes)) for block in blocks]


class Depthwise:
    """One depthwise layer.

    The array's x, y, t stand for tensor axes `order`: a temporal kernel slides along time, all
    pixels of a frame being its lines.
    """

    def __init__(
        self,
        emitter: Emitter,
        op: Convolution,
        source: Tensor,
        target: Tensor,
        problem: DepthwiseProblem,
        tiling: DepthwiseTiling,
    ):
        self.emitter, self.config, self.op = emitter, emitter.config, op
        self.source, self.target = source, target
        self.axes, levels = merge(axes_of(op, source))
        self.from_view = Strided.of(source).merged(levels)
        self.to_view = Strided.of(target).merged(levels)
        self.problem, self.chosen = problem, tiling
        self.order = self.problem.order
        self.blocks = source.layout.blocks
        self.weights = weight_blocks(op, source, self.order, self.config)
        self.parameters = parameter_blocks(op, source, self.config)
        self._turns = [0, 0]

    # Emission

    def emit(self) -> None:
        """Emit the layer."""
        self._place()
        run(self.emitter, self._rings(), self._steps())

    def _place(self) -> None:
        """Cut the layer, and find places for its constants."""
        tiling = self.chosen
        self.chunks = cuts(self.blocks, tiling.blocks)
        self.tiles: list[Ranges] = [
            (x, y, t)
            for t, y, x in itertools.product(
                *(cuts(self.axes[d].out, tiling.load[d]) for d in (2, 1, 0))
            )
        ]
        self.slots = 2 if len(self.chunks) > 1 else 1
        self.weight_slot = tiling.blocks * self.problem.block_beats
        self.weight_base = self.emitter.weights.take(self.slots * self.weight_slot)
        self.parameter_slot = tiling.blocks * self.problem.parameter_beats
        self.parameter_base = self.emitter.parameters.take(self.slots * self.parameter_slot)

    def _rings(self) -> dict[str, Ring]:
        return {
            "weight": Ring(self.slots, self._fill_weights),
            "parameter": Ring(self.slots, self._fill_parameters),
            "input": Ring(2, self._fill_input),
        }

    def _steps(self) -> list[Step]:
        return [step for chunk, tile in self._pieces() for step in self._tile_steps(chunk, tile)]

    def _pieces(self) -> list[tuple[int, int]]:
        """Chunks of blocks and tiles in order."""
        return [*itertools.product(range(len(self.chunks)), range(len(self.tiles)))]

    def _fill_weights(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        first, count = self.chunks[key]
        part = self.weights[first : first + count]
        if not self.problem.tiled:
            # Blocks of taps are passes, outside the lane blocks.
            part = part.transpose(1, 2, 0, 3, 4)
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
        row = self.chosen.input.slot(slot, 2)
        return [*load_box(self.from_view, self._source_box(*key), row)]

    def _target(self, chunk: int, tile: int) -> tuple[Box, tuple[int, int, int, int]]:
        """Box of a tile's outputs and its pitches in the scratchpad."""
        cut = self.tiles[tile]
        first, count = self.chunks[chunk]
        size = (cut[0][1], cut[1][1], cut[2][1])
        box = Box((cut[0][0], cut[1][0], cut[2][0]), size, first, count)
        x, y, t, block = box.pitches()
        return box, (x, y, t, block + self.problem.pad(size))

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
                streamed = self.problem.stream(axis, streamed)
            counts.append(self.problem.line(part[d][1]) if place == 0 else streamed)
            strides.append(pitches[d] * (axis.stride if place == 2 else 1))
            starts.append(0 if axis.free else start)
            # A lengthened line must not read beyond what was loaded.
            bounds.append(streamed if axis.free else box.first[d] + box.size[d])
        time = self.axes[self.order[2]]
        nest = (*counts, box.blocks, 1, self.problem.tap_blocks, time.kernel, 1)
        step = (*strides, pitches[3], 0, 0, time.dilation * pitches[self.order[2]], 0)
        array = Array(
            mode=ArrayMode.DEPTHWISE,
            signed=int(self.source.signed),
            zero_point=self.source.zero_point & 0xFF,
            activation=row_field(row),
            weight=self.weight_base + slots["weight"] * self.weight_slot,
            accumulator=bank * self.config.memory.accumulator_rows,
            counts=nest,
            deltas=deltas(nest, step),
            starts=tuple(starts),
            steps=(1, 1, time.stride),
            dilations=(1, 1, time.dilation),
            bounds=tuple(bounds),
            window_x=self.problem.window[0],
            window_y=self.problem.window[1],
            emit_x=self.axes[self.order[0]].stride,
            emit_y=self.axes[self.order[1]].stride,
        )
        self.emitter.emit(in_tiles(array, part, step) if self.problem.tiled else array)

    def _drain(
        self, chunk: int, tile: int, part: Ranges, bank: int, out_slot: int, parameter: int
    ) -> None:
        box, pitches = self._target(chunk, tile)
        row = self.chosen.output.slot(out_slot, 2)
        row += sum((part[d][0] - box.first[d]) * pitches[d] for d in range(3))
        counts = tuple(part[d][1] for d in self.order)
        width = self.problem.line_outputs(counts[0])
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


def in_tiles(array: Array, part: Ranges, step: Sequence[int]) -> Array:
    """An instruction in mode DEPTHWISE, stride 1, in mode HFA_DEPTHWISE instead.

    Parameters
    ----------
    array: its lines are as long, and as many, as whole tiles need.
    part: results along x, y, t.
    step: rows between neighbours in the levels of its nest.
    """
    x, lines, t, co, *taps = array.counts
    strips = lines // STRIP_LINES
    nest = (STRIP_LINES, x, strips, t, co, 1, 1, 1)
    return dataclasses.replace(
        array,
        mode=ArrayMode.HFA_DEPTHWISE,
        counts=(x, strips, t, co, *taps),
        deltas=deltas(nest, (step[1], step[0], STRIP_LINES * step[1], step[2], step[3], 0, 0, 0)),
        dilations=(1, 1, 1),
        emit_x=1 + part[0][1] % STRIP_LINES,
        emit_y=1 + part[1][1] % STRIP_LINES,
        transform_s=1,
    )

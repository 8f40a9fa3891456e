"""Tile sizes of a depthwise convolution, and how its lines stream through the window.

Mode DEPTHWISE streams a part once per weight block of taps. Mode HFA_DEPTHWISE (tiles of
F(2×2,3×3)) streams it once, in strips of two lines; ragged parts are computed in whole tiles.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compiler.ir import Convolution
from compiler.tile.geometry import Axis, Triple, balanced, cuts, halved_sizes, product, tile_sizes
from compiler.tile.limits import MAX_COUNT, MAX_DELTA, MAX_STRIDE, MAX_WINDOW
from compiler.tile.parts import DIRECT
from compiler.tile.regions import Region, split_banks
from compiler.tile.sums import (
    ARRAY_OVERHEAD,
    DRAIN_OVERHEAD,
    LOAD_OVERHEAD,
    STORE_OVERHEAD,
    Sums,
)
from hw.arch.config import TILE_POINTS, AcceleratorConfig
from hw.arch.layout import ceil_div
from hw.arch.timing import LINE_HAZARD, STRIP_LINES, TILE_PAUSE
from hw.arch.winograd import Algorithm


def order_of(op: Convolution) -> Triple:
    """Tensor axes that the array's x, y, t stand for: a temporal kernel slides along time."""
    t, h, w = op.kernel
    return (2, 0, 1) if h == w == 1 and t > 1 else (0, 1, 2)


def suits(op: Convolution, config: AcceleratorConfig) -> bool:
    """Whether the DEPTHWISE mode computes this operator (else it runs block-diagonally)."""
    x, y, t = order_of(op)
    kernel, stride = op.kernel[::-1], op.stride[::-1]  # along x, y, t
    dilated = any(d > 1 and k > 1 for d, k in zip(op.dilation, op.kernel, strict=True))
    return (
        "depthwise" in config.features
        and op.depthwise
        and op.pool is None
        and not dilated
        and max(kernel[x], kernel[y], stride[x], stride[y]) <= MAX_WINDOW
        and stride[t] <= MAX_STRIDE
    )


LONGEST_FRAME = 1 << 20
"""Positions of a streamed frame, padding included."""


@dataclasses.dataclass(frozen=True, slots=True)
class DepthwiseTiling:
    """Sizes of a depthwise layer.

    Attributes
    ----------
    blocks: lane blocks in a tile.
    load, accumulator: outputs per load tile and per accumulator tile, along x, y, t.
    output, input: scratchpad regions, two slots each.
    cycles: estimate.
    beats: moved between DRAM and the chip.
    """

    blocks: int
    load: tuple[int, int, int]
    accumulator: tuple[int, int, int]
    output: Region
    input: Region
    cycles: int
    beats: int

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {
            "blocks": self.blocks,
            "load": list(self.load),
            "accumulator": list(self.accumulator),
            "estimate": self.cycles,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class DepthwiseWork:
    """What a tiling does on the array, over the whole layer.

    Attributes
    ----------
    parts: ARRAY instructions for each lane block.
    results: accumulator rows that the first pass produces.
    sums: accumulator rows that all passes produce.
    tiles: of 2×2 results; 0 in mode DEPTHWISE.
    pixels: scratchpad rows read, all passes together.
    multiplications: that the array performs, idle lanes and ragged tiles included.
    """

    parts: int
    results: int
    sums: int
    tiles: int
    pixels: int
    multiplications: int


@dataclasses.dataclass(frozen=True, slots=True)
class DepthwiseProblem:
    """What the tiling of a depthwise convolution depends on.

    Attributes
    ----------
    config: the accelerator.
    axes: x, y, t of the tensor, free ones merged.
    order: the tensor axes that the array's x, y, t stand for.
    blocks: lane blocks.
    algorithm: `DIRECT` for mode DEPTHWISE, F(2×2,3×3) for mode HFA_DEPTHWISE.
    """

    config: AcceleratorConfig
    axes: tuple[Axis, Axis, Axis]
    order: Triple
    blocks: int
    algorithm: Algorithm = DIRECT

    @property
    def tiled(self) -> bool:
        """Mode HFA_DEPTHWISE."""
        return self.algorithm != DIRECT

    @property
    def window(self) -> tuple[int, int]:
        """Window along the array's x and y."""
        return self.axes[self.order[0]].kernel, self.axes[self.order[1]].kernel

    @property
    def tap_blocks(self) -> int:
        """Weight blocks of a window: one tap per array row."""
        return ceil_div(product(self.window), self.config.array.rows)

    @property
    def passes(self) -> int:
        """Passes over the stream; in DEPTHWISE one per weight block of taps."""
        return 1 if self.tiled else self.tap_blocks

    @property
    def time_taps(self) -> int:
        """Taps along the array's t, summed in the accumulators."""
        return self.axes[self.order[2]].kernel

    @property
    def block_beats(self) -> int:
        """Beats of a lane block's weights."""
        return self.config.weight_block_beats * self.tap_blocks * self.time_taps

    @property
    def parameter_beats(self) -> int:
        """Beats of a lane block's parameters."""
        return self.config.requantize_steps * self.config.parameter_row_beats

    def stream(self, axis: Axis, outputs: int) -> int:
        """Steps of the stream along a window axis for so many outputs.

        Tiles come whole, and behind a border of two pixels (one strip).
        """
        if self.tiled:
            return STRIP_LINES * (ceil_div(outputs, STRIP_LINES) + 1)
        return (outputs - 1) * axis.stride + axis.kernel

    def line(self, outputs: int) -> int:
        """Steps of the stream along the array's x: the line buffer wants a shortest line.

        What is streamed beyond the tensor is clipped; its sums are not drained.
        """
        line = self.stream(self.axes[self.order[0]], outputs)
        return max(line, LINE_HAZARD) if self.window[1] > 1 else line

    def line_outputs(self, outputs: int) -> int:
        """Sums that a line of the stream leaves in the accumulators."""
        if self.tiled:
            return outputs
        axis = self.axes[self.order[0]]
        return (self.line(outputs) - axis.kernel) // axis.stride + 1

    def _accumulator(self, load: tuple[int, int, int], blocks: int) -> tuple[int, ...] | None:
        rows = self.config.memory.accumulator_rows // blocks
        a, b, c = self.order
        width = self.line_outputs(load[a])
        if width > rows:
            return None
        part = list(load)
        lines = rows // width
        # Parts of whole strips, as far as more than a line fits.
        unit = STRIP_LINES if self.tiled and lines >= STRIP_LINES else 1
        part[b] = min(balanced(load[b], lines, unit), load[b])
        part[c] = balanced(load[c], rows // (width * load[b])) if part[b] == load[b] else 1
        return tuple(part)

    def pad(self, out: tuple[int, int, int]) -> int:
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
        out_rows = blocks * (product(load) + self.pad(load))
        regions = split_banks([2 * out_rows, 2 * in_rows], config)
        if regions is None:
            return None
        a, b, c = self.order
        line = self.line(part[a])
        frame = line * self.stream(self.axes[b], part[b])
        lines = frame // line
        if max(line, lines) > MAX_COUNT or frame > LONGEST_FRAME:
            return None
        if not self._deltas_fit([max(e) for e in extents], (line, lines, part[c]), blocks):
            return None
        if self.window[1] > 1 and line > config.memory.line_pixels:
            return None
        tiles = product([ceil_div(axis.out, n) for axis, n in zip(self.axes, load, strict=True)])
        inner = product([ceil_div(n, m) for n, m in zip(load, part, strict=True)])
        chunks = ceil_div(self.blocks, blocks)
        arrays = tiles * inner * chunks
        stream = frame * part[c] * blocks * self.passes * self.time_taps
        outputs = product([axis.out for axis in self.axes]) * self.blocks
        array = arrays * (stream + ARRAY_OVERHEAD + (TILE_PAUSE if self.tiled else 0))
        drain = outputs * config.requantize_steps + arrays * DRAIN_OVERHEAD
        loads = self.blocks * product([sum(e) for e in extents])
        port = config.port.cycles(loads + outputs) + 8 * arrays
        if load[0] < self.axes[0].out:
            lost = config.port.lost
            port += lost(loads, max(extents[0])) + lost(outputs, load[0])
        serial = tiles * chunks * (LOAD_OVERHEAD + STORE_OVERHEAD)
        sums = Sums(
            array=array,
            drain=drain,
            port=int(max(port + serial // 2, loads + serial)),
            fill=in_rows + out_rows + stream + LOAD_OVERHEAD,
        )
        output, source = regions
        beats = loads + outputs + self.blocks * self.block_beats
        return DepthwiseTiling(
            blocks, load, (part[0], part[1], part[2]), output, source, sums.cycles, beats
        )

    def _deltas_fit(self, size: Sequence[int], counts: Triple, blocks: int) -> bool:
        """Whether the stream's way through an operand of some size fits the fields of its deltas.

        Padding is streamed, but not stored: the way may be longer than the operand.
        """
        pitches = (1, size[0], size[0] * size[1], product(size))
        along = [pitches[d] for d in self.order]
        time = self.axes[self.order[2]]
        steps = [(n - 1) * pitch for n, pitch in zip(counts, along, strict=True)]
        steps += [(blocks - 1) * pitches[3], (time.kernel - 1) * time.dilation * along[2]]
        return sum(steps) * time.stride <= MAX_DELTA

    def work(self, tiling: DepthwiseTiling) -> DepthwiseWork:
        """What a tiling does on the array; the parts along the axes are independent."""
        along = [
            [
                (first + begin, count)
                for first, size in cuts(axis.out, tiling.load[d])
                for begin, count in cuts(size, tiling.accumulator[d])
            ]
            for d, axis in enumerate(self.axes)
        ]
        x, y, t = ([count for _, count in along[d]] for d in self.order)
        taps = self.passes * self.time_taps
        results = sum(map(self.line_outputs, x)) * sum(y) * sum(t) * self.blocks
        extents = (
            sum(axis.source(part)[1] for part in parts)
            for axis, parts in zip(self.axes, along, strict=True)
        )
        tiles = sum(self.tiles(a, b) for a in x for b in y) * sum(t) * self.blocks
        return DepthwiseWork(
            parts=product([len(parts) for parts in along]),
            results=results,
            sums=results * taps,
            tiles=tiles if self.tiled else 0,
            pixels=product(list(extents)) * self.blocks * self.passes,
            multiplications=self.multiplications(results * taps, tiles),
        )

    def tiles(self, across: int, lines: int) -> int:
        """Tiles of 2×2 results of a part of a map."""
        return ceil_div(across, STRIP_LINES) * ceil_div(lines, STRIP_LINES)

    def multiplications(self, sums: int, tiles: int) -> int:
        """That the array performs: of all sums, or of all tiles."""
        array = self.config.array
        return array.cols * (TILE_POINTS * tiles if self.tiled else array.rows * sums)

    def choose(
        self, merit: Callable[[DepthwiseTiling], float] | None = None
    ) -> list[DepthwiseTiling]:
        """The cheapest tiling and three runners-up; empty where not even one line fits.

        Parameters
        ----------
        merit: what is minimized; default: cycles.
        """
        return sorted(self._candidates(), key=merit)[:4] if merit else [*self._fastest()]

    @functools.lru_cache(maxsize=256)  # noqa: B019 - networks repeat their layers
    def _fastest(self) -> tuple[DepthwiseTiling, ...]:
        return tuple(sorted(self._candidates(), key=lambda t: t.cycles)[:4])

    def fits(self) -> bool:
        """Whether there is a tiling."""
        return next(self._candidates(), None) is not None

    def _candidates(self) -> Iterator[DepthwiseTiling]:
        config = self.config
        limit = min(config.memory.activation_rows, MAX_COUNT)
        unit = STRIP_LINES if self.tiled else 1
        units = (unit, unit, 1)
        usual = [
            [min(size, axis.out) for size in tile_sizes(axis.out, n, limit, 10)]
            for axis, n in zip(self.axes, units, strict=True)
        ]
        others = [halved_sizes(axis.out, n) for axis, n in zip(self.axes, units, strict=True)]
        found = False
        for sizes in (usual, others):
            for tiling in self._tilings(sizes):
                found = True
                yield tiling
            if found:
                return

    def _tilings(self, sizes: Sequence[Sequence[int]]) -> Iterator[DepthwiseTiling]:
        config = self.config
        capacity = min(
            config.memory.accumulator_rows,
            config.weight_beats // (2 * self.block_beats),
            config.parameter_rows * config.parameter_row_beats // (2 * self.parameter_beats),
        )
        chunks = sorted({ceil_div(self.blocks, n) for n in range(1, self.blocks + 1)})
        for load in itertools.product(*sizes):
            for blocks in chunks:
                if blocks <= capacity:
                    tiling = self._try((load[0], load[1], load[2]), blocks)
                    if tiling is not None:
                        yield tiling

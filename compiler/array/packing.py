"""Thin operands: neighbours packed into the lanes of one row, before the array reads them.

A row holds as many neighbours along one axis as its lanes allow. What remains of a window at its
end leaves lanes empty (7 pixels of 3 channels on 16 lanes: 5, then 2). Where two such remainders
fit one row, the lines of a second axis are taken in pairs: 5 of one line, 2 of both, 5 of the
other, so that a 7×7 window of 3 channels takes 11 rows and not 14. Or what remains goes down the
columns: 5 pixels of each of 7 lines, 5 lines of each of the two columns that are left, and the 2×2
pixels in the corner, 10 rows. Rows of a line serve every line of the window; those of a column or
the corner only the window that they begin with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compiler.emit.transfers import Box, row_field
from compiler.tile.geometry import Axis, AxisTriple, Range, Triple
from hw.arch.isa import Reduce, ReduceOp, deltas
from hw.arch.layout import ceil_div

PAIR = 2
"""Lines that are packed together."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rectangle:
    """What a packed block holds: first and number of lines of a pair (of the window), and of taps.

    Attributes
    ----------
    once: it serves the first pair of a window's lines, and no other.
    """

    line: int
    lines: int
    tap: int
    taps: int
    once: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Packing:
    """How the operand of a convolution is packed.

    Attributes
    ----------
    axis: 0, 1 or 2 (x, y, t): neighbours along it share a row.
    lanes: channels of the source.
    taps: neighbours in a packed row.
    kernel: taps of the window along `axis`.
    across: the axis whose lines are packed in pairs; None if they are not.
    lines: taps of the window along `across`.
    columns: what remains at the window's end goes along `across`, and not two lines to a row.
    """

    axis: int
    lanes: int
    taps: int
    kernel: int
    across: int | None = None
    lines: int = 1
    columns: bool = False

    @property
    def rectangles(self) -> tuple[Rectangle, ...]:
        """What each packed block holds.

        First those that serve one pair of lines, last those of a pair's second line alone.
        """
        first = [
            Rectangle(0, 1, tap, min(self.taps, self.kernel - tap))
            for tap in range(0, self.kernel, self.taps)
        ]
        if self.across is None:
            return tuple(first)
        if self.columns:
            lines = [each for each in first if each.taps == self.taps]
            second = [dataclasses.replace(each, line=1) for each in lines]
            return (*self._ends(len(lines) * self.taps), *lines, *second)
        *whole, rest = first
        second = [dataclasses.replace(each, line=1) for each in whole]
        return (*whole, dataclasses.replace(rest, lines=PAIR), *second)

    def _ends(self, tap: int) -> list[Rectangle]:
        """From a tap on, column by column; of what is left of them, one block or one a line."""
        whole, left = divmod(self.lines, self.taps)
        ends = [
            Rectangle(line * self.taps, self.taps, column, 1, once=True)
            for column in range(tap, self.kernel)
            for line in range(whole)
        ]
        wide, first = self.kernel - tap, whole * self.taps
        if left * wide <= self.taps:
            corners = [(first, left)] if left else []
        else:
            corners = [(first + line, 1) for line in range(left)]
        return ends + [Rectangle(line, n, tap, wide, once=True) for line, n in corners]

    @property
    def spans(self) -> tuple[tuple[Range, Range], ...]:
        """What the array multiplies: ranges of pairs of lines, and the blocks that they need."""
        blocks, pairs = len(self.rectangles), ceil_div(self.lines, PAIR)
        once = sum(each.once for each in self.rectangles)
        # Of an odd number of lines the last pair has one.
        single = sum(each.line > 0 and not each.once for each in self.rectangles)
        found: list[tuple[Range, Range]] = []
        for pair in range(pairs):
            begin = once if pair else 0
            end = blocks - (single if pair == pairs - 1 and self.lines % PAIR else 0)
            some = begin, end - begin
            if found and found[-1][1] == some:
                (first, count), _ = found.pop()
                found.append(((first, count + 1), some))
            else:
                found.append(((pair, 1), some))
        return tuple(found)

    @property
    def products(self) -> int:
        """Blocks that the array multiplies for a line of its other axes' taps."""
        return sum(pairs[1] * blocks[1] for pairs, blocks in self.spans)

    def rows(self, once: bool = False) -> int:
        """Rows read for a row of every block: of those that serve one pair, or of the others."""
        return sum(each.lines * each.taps for each in self.rectangles if each.once == once)

    def axes(self, raw: AxisTriple) -> AxisTriple:
        """What the array sees of the axes of the operand."""
        packed = list(raw)
        along = raw[self.axis]
        packed[self.axis] = Axis(along.out, along.out, pool=along.pool)
        if self.across is not None:
            lines = raw[self.across]
            kernel = ceil_div(lines.kernel, PAIR)
            # Pairs follow each other without overlap where the stride allows it.
            stride, dilation = (
                (lines.stride // PAIR, 1) if lines.stride % PAIR == 0 else (lines.stride, PAIR)
            )
            size = (lines.out - 1) * stride + (kernel - 1) * dilation + 1
            packed[self.across] = Axis(size, lines.out, kernel, stride, dilation, pool=lines.pool)
        return packed[0], packed[1], packed[2]

    def _line_step(self, raw: AxisTriple) -> int:
        """Lines from one pair of the packed operand to the next."""
        assert self.across is not None
        return PAIR if raw[self.across].stride % PAIR == 0 else 1

    def weights(self, dense: npt.NDArray[np.int8], lanes: int) -> npt.NDArray[np.int8]:
        """Weights over packed rows, [Cout, blocks·lanes, kt, ky, kx].

        Parameters
        ----------
        dense: [Cout, lanes of the operand, kt, ky, kx].
        lanes: of a row.
        """
        along, across = 4 - self.axis, None if self.across is None else 4 - self.across
        source = dense[:, : self.lanes]
        shape = list(source.shape)
        shape[along] = 1
        if across is not None:
            shape[across] = ceil_div(self.lines, PAIR)
        blocks = []
        for each in self.rectangles:
            wide = np.zeros((shape[0], lanes, *shape[2:]), np.int8)
            for place, (line, tap) in enumerate(self._places(each)):
                part = np.take(source, [tap], axis=along)
                if across is not None:
                    part = _every(part, across, line, shape[across], each.once)
                wide[:, place * self.lanes : (place + 1) * self.lanes] = part
            blocks.append(wide)
        return np.concatenate(blocks, axis=1)

    def _places(self, each: Rectangle) -> list[tuple[int, int]]:
        """Line and tap of every place of a row, in the order of REDUCE's window."""
        lines = range(each.line, each.line + each.lines)
        taps = range(each.tap, each.tap + each.taps)
        if self.across is not None and self.across < self.axis:
            return [(line, tap) for tap in taps for line in lines]
        return [(line, tap) for line in lines for tap in taps]

    def instruction(
        self,
        block: int,
        raw_axes: AxisTriple,
        raw: Box,
        box: Box,
        rows: tuple[int, int],
        zero_point: int,
        signed: bool,
    ) -> Reduce:
        """PACK of one block of a tile.

        Parameters
        ----------
        block: of `rectangles`.
        raw_axes: of the operand before it is packed.
        raw, box: what of it is on chip, and what of the packed operand is made.
        rows: where they lie densely packed.
        zero_point, signed: of the operand; what lies outside has its zero point.
        """
        each, pitches = self.rectangles[block], raw.pitches()
        # Axes that nothing is packed along count from their first row.
        starts, steps, window = [0, 0, 0], [1, 1, 1], [1, 1, 1]
        bounds = list(box.size)
        offset = [first - begin for first, begin in zip(box.first, raw.first, strict=True)]
        for axis, first, taken in (
            (self.axis, each.tap, each.taps),
            (self.across, each.line, each.lines),
        ):
            if axis is None:
                continue
            own = raw_axes[axis]
            steps[axis] = own.stride if axis == self.axis else self._line_step(raw_axes)
            starts[axis] = box.first[axis] * steps[axis] - own.pad + first
            offset[axis] = starts[axis] - raw.first[axis]
            # A line that no window needs need not be on chip.
            bounds[axis] = min(own.size, raw.first[axis] + raw.size[axis])
            window[axis] = taken
        counts = (*self._size(each, raw_axes, box), 1)
        source = rows[0] + sum(n * pitch for n, pitch in zip(offset, pitches, strict=False))
        strides = (*pitches[:3], *(p * s for p, s in zip(pitches[:3], steps, strict=True)), 0)
        return Reduce(
            op=ReduceOp.PACK,
            signed=int(signed),
            counts=counts,
            window=(window[0], window[1], window[2]),
            source=row_field(source),
            source_deltas=deltas((*window, *counts), strides),
            destination=rows[1] + block * box.positions,
            destination_deltas=deltas(counts, box.pitches()),
            starts=tuple(starts),
            steps=tuple(steps),
            bounds=tuple(bounds),
            pad=zero_point & 0xFF,
            pack_lanes=self.lanes,
            low=-128 if signed else 0,
            high=127 if signed else 255,
        )

    def _size(self, each: Rectangle, raw: AxisTriple, box: Box) -> Triple:
        """What is made of a box: what serves the first pair of lines is no use beyond the last."""
        size = list(box.size)
        if each.once and self.across is not None:
            axis = self.axes(raw)[self.across]
            size[self.across] -= (axis.kernel - 1) * axis.dilation
        return size[0], size[1], size[2]


def _every(
    part: npt.NDArray[np.int8], axis: int, first: int, count: int, once: bool
) -> npt.NDArray[np.int8]:
    """Every second element along an axis, or one, filled up with zeros."""
    taken = np.take(part, [first] if once else range(first, part.shape[axis], PAIR), axis=axis)
    widths = [(0, 0)] * part.ndim
    widths[axis] = (0, count - taken.shape[axis])
    return np.pad(taken, widths)


def packings(axes: AxisTriple, used: int, lanes: int) -> list[Packing]:
    """Ways to pack windows of `used` channels into rows of `lanes`."""
    found = []
    for axis, along in enumerate(axes):
        if along.kernel == 1 or along.dilation > 1:
            continue
        one = Packing(axis, used, min(along.kernel, lanes // used), along.kernel)
        found.append(one)
        rest = along.kernel % one.taps
        if not rest or along.kernel <= one.taps:
            continue
        for other, lines in enumerate(axes):
            if other == axis or lines.kernel == 1 or lines.dilation > 1:
                continue
            pairs = dataclasses.replace(one, across=other, lines=lines.kernel)
            if PAIR * rest * used <= lanes:
                found.append(pairs)
            columns = dataclasses.replace(pairs, columns=True)
            if lines.kernel >= one.taps and columns.products < _least(pairs, rest * used, lanes):
                found.append(columns)
    return found


def _least(pairs: Packing, rest: int, lanes: int) -> int:
    """Products of a window in pairs of lines; line by line, where two remainders fit no row."""
    if PAIR * rest <= lanes:
        return pairs.products
    return pairs.lines * ceil_div(pairs.kernel, pairs.taps)


def names(packing: Packing) -> str:
    """The axes, for reports."""
    axes: Sequence[int | None] = (packing.axis, packing.across)
    return ", ".join("xyt"[axis] for axis in axes if axis is not None)

"""Tile sizes of a product of two activations, chosen by what is loaded, streamed and started."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

from compiler.tile.limits import MAX_COUNT
from compiler.tile.regions import Region, split_banks
from compiler.tile.sums import Sums
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import ceil_div
from hw.arch.timing import ACCUMULATE_HAZARD

STEP_CYCLES = 150
"""What a step costs beside its streaming: issues, pipelines, tokens of four units."""
GROUP_CYCLES = 60
"""What each of its groups of columns costs: an ARRAY, and a DRAIN that waits for it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """What the tiling depends on.

    Attributes
    ----------
    batch: matrices.
    rows: vectors of a matrix.
    inner: blocks of k.
    columns: output groups of `cols` columns.
    turned: vectors are transposed on chip before.
    transposed: weights are made on chip, in the bank that the vector unit writes.
    """

    batch: int
    rows: int
    inner: int
    columns: int
    turned: bool
    transposed: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ProductTiling:
    """A choice.

    Attributes
    ----------
    batch, rows, inner, columns: of a tile, as in `Product`.
    cycles: estimate.
    slots: tiles of vectors on chip, and of rows of what is transposed.
    results: tiles of results on chip.
    weight_slots: tiles of weights on chip.
    output, vectors, raw: regions of the scratchpad; `raw` where something is transposed: the
        vectors before, then rows of weights.
    """

    batch: int
    rows: int
    inner: int
    columns: int
    cycles: int
    slots: int
    results: int
    weight_slots: int
    output: Region
    vectors: Region
    raw: Region | None

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Of a tile: batch, rows, inner, columns."""
        return self.batch, self.rows, self.inner, self.columns

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {
            "batch": self.batch,
            "rows": self.rows,
            "inner": self.inner,
            "columns": self.columns,
            "estimate": self.cycles,
        }


def weight_room(problem: Product, config: AcceleratorConfig) -> int:
    """Weight blocks that a product may hold on chip."""
    beats = config.weight_bank_beats if problem.transposed else config.weight_beats
    return beats // config.weight_block_beats


def padded(rows: int, lanes: int) -> int:
    """Whole tiles of a transposition."""
    return ceil_div(rows, lanes) * lanes


def raw_rows(
    problem: Product, sizes: tuple[int, int, int, int], config: AcceleratorConfig
) -> tuple[int, int]:
    """Rows of a tile of vectors before they are turned, and of rows that become weights."""
    batch, rows, inner, columns = sizes
    lanes = config.lane_block
    x = batch * ceil_div(rows, lanes) * inner * lanes if problem.turned else 0
    w = batch * inner * columns * config.array.cols if problem.transposed else 0
    return x, w


def _halves(size: int) -> list[int]:
    """A size and what is left of it by halving, down to 1."""
    sizes = [size]
    while sizes[-1] > 1:
        sizes.append(ceil_div(sizes[-1], 2))
    return sizes


def candidates(problem: Product, config: AcceleratorConfig) -> Iterator[ProductTiling]:
    """Every tiling that fits."""
    lanes, memory = config.lane_block, config.memory
    heads = min(problem.batch, memory.parameter_columns // config.array.cols)
    most = [min(n, MAX_COUNT) for n in (problem.rows, problem.inner, problem.columns)]
    row_sizes = _halves(most[0])
    if problem.turned:
        row_sizes = sorted({min(padded(n, lanes), most[0]) for n in row_sizes}, reverse=True)
    room = weight_room(problem, config)
    for batch, rows, inner, columns in itertools.product(
        _halves(heads), row_sizes, _halves(most[1]), _halves(most[2])
    ):
        kept = columns if inner < problem.inner else 1
        blocks = batch * inner * columns
        if kept * batch * rows > memory.accumulator_rows or blocks > room:
            continue
        sizes = (batch, rows, inner, columns)
        found = next(filter(None, (_placed(problem, config, sizes, n) for n in (2, 1))), None)
        if found is not None:
            yield found


def _placed(
    problem: Product, config: AcceleratorConfig, sizes: tuple[int, int, int, int], slots: int
) -> ProductTiling | None:
    """A tiling with its regions; None where they do not fit."""
    batch, rows, inner, columns = sizes
    lanes, per_row = config.lane_block, config.array.blocks_per_row
    height = padded(rows, lanes) if problem.turned else rows
    x, w = raw_rows(problem, sizes, config)
    output = 2 * batch * columns * per_row * rows
    wanted = [output, slots * batch * inner * height]
    if problem.turned or problem.transposed:
        wanted.append(slots * (x + w))
    regions = split_banks(wanted, config)
    if regions is None:
        return None
    # More where they fit the same banks: less of what is on chip is overwritten.
    tiles = math.prod(_parts(problem, sizes))
    rooms = [
        region.rows // (need // slots)
        for region, need in zip(regions[1:], wanted[1:], strict=True)
        if need
    ]
    blocks = batch * inner * columns
    return ProductTiling(
        *sizes,
        cycles=_cycles(problem, config, sizes),
        slots=max(slots, min([*rooms, tiles])),
        results=max(2, min(regions[0].rows // (output // 2), tiles)),
        weight_slots=2 if 2 * blocks <= weight_room(problem, config) else 1,
        output=regions[0],
        vectors=regions[1],
        raw=regions[2] if len(regions) > 2 else None,
    )


def _parts(problem: Product, sizes: tuple[int, int, int, int]) -> list[int]:
    """Into how many parts each dimension is cut."""
    whole = (problem.batch, problem.rows, problem.inner, problem.columns)
    return [ceil_div(size, part) for size, part in zip(whole, sizes, strict=True)]


def _cycles(problem: Product, config: AcceleratorConfig, sizes: tuple[int, int, int, int]) -> int:
    """The first tile passes one unit after the other; every step starts four of them."""
    rows = sizes[1]
    lanes, per_row = config.lane_block, config.array.blocks_per_row
    parts = _parts(problem, sizes)
    again = parts[1] if parts[2] > 1 else 1  # weights are brought for every tile of rows
    height = padded(problem.rows, lanes) if problem.turned else problem.rows
    vectors = problem.batch * problem.inner * height
    weights = problem.batch * problem.inner * problem.columns * per_row * lanes
    results = problem.batch * problem.columns * per_row * problem.rows
    port = vectors * parts[3] + weights * again + results
    turned = vectors * parts[3] if problem.turned else 0
    vector = (turned + (weights * again if problem.transposed else 0)) * config.vector_steps
    least = max(config.weight_block_groups, ACCUMULATE_HAZARD)
    blocks = problem.batch * problem.inner * problem.columns
    array = blocks * sum(
        max(min(rows, problem.rows - first), least) for first in range(0, problem.rows, rows)
    )
    steps = parts[0] * parts[1] * parts[2] * parts[3]
    first = (port + vector + array) // steps
    starts = steps * (STEP_CYCLES + GROUP_CYCLES * sizes[3])
    return Sums(array=array, vector=vector, port=port, fill=first + starts).cycles


def choose(problem: Product, config: AcceleratorConfig) -> ProductTiling | None:
    """The cheapest; None where nothing fits."""
    return min(candidates(problem, config), key=lambda t: t.cycles, default=None)

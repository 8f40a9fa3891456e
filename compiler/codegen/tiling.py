"""Tile sizes of a convolution, chosen by estimated cycles.

Two levels. A *load tile* is a box of outputs whose inputs (all blocks, halo included) lie in the
scratchpad together. It is computed in *accumulator tiles* of at most `accumulator_rows` rows, each
for a *group* of output blocks. The weights of a group come in *pieces* of some input blocks, or,
where the taps of one are too many, of some taps.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compiler.codegen.allocate import Region, split_banks
from compiler.codegen.geometry import (
    Axis,
    Triple,
    balanced,
    cuts,
    halved_sizes,
    product,
    tile_sizes,
)
from compiler.codegen.hfa_cost import Work, part_sizes, units, work
from compiler.codegen.limits import MAX_COUNT
from compiler.codegen.tiles import DIRECT
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import ceil_div
from hw.arch.timing import ACCUMULATE_HAZARD
from hw.arch.winograd import Algorithm

# What an instruction costs beside its streaming, in cycles: issue, pipeline, token.
ARRAY_OVERHEAD = 6
DRAIN_OVERHEAD = 28
LOAD_OVERHEAD = 48
STORE_OVERHEAD = 32
PORT_EFFICIENCY = 0.97
SHORT_RUN = 6
"""Beats below which runs do not hide their bursts' latency."""
WEIGHT_SLOTS = 4
"""Pieces of which each holds some taps of one input block: so many lie on chip."""
TRAFFIC_WEIGHT = 16
"""Hidden port cycles count for one sixteenth: they cost energy, and others may need the port."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """What the tiling of a convolution depends on.

    Attributes
    ----------
    axes: x, y, t as the array sees them.
    blocks: input blocks in a load tile.
    reduced: input blocks that one output group sums over (fewer where the weights are block
        diagonal).
    groups: output blocks of `cols` channels.
    out_blocks: lane blocks that are stored.
    joinable: several output blocks can share one ARRAY instruction.
    raw_blocks: lane blocks loaded, where the array's operand is packed from them first; else 0.
    raw_axes: the axes of that load.
    pack_window: rows read per packed row.
    algorithm: transform; `DIRECT` where the layer runs in mode GEMM.
    """

    axes: tuple[Axis, Axis, Axis]
    blocks: int
    reduced: int
    groups: int
    out_blocks: int
    joinable: bool = True
    raw_blocks: int = 0
    raw_axes: tuple[Axis, Axis, Axis] | None = None
    pack_window: int = 1
    algorithm: Algorithm = DIRECT

    @property
    def taps(self) -> int:
        """Taps of the window."""
        return product([axis.kernel for axis in self.axes])


@dataclasses.dataclass(frozen=True, slots=True)
class Pieces:
    """How the weights of a group of outputs come on chip.

    Attributes
    ----------
    blocks: input blocks of a piece.
    taps: of a piece along x, y, t; all of them unless `blocks` is 1.
    slots: pieces resident at a time.
    resident: all weights of the layer stay on chip.
    """

    blocks: int
    taps: Triple
    slots: int
    resident: bool

    def of(self, problem: Problem) -> int:
        """Pieces of a group."""
        cut = [ceil_div(a.kernel, n) for a, n in zip(problem.axes, self.taps, strict=True)]
        return ceil_div(problem.reduced, self.blocks) * product(cut)


@dataclasses.dataclass(frozen=True, slots=True)
class Tiling:
    """A choice, and what it is estimated to cost.

    Attributes
    ----------
    load, accumulator: outputs per tile along x, y, t.
    group: output blocks computed together.
    pieces: of the weights.
    group_outer: all tiles for one group of outputs, then the next group.
    input_slots: 2 to load the next tile while one is computed.
    output, packed, input: scratchpad regions; `packed` only where operands are packed.
    cycles: estimate; parts: what it is made of.
    vectors: activation rows that pass the array.
    beats: moved between DRAM and the chip.
    passes: over the weights of each output group, that is, accumulator tiles.
    """

    load: Triple
    accumulator: Triple
    group: int
    pieces: Pieces
    group_outer: bool
    input_slots: int
    output: Region
    input: Region
    packed: Region | None
    cycles: int
    parts: dict[str, int]
    vectors: int = 0
    beats: int = 0
    passes: int = 1

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {
            "load": list(self.load),
            "accumulator": list(self.accumulator),
            "group": self.group,
            "piece": self.pieces.blocks,
            "taps": list(self.pieces.taps),
            "weight_slots": self.pieces.slots,
            "order": "group, tile" if self.group_outer else "tile, group",
            "input_slots": self.input_slots,
            "estimate": self.cycles,
            **self.parts,
        }


def accumulator_tile(load: Triple, pools: Triple, rows: int) -> Triple | None:
    """Largest equal parts of a load tile that fit; None where no whole pool window does."""
    px, py, pt = pools
    x, y, t = load
    if px * py * pt > rows:
        return None
    if x * py * pt > rows:
        return balanced(x, rows // (py * pt), px), py, pt
    y_part = balanced(y, rows // (x * pt), py)
    if y_part < y:
        return x, y_part, pt
    return x, y, balanced(t, rows // (x * y), pt)


@functools.lru_cache(maxsize=4096)
def _extents(axis: Axis, size: int) -> tuple[int, int]:
    """Input elements over all tiles of an axis, and of the largest one."""
    counts = [axis.source(cut)[1] for cut in cuts(axis.out, size)]
    return sum(counts), max(counts)


def _tiles(axis: Axis, size: int) -> int:
    return ceil_div(axis.out, size)


def _group_sizes(problem: Problem, config: AcceleratorConfig) -> list[int]:
    if not problem.joinable:
        return [1]
    limit = min(
        problem.groups,
        config.memory.accumulator_rows // product(problem.algorithm.points),
        config.memory.parameter_columns // config.array.cols,
    )
    sizes = {1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, limit}
    return sorted(s for s in sizes if s <= limit)


def candidates(problem: Problem, config: AcceleratorConfig) -> Iterator[Tiling]:
    """Every tiling that fits, of the sizes worth trying; of all sizes where none of those does."""
    rows = config.memory.activation_rows
    axes = problem.axes
    least = units(axes, problem.algorithm)
    smallest = [min(unit, axis.out) for unit, axis in zip(least, axes, strict=True)]
    if _regions(problem, config, (smallest[0], smallest[1], smallest[2]), 1, 1) is None:
        return
    usual, others = [], []
    for axis, unit in zip(axes, least, strict=True):
        limit = min(MAX_COUNT // axis.stride, max(rows // problem.blocks, unit))
        sizes = tile_sizes(axis.out, unit, limit, 12)
        usual.append([min(size, axis.out) for size in sizes])
        others.append([size for size in halved_sizes(axis.out, unit) if size <= max(limit, unit)])
    found = False
    for per_axis in (usual, others):
        for tiling in _tilings(problem, config, per_axis):
            found = True
            yield tiling
        if found:
            return


def _tilings(
    problem: Problem, config: AcceleratorConfig, per_axis: Sequence[Sequence[int]]
) -> Iterator[Tiling]:
    for load in itertools.product(*per_axis):
        for slots in (2, 1):
            for group in _group_sizes(problem, config):
                for outer in (False, True):
                    if outer and (problem.groups <= group or problem.raw_blocks):
                        continue
                    box = (load[0], load[1], load[2])
                    tiling = _evaluate(problem, config, box, group, outer, slots)
                    if tiling is not None:
                        yield tiling


def _regions(
    problem: Problem, config: AcceleratorConfig, load: Triple, group: int, slots: int
) -> list[Region] | None:
    """Output, [packed,] input regions; None where they do not fit."""
    out_positions = product([n // a.pool for n, a in zip(load, problem.axes, strict=True)])
    out = 2 * out_positions * group * config.array.blocks_per_row
    operand = product([_extents(a, n)[1] for a, n in zip(problem.axes, load, strict=True)])
    sizes = [out, slots * operand * problem.blocks]
    if problem.raw_axes is not None:
        raw = product([_extents(a, n)[1] for a, n in zip(problem.raw_axes, load, strict=True)])
        sizes.append(slots * raw * problem.raw_blocks)
    return split_banks(sizes, config)


def _pieces(problem: Problem, config: AcceleratorConfig, group: int) -> Pieces | None:
    """The largest pieces of which several lie on chip; None where a single tap is too much."""
    capacity = config.weight_beats // config.weight_block_beats
    per_input = problem.taps * group
    total = problem.reduced * problem.taps * problem.groups
    x, y, t = (axis.kernel for axis in problem.axes)
    if total <= capacity and problem.reduced <= MAX_COUNT:
        whole = ceil_div(problem.groups, group)
        return Pieces(problem.reduced, (x, y, t), whole, True)
    for slots in (4, 3, 2):
        piece = min(problem.reduced, capacity // slots // per_input, MAX_COUNT)
        if piece >= 1:
            piece = balanced(problem.reduced, piece)
            return Pieces(piece, (x, y, t), capacity // (piece * per_input), False)
    room = capacity // WEIGHT_SLOTS // group
    if problem.algorithm != DIRECT or room < 1:
        return None
    if x > room:
        taps = balanced(x, room), 1, 1
    elif x * y > room:
        taps = x, balanced(y, room // x), 1
    else:
        taps = x, y, balanced(t, room // (x * y))
    return Pieces(1, taps, capacity // (product(taps) * group), False)


def _evaluate(
    problem: Problem,
    config: AcceleratorConfig,
    load: Triple,
    group: int,
    outer: bool,
    slots: int,
) -> Tiling | None:
    axes = problem.axes
    pools = (axes[0].pool, axes[1].pool, axes[2].pool)
    if problem.algorithm == DIRECT:
        accumulator = accumulator_tile(load, pools, config.memory.accumulator_rows // group)
    else:
        accumulator = part_sizes(axes, problem.algorithm, load, group, config)
    pieces = _pieces(problem, config, group)
    if accumulator is None or pieces is None:
        return None
    if pieces.resident and group * ceil_div(problem.groups, group) > problem.groups:
        # Slots are of equal size; the last group's may be larger than it needs.
        capacity = config.weight_beats // config.weight_block_beats
        if pieces.slots * group * problem.reduced * problem.taps > capacity:
            return None
    regions = _regions(problem, config, load, group, slots)
    if regions is None:
        return None
    parts, done, beats = _cost(problem, config, load, accumulator, group, outer, pieces)
    total = max(parts["array"], parts["drain"], parts["vector"], parts["port"]) + parts["fill"]
    if slots == 1:
        total += parts["input"]
    return Tiling(
        load,
        accumulator,
        group,
        pieces,
        outer,
        slots,
        output=regions[0],
        input=regions[-1],
        packed=regions[1] if problem.raw_blocks else None,
        cycles=total,
        parts=parts,
        vectors=done.vectors,
        beats=beats,
        passes=done.parts // ceil_div(problem.groups, group),
    )


def _direct_work(
    problem: Problem,
    config: AcceleratorConfig,
    load: Triple,
    accumulator: Triple,
    groups: int,
    pieces: int,
) -> Work:
    """Cost on the array in mode GEMM."""
    axes = problem.axes
    tiles = product([_tiles(a, n) for a, n in zip(axes, load, strict=True)])
    computed = tiles * product([ceil_div(n, m) for n, m in zip(load, accumulator, strict=True)])
    positions = product([a.out for a in axes])
    blocks = problem.reduced * problem.taps * problem.groups
    least = max(config.weight_block_groups, ACCUMULATE_HAZARD)
    drains = computed * groups
    return Work(
        array=blocks * max(positions, computed * least) + drains * pieces * ARRAY_OVERHEAD,
        drain=positions * problem.groups * config.requantize_steps + drains * DRAIN_OVERHEAD,
        parts=drains,
        vectors=blocks * positions,
    )


def _cost(
    problem: Problem,
    config: AcceleratorConfig,
    load: Triple,
    accumulator: Triple,
    group: int,
    outer: bool,
    pieces: Pieces,
) -> tuple[dict[str, int], Work, int]:
    """Cycles by unit, summed over the layer (`fill` is what nothing hides); work; beats moved."""
    axes = problem.axes
    pieces_per_group = pieces.of(problem)
    groups = ceil_div(problem.groups, group)
    tiles = product([_tiles(a, n) for a, n in zip(axes, load, strict=True)])
    positions = product([a.out for a in axes])
    blocks = problem.reduced * problem.taps * problem.groups
    if problem.algorithm == DIRECT:
        done = _direct_work(problem, config, load, accumulator, groups, pieces_per_group)
    else:
        done = work(
            axes,
            problem.algorithm,
            config,
            load,
            accumulator,
            [count for _, count in cuts(problem.groups, group)],
            problem.reduced * problem.taps // product(problem.algorithm.kernel),
            pieces_per_group,
        )
    computed, drains = done.parts // groups, done.parts
    arrays = drains * pieces_per_group

    passes = groups if outer and tiles > 1 else 1
    loads, load_count = _load_cycles(problem, load) * passes, tiles * passes
    again = 1
    if not pieces.resident:
        again = 1 if outer else tiles
        if pieces_per_group > pieces.slots:
            again = computed
    weights = blocks * config.weight_block_beats * again
    weight_loads = groups * pieces_per_group * again
    stores = positions // product([a.pool for a in axes]) * problem.out_blocks
    shared = (loads + weights + stores) / PORT_EFFICIENCY + 4 * (arrays + drains)
    load_serial = loads + weights + (load_count + weight_loads) * LOAD_OVERHEAD
    store_serial = stores + tiles * groups * STORE_OVERHEAD

    vector = _packing_cycles(problem, config, load, tiles)
    first = loads // load_count + weights // max(weight_loads, 1) + 2 * LOAD_OVERHEAD
    last = stores // (tiles * groups) + done.drain // drains + STORE_OVERHEAD
    parts = {
        "array": done.array,
        "drain": done.drain,
        "vector": vector,
        "port": int(max(shared, load_serial, store_serial)),
        "input": loads,
        "fill": first + vector // tiles + last,
    }
    return parts, done, loads + weights + stores


def _load_cycles(problem: Problem, load: Triple) -> int:
    """Port cycles of bringing every input tile once; runs of a few beats leave gaps."""
    axes = problem.raw_axes or problem.axes
    blocks = problem.raw_blocks or problem.blocks
    beats = blocks * product([_extents(a, n)[0] for a, n in zip(axes, load, strict=True)])
    run = _extents(axes[0], load[0])[1]
    if run < SHORT_RUN and run < axes[0].size:
        return beats * SHORT_RUN // run
    return beats


def _packing_cycles(problem: Problem, config: AcceleratorConfig, load: Triple, tiles: int) -> int:
    """Cycles of the vector unit that packs operands; 0 where they are not packed."""
    if problem.raw_axes is None:
        return 0
    extents = [_extents(a, n)[0] for a, n in zip(problem.axes, load, strict=True)]
    rows = problem.blocks * product(extents) * problem.pack_window
    return rows * config.vector_steps + tiles * DRAIN_OVERHEAD


def choose(
    problem: Problem,
    config: AcceleratorConfig,
    merit: Callable[[Tiling], float] | None = None,
    accept: Callable[[Tiling], bool] = lambda tiling: True,
) -> tuple[Tiling, list[Tiling]] | None:
    """The cheapest tiling and the runners-up; None where nothing fits.

    Parameters
    ----------
    problem, config: what is tiled, for what.
    merit: what is minimized; default: cycles, and a little of what hides behind them.
    accept: whether instructions can express a tiling.
    """

    def cycles(tiling: Tiling) -> float:
        return tiling.cycles + tiling.parts["port"] // TRAFFIC_WEIGHT

    ranked = sorted(candidates(problem, config), key=merit or cycles)
    first = next((n for n, tiling in enumerate(ranked) if accept(tiling)), None)
    if first is None:
        return None
    return ranked[first], _distinct(ranked[first + 1 :], 3)


def _distinct(tilings: Sequence[Tiling], count: int) -> list[Tiling]:
    """The first few that differ in more than the group size."""
    seen = set()
    result = []
    for tiling in tilings:
        key = (tiling.load, tiling.group_outer, tiling.input_slots)
        if key not in seen:
            seen.add(key)
            result.append(tiling)
        if len(result) == count:
            break
    return result

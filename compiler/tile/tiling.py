"""Tile sizes of a convolution, chosen by estimated cycles.

Two levels. A *load tile* is a box of outputs whose inputs (all blocks, halo included) lie in the
scratchpad together. It is computed in *accumulator tiles* of at most `accumulator_rows` rows, each
for a *group* of output blocks. The weights of a group come in *pieces* of some input blocks, or,
where the taps of one are too many, of some taps.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence

from compiler.tile.convolution_cost import estimate
from compiler.tile.geometry import Triple, balanced, halved_sizes, product, tile_sizes
from compiler.tile.hfa_cost import part_sizes, units
from compiler.tile.limits import MAX_COUNT
from compiler.tile.parts import DIRECT
from compiler.tile.problem import Pieces, Problem, Tiling, extents
from compiler.tile.regions import Region, split_banks
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import ceil_div

FEW_VECTORS = 16
"""Vectors for each beat of the weights up to which smaller pieces of them are tried."""
WEIGHT_SLOTS = 4
"""Pieces of which each holds some taps of one input block: so many lie on chip."""
KEPT = 256
"""Candidates of a problem that are kept for the next layer that poses it."""
TRAFFIC_WEIGHT = 16
"""Hidden port cycles count for one sixteenth: they cost energy, and others may need the port."""


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
                pieces = _all_pieces(problem, config, group)
                for some, outer in itertools.product(pieces, (False, True)):
                    if outer and (problem.groups <= group or problem.raw_blocks):
                        continue
                    if outer and problem.trailed is not None and problem.trailed.array:
                        continue  # All of its tiles would have to wait for the last group.
                    box = (load[0], load[1], load[2])
                    tiling = _evaluate(problem, config, box, group, some, outer, slots)
                    if tiling is not None:
                        yield tiling


def _regions(
    problem: Problem, config: AcceleratorConfig, load: Triple, group: int, slots: int
) -> list[Region] | None:
    """Output, [beside, joined,] [packed,] input regions; None where they do not fit.

    What trails has banks of its own in the place of beside and joined; results that shared a pass
    are taken apart to `joined` alone.
    """
    out_positions = product([n // a.pool for n, a in zip(load, problem.axes, strict=True)])
    out = 2 * out_positions * group * config.array.blocks_per_row
    operand = product([extents(a, n)[1] for a, n in zip(problem.axes, load, strict=True)])
    others = [out, out] if problem.joined else []
    if problem.trailed is not None:
        others = [*problem.trailed.regions]
    if problem.phases > 1:
        others = [problem.phases * out]
    sizes = [out, *others, slots * operand * problem.blocks]
    if problem.raw_axes is not None:
        raw = product([extents(a, n)[1] for a, n in zip(problem.raw_axes, load, strict=True)])
        sizes.append(slots * raw * problem.raw_blocks)
    return split_banks(sizes, config)


def _capacity(problem: Problem, config: AcceleratorConfig) -> int:
    """Blocks of weights that lie on chip, beside those of what trails."""
    others = 0 if problem.trailed is None else problem.trailed.weights
    return (config.weight_beats - others) // config.weight_block_beats


def _pieces(problem: Problem, config: AcceleratorConfig, group: int) -> Pieces | None:
    """The largest pieces of which several lie on chip; None where a single tap is too much."""
    capacity = _capacity(problem, config)
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


def _all_pieces(problem: Problem, config: AcceleratorConfig, group: int) -> list[Pieces]:
    """The largest pieces, and smaller ones where what comes before the first piece matters.

    That is where weights are for a few positions: the layer then waits for them all the time.
    """
    largest = _pieces(problem, config, group)
    if largest is None:
        return []
    few = product([axis.out for axis in problem.axes]) <= FEW_VECTORS * config.weight_block_beats
    if largest.resident or problem.algorithm != DIRECT or not few:
        return [largest]
    capacity = _capacity(problem, config)
    blocks = product(largest.taps) * group
    sizes = {ceil_div(largest.blocks, n) for n in (1, 2, 4, 8, 16)}
    return [
        dataclasses.replace(largest, blocks=n, slots=capacity // (n * blocks))
        for n in sorted(sizes, reverse=True)
    ]


def _evaluate(
    problem: Problem,
    config: AcceleratorConfig,
    load: Triple,
    group: int,
    pieces: Pieces,
    outer: bool,
    slots: int,
) -> Tiling | None:
    axes = problem.axes
    pools = (axes[0].pool, axes[1].pool, axes[2].pool)
    if problem.algorithm == DIRECT:
        accumulator = accumulator_tile(load, pools, config.memory.accumulator_rows // group)
    else:
        accumulator = part_sizes(axes, problem.algorithm, load, group, config)
    if accumulator is None:
        return None
    if pieces.resident and group * ceil_div(problem.groups, group) > problem.groups:
        # Slots are of equal size; the last group's may be larger than it needs.
        capacity = _capacity(problem, config)
        if pieces.slots * group * problem.reduced * problem.taps > capacity:
            return None
    regions = _regions(problem, config, load, group, slots)
    if regions is None:
        return None
    sums, done, beats = estimate(problem, config, load, accumulator, group, outer, pieces, slots)
    return Tiling(
        load,
        accumulator,
        group,
        pieces,
        outer,
        slots,
        output=regions[0],
        input=regions[-1],
        packed=regions[-2] if problem.raw_blocks else None,
        beside=regions[1] if problem.joined else None,
        joined=regions[2] if problem.joined else regions[1] if problem.phases > 1 else None,
        trailing=tuple(regions[1 : 1 + len(problem.trailed.regions)]) if problem.trailed else (),
        cycles=sums.cycles,
        sums=sums,
        vectors=done.vectors,
        beats=beats,
        passes=done.parts // ceil_div(problem.groups, group),
    )


def _cycles(tiling: Tiling) -> float:
    """What is minimized if nothing else is asked for."""
    return tiling.cycles + tiling.sums.port // TRAFFIC_WEIGHT


@functools.lru_cache(maxsize=256)
def _cheapest(problem: Problem, config: AcceleratorConfig) -> tuple[Tiling, ...]:
    """The first few of all candidates by cycles; networks repeat their layers."""
    return tuple(heapq.nsmallest(KEPT, candidates(problem, config), _cycles))


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
    ranked: Sequence[Tiling] = () if merit is not None else _cheapest(problem, config)
    first = next((n for n, tiling in enumerate(ranked) if accept(tiling)), None)
    if first is None and (merit is not None or len(ranked) == KEPT):
        ranked = sorted(candidates(problem, config), key=merit or _cycles)
        first = next((n for n, tiling in enumerate(ranked) if accept(tiling)), None)
    return None if first is None else (ranked[first], _distinct(ranked[first + 1 :], 3))


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

"""What the units do for a convolution with a tiling."""

from __future__ import annotations

from compiler.tile.geometry import Triple, cuts, product
from compiler.tile.hfa_cost import Work, work
from compiler.tile.parts import DIRECT
from compiler.tile.problem import Pieces, Problem, Trailed, extents, tile_count
from compiler.tile.sums import (
    ARRAY_OVERHEAD,
    DRAIN_OVERHEAD,
    LOAD_OVERHEAD,
    STORE_OVERHEAD,
    Sums,
)
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import INSTRUCTION_BYTES
from hw.arch.layout import ceil_div
from hw.arch.timing import ACCUMULATE_HAZARD, FETCH_FIFO

FETCH_STALL = 64
"""Cycles that a busy port gives to each fill of the instruction FIFO: the fetch comes last, when
the queues run dry, and then takes a read latency and the dispatches."""
NOTHING = Trailed()
"""What trails where nothing does."""
SHORT_RUN = 6
"""Beats below which runs do not hide their bursts' latency."""


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
    tiles = product([tile_count(a, n) for a, n in zip(axes, load, strict=True)])
    computed = tiles * product([ceil_div(n, m) for n, m in zip(load, accumulator, strict=True)])
    positions = product([a.out for a in axes])
    blocks = problem.weight_blocks * problem.groups
    least = max(config.weight_block_groups, ACCUMULATE_HAZARD)
    drains = computed * groups
    return Work(
        array=blocks * max(positions, computed * least) + drains * pieces * ARRAY_OVERHEAD,
        drain=positions * problem.groups * config.requantize_steps + drains * DRAIN_OVERHEAD,
        parts=drains,
        vectors=blocks * positions,
    )


def estimate(
    problem: Problem,
    config: AcceleratorConfig,
    load: Triple,
    accumulator: Triple,
    group: int,
    outer: bool,
    pieces: Pieces,
    slots: int,
) -> tuple[Sums, Work, int]:
    """Sums of a tiling (the parameters are its attributes); the array's work; beats moved."""
    axes = problem.axes
    pieces_per_group = pieces.of(problem)
    groups = ceil_div(problem.groups, group)
    tiles = product([tile_count(a, n) for a, n in zip(axes, load, strict=True)])
    positions = product([a.out for a in axes])
    blocks = problem.weight_blocks * problem.groups
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
    stores = positions // product([a.pool for a in axes]) * problem.out_blocks * problem.phases
    beside, joins = (stores, tiles * groups) if problem.joined else (0, 0)
    parted = tiles * groups * problem.phases if problem.phases > 1 else 0
    trailed = problem.trailed or NOTHING
    instructions = load_count + weight_loads + arrays + drains + tiles * groups + 2 * joins
    instructions += trailed.instructions + parted
    fetch: float = INSTRUCTION_BYTES // config.port.bytes
    if problem.algorithm == DIRECT:  # others stream for long with each instruction
        fetch += FETCH_STALL / FETCH_FIFO
    brought, kept = loads + weights + beside + trailed.loads, stores + trailed.stores
    shared = config.port.cycles(brought + kept) + fetch * instructions
    shared += _short_runs(problem, config, load, loads, stores)
    load_serial = brought + (load_count + weight_loads + joins + trailed.tiles) * LOAD_OVERHEAD
    store_serial = kept + (tiles * groups + trailed.tiles) * STORE_OVERHEAD

    switches = 0
    if outer and tiles > 1 and not pieces.resident:
        beside_weights = loads // load_count
        switches = (groups - 1) * _switch(
            pieces,
            pieces_per_group,
            weights // weight_loads,
            beside_weights,
            done.array // drains,
            config,
        )
    packing = _packing_cycles(problem, config, load, tiles)
    joining = (beside or stores * bool(parted)) * config.vector_steps
    joining += (joins + parted) * DRAIN_OVERHEAD
    first = loads // load_count + weights // max(weight_loads, 1) + 2 * LOAD_OVERHEAD
    port = int(max(shared, load_serial, store_serial))
    if tiles == 1 and pieces_per_group > 1 and problem.raw_axes is None and port < done.array:
        # The operand comes in as many parts as the weights; a busy port brings it all the same.
        first -= loads - loads // pieces_per_group
    last = stores // (tiles * groups) + done.drain // drains + STORE_OVERHEAD
    last += joining // (tiles * groups)
    last += trailed.last
    switches += _turns(trailed, done.array // done.parts)
    sums = Sums(
        array=done.array + trailed.array,
        drain=done.drain + trailed.drain,
        vector=packing + joining + trailed.vector,
        port=port,
        turns=loads if slots == 1 else 0,
        fill=first + packing // tiles + last + switches,
    )
    return sums, done, brought + kept


def _turns(trailed: Trailed, cycles: int) -> int:
    """Cycles that the array waits for accumulators, which what trails takes in turn.

    `cycles`: of the part of the convolution that hides the drain of a tile.
    """
    if not trailed.array:
        return 0
    return trailed.tiles * max(0, trailed.drain // trailed.tiles - cycles)


def _switch(
    pieces: Pieces,
    per_group: int,
    beats: int,
    beside: int,
    cycles: int,
    config: AcceleratorConfig,
) -> int:
    """Cycles that the array waits for the weights of the next group of outputs.

    Pieces that have no slot of their own come while the last tile is computed.

    Parameters
    ----------
    pieces: how weights come. per_group: pieces of a group.
    beats: of a piece. beside: of the input tile that comes between them.
    cycles: in which the array computes a tile.
    """
    late = min(per_group, 2 * per_group - pieces.slots)
    if late <= 0 or per_group > pieces.slots:
        return 0
    return max(0, int(config.port.cycles(late * beats)) + beside - cycles)


def _short_runs(
    problem: Problem, config: AcceleratorConfig, load: Triple, loads: int, stores: int
) -> float:
    """Cycles that the memory is expected to lose because tiles are parts of lines."""
    axes = problem.raw_axes or problem.axes
    if load[0] >= problem.axes[0].out:
        return 0
    lost = config.port.lost
    return lost(loads, extents(axes[0], load[0])[1]) + lost(stores, load[0] // axes[0].pool)


def _load_cycles(problem: Problem, load: Triple) -> int:
    """Port cycles of bringing every input tile once; runs of a few beats leave gaps."""
    axes = problem.raw_axes or problem.axes
    blocks = problem.raw_blocks or problem.blocks
    beats = blocks * product([extents(a, n)[0] for a, n in zip(axes, load, strict=True)])
    run = extents(axes[0], load[0])[1]
    if run < SHORT_RUN and run < axes[0].size:
        return beats * SHORT_RUN // run
    return beats


def _packing_cycles(problem: Problem, config: AcceleratorConfig, load: Triple, tiles: int) -> int:
    """Cycles of the vector unit that packs operands; 0 where they are not packed."""
    if problem.raw_axes is None:
        return 0
    along = [extents(a, n)[0] for a, n in zip(problem.axes, load, strict=True)]
    rows = product(along) * problem.pack_rows
    if problem.pack_across is not None:
        axis, size = problem.axes[problem.pack_across], load[problem.pack_across]
        along[problem.pack_across] -= tile_count(axis, size) * (axis.kernel - 1) * axis.dilation
        rows += product(along) * problem.pack_once
    return rows * config.vector_steps + tiles * DRAIN_OVERHEAD

"""Lowering of relayouts: whole blocks are copied, the others selected or convolved.

SELECT (feature `fold`) takes a row of the result from two of the operand at a time. Without it, or
where it takes longer, all is one pointwise convolution with weights of one, which is exact for
every code: acc = x − zx, since no column has more than one weight, and with a scale of 1 and the
zero point zx that gives x again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from compiler.array.choice import evaluate, expressible
from compiler.array.fields import Kernel
from compiler.array.gemm import GemmEmission
from compiler.array.hfa import Candidate
from compiler.array.job import Job
from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.moves import block_layers
from compiler.emit.select import LANES, merges, select_cycles, select_layers
from compiler.emit.streams import Stream, emit
from compiler.emit.transfers import Strided
from compiler.ir import Relayout
from compiler.lower.base import Laid, Lanes, Placed, misfit_of
from compiler.tile.geometry import Axis
from compiler.tile.problem import Problem
from compiler.tile.tiling import candidates
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.numerics import pack_parameters, split_scale
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm


def misfit(source: Tensor, target: Tensor, config: AcceleratorConfig) -> str | None:
    """Why a relayout cannot run, or None if it can."""
    if selects(config) or copied_blocks(source.layout.lane_map, target.layout.lane_map):
        why = misfit_of(lambda: streams(source, target, config), config)
        if why is None or not selects(config):
            return why
    for job in jobs(source, target, config):
        fitting = (t for t in candidates(job.problem, config) if expressible(job, t, config))
        if next(fitting, None) is None:
            return (
                f"a block takes channels from {job.problem.reduced} others; their rows do not fit "
                f"the {config.memory.activation_rows} of {config.name}"
            )
    return None


def selects(config: AcceleratorConfig) -> bool:
    """Whether a configuration can make rows of other rows' lanes."""
    return "fold" in config.features and config.lane_block <= LANES


def streams(source: Tensor, target: Tensor, config: AcceleratorConfig) -> Iterator[Stream]:
    """Copies of the blocks whose lanes stay, SELECT for the others."""
    whole, to = Strided.of(source).merged(2), Strided.of(target).merged(2)
    stay = unchanged(source.layout.lane_map, target.layout.lane_map)
    parts = merges(source.layout.lane_map, target.layout.lane_map)
    for same, group in itertools.groupby(parts, lambda merge: stay[merge.block] is not None):
        some = list(group)
        if same:
            first = some[0].block
            blocks = [block for block in stay[first : first + len(some)] if block is not None]
            yield from block_layers(whole, to.part(first, len(some)), blocks, config)
        else:
            yield from select_layers(whole, to, some, source.zero_point, config)


def unchanged(source: LaneMap, target: LaneMap) -> list[int | None]:
    """The block of the source that each one of the target is, None where lanes change."""
    mine, its = source.table(), target.table()
    blocks: list[int | None] = []
    for row in its:
        same = ((row < 0) | (mine == row)).all(axis=1)
        blocks.append(int(np.flatnonzero(same)[0]) if same.any() else None)
    return blocks


def copied_blocks(source: LaneMap, target: LaneMap) -> bool:
    """Whether no lane changes: blocks are copied as they are."""
    return None not in unchanged(source, target)


def jobs(source: Tensor, target: Tensor, config: AcceleratorConfig) -> Iterator[Job]:
    """Convolutions for parts of the result, each of which reads few blocks of the source."""
    lanes, cols, per_group = config.lane_block, config.array.cols, config.array.blocks_per_row
    first_lane = source.layout.lane_map.first_lanes()
    columns = target.layout.lane_channels()
    taken = np.where(columns >= 0, first_lane[columns], -1)  # lane of the source by column
    groups = [taken[i : i + cols] for i in range(0, taken.size, cols)]
    spans = [
        (int(group[group >= 0].min()) // lanes, int(group[group >= 0].max()) // lanes + 1)
        for group in groups
    ]
    limit = config.memory.activation_rows // 4
    begin = 0
    while begin < len(groups):
        low, high = spans[begin]
        end = begin + 1
        while end < len(groups):
            wider = min(low, spans[end][0]), max(high, spans[end][1])
            if wider[1] - wider[0] > max(limit, high - low):
                break
            (low, high), end = wider, end + 1
        yield _job(source, target, groups[begin:end], spans[begin:end], begin * per_group, config)
        begin = end


def _job(
    source: Tensor,
    target: Tensor,
    groups: list[np.ndarray[Any, np.dtype[np.int64]]],
    spans: list[tuple[int, int]],
    first: int,
    config: AcceleratorConfig,
) -> Job:
    """One convolution for neighbouring output blocks, `first` being their first lane block."""
    rows, cols = config.array.rows, config.array.cols
    low, high = min(a for a, _ in spans), max(b for _, b in spans)
    reduced = max(b - a for a, b in spans)
    starts = [min(a, high - reduced) for a, _ in spans]
    weights = np.zeros((len(groups), reduced, 1, 1, 1, rows, cols), np.int8)
    for number, (group, start) in enumerate(zip(groups, starts, strict=True)):
        used = np.flatnonzero(group >= 0)
        block, row = np.divmod(group[used], rows)
        weights[number, block - start, 0, 0, 0, row, used] = 1
    multiplier, shift = split_scale(1.0)
    one = pack_parameters([0] * cols, [multiplier] * cols, [shift] * cols)
    positions = source.layout.positions
    single = Axis(1, 1)
    axes = (Axis(positions, positions), single, single)
    out_blocks = min(len(groups) * config.array.blocks_per_row, target.layout.blocks - first)
    whole, to = Strided.of(source).merged(2), Strided.of(target).merged(2)
    steps = {b - a for a, b in itertools.pairwise(starts)}
    zero = source.zero_point
    code = (-128, 127) if source.signed else (0, 255)
    return Job(
        problem=Problem(
            axes=axes,
            blocks=high - low,
            reduced=reduced,
            groups=len(groups),
            out_blocks=out_blocks,
            joinable=len(steps) <= 1,
        ),
        source=whole.part(low, high - low),
        target=to.part(first, out_blocks),
        weights=weights,
        parameters=[one] * len(groups),
        first_block=[start - low for start in starts],
        kernel=Kernel(axes, source.signed, zero, zero, *code),
    )


class RelayoutLowering(Placed[Relayout]):
    """The same tensor in other lanes."""

    operation = Relayout
    limits = ()

    def kind(self, op: Relayout, config: AcceleratorConfig) -> str:
        """One kind."""
        return "relayout"

    def misfit(
        self, op: Relayout, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """Why neither copies nor a convolution fit."""
        return misfit(sources[0], target, config)

    def contract(
        self, op: Relayout, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """The result has the lanes that the operator names."""
        return None if result.lane_map == op.lane_map else "it makes other lanes"

    def lanes(self, op: Relayout) -> Lanes:
        """Those it names."""
        return Lanes.OWN

    def result(self, op: Relayout, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """The one it names."""
        return op.lane_map

    def bound(
        self,
        op: Relayout,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """The tensor crosses the memory port twice."""
        return 2 * result.beats(config)

    def emit(
        self, emitter: Emitter, op: Relayout, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Copy blocks and select, or convolve."""
        source, config = sources[0], emitter.config
        report: dict[str, Any] = {"from": str(source.layout.lane_map), "to": str(op.lane_map)}
        convolved = self._convolved(emitter, source, target)
        if self._selected(source, target, config, convolved):
            for stream in streams(source, target, config):
                emit(emitter, stream)
            return report | {"by": "copies and SELECT"}
        if convolved is None:
            raise RefusedError(misfit(source, target, config) or "no tile fits")
        for candidate in convolved:
            GemmEmission(emitter, candidate.job, candidate.tiling).emit()
            report.update(candidate.tiling.describe())
        return report

    def _convolved(
        self, emitter: Emitter, source: Tensor, target: Tensor
    ) -> list[Candidate] | None:
        """The convolutions with weights of one; None where one does not fit, or none is needed."""
        if copied_blocks(source.layout.lane_map, target.layout.lane_map):
            return None
        found = []
        for job in jobs(source, target, emitter.config):
            candidate = evaluate(job, emitter.config, emitter.policy.objective)
            if candidate is None:
                return None
            found.append(candidate)
        return found

    def _selected(
        self,
        source: Tensor,
        target: Tensor,
        config: AcceleratorConfig,
        convolved: Sequence[Candidate] | None,
    ) -> bool:
        """Whether copies and SELECT run, in no more cycles than the convolutions."""
        maps = source.layout.lane_map, target.layout.lane_map
        if copied_blocks(*maps):
            return True
        if not selects(config) or misfit_of(lambda: streams(source, target, config), config):
            return False
        if convolved is None:
            return True
        stay = unchanged(*maps)
        changed = [merge for merge in merges(*maps) if stay[merge.block] is None]
        vector = select_cycles(changed, source.layout.positions, config)
        port = source.layout.rows + target.layout.rows
        return max(vector, port) <= sum(c.tiling.cycles for c in convolved)


LOWERING = RelayoutLowering()

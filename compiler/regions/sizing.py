"""Frames, lines and blocks that a region takes at a time, and how the memories are shared out."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from compiler.array.depthwise_choice import TILED, general_refusal
from compiler.array.depthwise_choice import refusal as tiled_refusal
from compiler.array.forms import axes_of
from compiler.array.job import Job
from compiler.emit.transfers import Box
from compiler.ir import Convolution, TemporalResidual
from compiler.policy import Policy
from compiler.regions import dense
from compiler.regions.along_time import TimeStage
from compiler.regions.cost import with_cost
from compiler.regions.dense import DenseStage
from compiler.regions.depthwise import DepthwiseStage
from compiler.regions.mean import mean_tiles
from compiler.regions.plan import Links, Plan, lines_of
from compiler.regions.prepare import PackStage, ResidualStage
from compiler.regions.stage import ArrayStage, Sizes, Stage, Strip, VectorStage
from compiler.regions.window import WindowStage
from compiler.tile.depthwise import order_of
from compiler.tile.geometry import Range, Triple, cuts, product
from compiler.tile.parts import DIRECT
from compiler.tile.regions import split_banks
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor

HEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)
"""Lines of a strip that are tried, beside the whole map; behind the last stage's pool."""
FRAMES = (1, 2, 4, 8, 16)
PARTS = (1, 2, 4)
"""Parts that the blocks between the stages come in, at least. With one, each stage waits for the
last drain of the one before it where nothing else is left to compute."""
DRAINED = 64
"""Rows that a drain falls behind the array by, of equally many rows."""
WORTH = 4
"""Times as many rows as that a part must have for others to be cut because of it."""
INSTRUCTION = 6
"""Cycles that one more instruction of the array costs."""
SHARES = (1, 4, 5)
"""Parts of the weight memory that a group of blocks of a stage may take one of."""
STRIPS = 2
"""Strips on chip of what has a slot of its own while the next one is made."""
Steps: TypeAlias = tuple[tuple[Strip | None, ...], ...]


def ways(links: Links, config: AcceleratorConfig, policy: Policy) -> Iterator[tuple[Stage, ...]]:
    """The stages of a region, computed in every way worth trying."""
    found: list[list[tuple[Stage, ...]]] = []
    leads = True
    mixes = any(isinstance(op, Convolution) and not op.depthwise for op in links.ops)
    for op, source, target in zip(links.ops, links.tensors, links.tensors[1:], strict=False):
        if isinstance(op, TemporalResidual):
            found.append([(ResidualStage(op, source, target),)])
            continue
        if not op.depthwise:
            jobs = dense.forms(op, source, target, config, policy, leads)
            found.append([_dense(op, source, target, config, job) for job in jobs])
        elif order_of(op) == (0, 1, 2):
            tiled = mixes and not _untiled(op, config, policy)
            algorithms = (DIRECT, TILED) if tiled else (DIRECT,)
            found.append([(WindowStage(config, op, source, target, a),) for a in algorithms])
        else:
            found.append([(TimeStage(config, op, source, target),)])
        leads = False
    for some in itertools.product(*found):
        yield tuple(stage for each in some for stage in each)


def _dense(
    op: Convolution, source: Tensor, target: Tensor, config: AcceleratorConfig, job: Job
) -> tuple[Stage, ...]:
    """A form of a dense convolution, and what packs its operand."""
    stage = DenseStage(config, op, source, target, job)
    if job.packing is None:
        return (stage,)
    t = axes_of(op, source)[2]
    return PackStage(job.packing, job.kernel, t, source, target), stage


def _untiled(op: Convolution, config: AcceleratorConfig, policy: Policy) -> bool:
    """Whether a window has to be direct; it is in tiles only where a map is one strip."""
    other = policy.forced not in (None, TILED)
    return bool(other or general_refusal(config, policy) or tiled_refusal(op, TILED))


def candidates(links: Links, config: AcceleratorConfig, policy: Policy) -> Iterator[Plan]:
    """Every plan that fits, of the sizes worth trying."""
    every = list(ways(links, config, policy))
    if not every:
        return
    last = every[0][-1]
    _, high, long = last.pools
    out = links.target.layout
    used, lines = out.frames * long, out.height * high
    whole = any(stage.whole for stage in every[0])
    frames = set() if whole else {f for f in FRAMES if f < used and f % long == 0}
    heights = {h * high for h in HEIGHTS if h < out.height}
    blocks = links.source.layout.blocks
    sizes: Sequence[int | None] = (None,)
    if all(stage.by_block for stage in every[0]):
        sizes, frames = sorted({ceil_div(blocks, n) for n in range(1, blocks + 1)}), set()
    steps = functools.cache(lambda stages, height: lines_of(stages, lines, height))
    for count in sorted(frames | {used}):
        for height in sorted(heights | {lines}):
            for stages, size in itertools.product(every, sizes):
                if any(stage.single for stage in stages) and len(steps(stages, height)) > 1:
                    continue
                for parts in _parts(stages, size):
                    chunks = (None,) if size is None else tuple(cuts(blocks, size))
                    sizing = _Sizing(links, config, stages, chunks, cuts(used, count), parts)
                    plan = sizing.plan(height, steps(stages, height))
                    if plan is not None:
                        yield plan


def _parts(stages: Sequence[Stage], size: int | None) -> Sequence[int]:
    """Parts of blocks that are tried."""
    first = next(stage for stage in stages if isinstance(stage, ArrayStage))
    transformed = isinstance(first, DenseStage) and first.kernel.algorithm != DIRECT
    return (1,) if transformed or size is not None else PARTS


class _Sizing:
    """Stages, memories and cost of one choice."""

    def __init__(
        self,
        links: Links,
        config: AcceleratorConfig,
        stages: tuple[Stage, ...],
        chunks: tuple[Range | None, ...],
        frames: Sequence[Range],
        parts: int,
    ):
        self.links, self.config, self.parts = links, config, parts
        self.stages, self.chunks = stages, chunks
        self.groups = tuple(map(self._frames, frames))
        self.prepared = sum(isinstance(stage, VectorStage) for stage in stages)
        self.blocks = None if chunks[0] is None else chunks[0][1]

    def _frames(self, frames: Range) -> tuple[Range, ...]:
        """Of all values, told those of the last one."""
        found = [frames]
        for stage in reversed(self.stages):
            found.insert(0, stage.frames(found[0]))
        return tuple(found)

    def plan(self, lines: int, strips: Steps) -> Plan | None:
        """The plan, or None where something does not fit."""
        self.strips = strips
        windows = self._windows()
        if windows is None:
            return None
        # A group of blocks has a share of the weights only where it can choose.
        for share in SHARES if self.blocks is None else (1,):
            stages = self._sized(windows, share)
            if stages is None:
                continue
            draft = Plan(
                self.links, (*self.stages[: self.prepared], *stages), self.chunks, self.groups,
                lines, strips,
            )  # fmt: skip
            held = held_groups(draft, self.config)
            if held is None:
                continue
            for slots in self._slot_choices(stages):
                plan = self._placed(dataclasses.replace(draft, held=held, slots=slots))
                if plan is not None:
                    return with_cost(plan, self.config)
            return None
        return None

    # Stages

    def _made(self, number: int) -> int:
        """Lines of a stage's largest strip."""
        found = (step[number] for step in self.strips)
        return max(strip.result[1] for strip in found if strip is not None)

    def _taken(self, number: int) -> int:
        """Lines of the operand of a stage's largest strip."""
        found = (step[number] for step in self.strips)
        return max(strip.operand[1] for strip in found if strip is not None)

    def _box(self, number: int) -> Triple:
        """Results of a stage's largest strip, in front of its pool."""
        stage = self.stages[number]
        width = stage.target.layout.width * stage.pools[0]
        return width, self._made(number), max(group[number + 1][1] for group in self.groups)

    def _sizes(self, number: int) -> Sizes:
        keep = len(self.strips) > 1
        return Sizes(self._box(number), self.blocks, keep, parts=self.parts)

    def _windows(self) -> dict[int, ArrayStage] | None:
        """Depthwise stages by number: few fit, and that is soon known."""
        found: dict[int, ArrayStage] = {}
        entry = 0
        for number, stage in enumerate(self.stages):
            if isinstance(stage, DepthwiseStage):
                sizes = dataclasses.replace(self._sizes(number), entry=entry)
                made = stage.sized(sizes)
                if made is None:
                    return None
                found[number] = made
                entry += made.entries
        return found

    def _sized(self, windows: dict[int, ArrayStage], share: int) -> list[ArrayStage] | None:
        """The array's stages; groups of blocks of dense ones take a share of the weights."""
        found: list[ArrayStage] = []
        for number in range(self.prepared, len(self.stages)):
            if number in windows:
                found.append(windows[number])
                continue
            stage, sizes = self.stages[number], self._sizes(number)
            assert isinstance(stage, DenseStage)
            pieces = self._pieces(found, stage)
            sizes = dataclasses.replace(sizes, share=share, pieces=pieces)
            last = number == len(self.stages) - 1
            if last:
                sizes = dataclasses.replace(sizes, parts=self._last_parts(stage, sizes.box))
            made = stage.sized(sizes)
            if made is None:
                return None
            if last and found and found[0].brief and found[0].rows > WORTH * DRAINED:
                # Parts whose drain is over while the array works on one of the first stage.
                rows = found[0].rows - DRAINED
                made = stage.sized(dataclasses.replace(sizes, rows=rows)) or made
            found.append(made)
        return found

    def _pieces(self, before: Sequence[ArrayStage], stage: DenseStage) -> tuple[Range, ...]:
        """Blocks that are summed up at a time: each piece ends where the stage before ends one."""
        if not before:
            return ()
        parts = ceil_div(before[-1].blocks, before[-1].step)
        piece = before[-1].step * ceil_div(parts, min(self.parts, 2))
        return tuple(cuts(stage.job.problem.reduced, piece))

    def _last_parts(self, stage: DenseStage, box: Triple) -> int:
        """Parts of the last stage's output blocks, beside those that the memories ask for.

        What comes of a layer's last one is drained, joined and stored while the array waits; each
        one more is an instruction more in every strip.
        """
        problem, positions = stage.job.problem, product(box)
        passes = ceil_div(positions, self.config.memory.accumulator_rows)
        strips = len(self.groups) * len(self.strips)
        behind = positions * problem.groups * (2 if self.links.tail is None else 3)
        best = math.isqrt(behind // (strips * passes * INSTRUCTION))
        return max(1, min(problem.groups, best))

    # Memories

    def _slot_choices(self, stages: Sequence[ArrayStage]) -> Iterator[tuple[int, ...]]:
        """Strips that the regions of all values hold, best choice first.

        Where the vector unit prepares operands, what the array reads is double first: then loads
        and vector unit have a strip's time together. Between two stages of the array, a second
        strip lets the first one's next hide the drain.
        """
        between, last = [1] * (len(self.stages) - 1), STRIPS
        double = list(between)
        if self.prepared:
            double[self.prepared - 1] = STRIPS
        elif len(stages) == 2:
            double[-1] = STRIPS
        yield (STRIPS, *double, last)
        if self.blocks is not None:
            return  # smaller chunks are better
        if self.prepared:
            yield (1, *double, last)
        elif double != between:
            yield (STRIPS, *between, last)
        yield (1, *between, last)

    def _placed(self, plan: Plan) -> Plan | None:
        """With regions; None where they do not fit."""
        rows, slots = self._rows(plan), plan.slots
        sizes = {n: rows[n] * slots[n] for n in reversed(range(len(rows)))}
        order = [*sizes]
        if self.links.tail is not None:
            # Behind the last two values.
            order[2:2] = [-1, -2]
            sizes |= dict.fromkeys((-1, -2), STRIPS * rows[-1])
        # Spare banks go to the last one.
        regions = split_banks([sizes[n] for n in order], self.config)
        if regions is None:
            return None
        places = dict(zip(order, regions, strict=True))
        tiles: tuple[Box, ...] = ()
        if isinstance(self.stages[0], ResidualStage):
            tiles = mean_tiles(self.links.source.layout, places[0].rows // slots[0])
        return dataclasses.replace(
            plan, regions=tuple(places[n] for n in range(len(rows))), beside=places.get(-1),
            joined=places.get(-2), mean_tiles=tiles,
        )  # fmt: skip

    def _rows(self, plan: Plan) -> list[int]:
        """Of a strip of each value."""
        source = self.links.source.layout
        found = []
        for value in range(len(self.stages)):
            frames = max(group[value][1] for group in self.groups)
            stage = self.stages[value]
            size = stage.source.layout.width, self._taken(value), frames
            if value:
                writer = plan.stages[value - 1]
                found.append(writer.room(size, self.blocks or writer.blocks))
            else:
                found.append(product(size) * (self.blocks or source.blocks))
        if isinstance(self.stages[0], ResidualStage):
            found[0] = max(found[0], (source.frames + 1) * source.width)
        last, box = plan.stages[-1], self._box(len(self.stages) - 1)
        x, y, t = (n // pool for n, pool in zip(box, last.pools, strict=True))
        return [*found, last.room((x, y, t), self.blocks or last.blocks)]


def held_groups(plan: Plan, config: AcceleratorConfig) -> tuple[int, ...] | None:
    """Groups of blocks of each array stage whose constants are on chip at a time.

    All of them, of as many stages as can be, the largest ones first; of others two at least. Where
    blocks pass in chunks, one number: chunks whose constants are on chip. None where that does not
    fit.
    """
    room = config.weight_beats, config.parameter_rows * config.parameter_row_beats

    def fit(held: Sequence[int], beats: Sequence[tuple[int, int]]) -> bool:
        needed = (sum(h * b[n] for h, b in zip(held, beats, strict=True)) for n in range(2))
        return all(n <= most for n, most in zip(needed, room, strict=True))

    chunk = plan.chunks[0]
    if chunk is not None:
        unit = [
            (chunk[1] * weights, chunk[1] * parameters)
            for weights, parameters in (stage.unit_beats for stage in plan.array)
        ]
        # Positions of a strip are computed behind the frames of the next one: if that is another
        # chunk's only one, constants of the chunk after it would be late with two slots, and LOAD
        # brings its operand behind them.
        most = 2 if len(plan.strips) > 1 else 3
        for slots in sorted({min(len(plan.chunks), n) for n in (2, most)}, reverse=True):
            if fit([slots] * len(unit), unit):
                return (slots,)
        return None
    beats = [stage.group_beats for stage in plan.array]
    groups = [plan.groups(number) for number in range(len(beats))]
    held = [min(2, count) for count in groups]
    if not fit(held, beats):
        return None

    def with_(number: int, count: int) -> list[int]:
        return [*held[:number], count, *held[number + 1 :]]

    last_first = [*reversed(range(len(beats)))]
    for number in sorted(last_first, key=lambda n: -groups[n] * beats[n][0]):
        whole = with_(number, groups[number])
        if fit(whole, beats):
            held = whole
    for number in last_first:
        while held[number] < groups[number] and fit(with_(number, held[number] + 1), beats):
            held[number] += 1
    return tuple(held)

"""Frames and lines that a fused chain takes at a time, and how the memories are shared out."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

from compiler.array.depthwise_choice import TILED, general_refusal
from compiler.array.depthwise_choice import refusal as window_refusal
from compiler.array.fields import Kernel
from compiler.array.forms import axes_of, jobs, packed_parameters
from compiler.array.hfa import fold, refusal, transformed
from compiler.array.job import Job
from compiler.emit.transfers import Box
from compiler.fused.cost import with_cost
from compiler.fused.plan import FusedPlan, Links, residual_frames
from compiler.fused.stages import GemmStage
from compiler.fused.strips import strips_of
from compiler.fused.window import WindowStage
from compiler.ir import Convolution
from compiler.policy import OFF, SUPPORTED, Policy
from compiler.tile.geometry import Axis, Range, Triple, balanced, cuts, product
from compiler.tile.limits import MAX_COUNT
from compiler.tile.parts import DIRECT
from compiler.tile.regions import Region, split_banks
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import ceil_div
from hw.arch.winograd import Algorithm

FRAME_CHOICES = (1, 2, 4, 8, 16)
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


def merged_back(job: Job, axes: tuple[Axis, Axis, Axis]) -> Kernel:
    """The kernel of a job with all three axes, as strips cut them."""
    if job.packing is not None:
        t = axes[2]
        axes = axes[0], axes[1], Axis(t.out, t.out, pool=t.pool)
    return dataclasses.replace(job.kernel, axes=axes)


def temporal_forms(
    links: Links, config: AcceleratorConfig, policy: Policy
) -> Iterator[tuple[Job, Kernel]]:
    """Every way to compute the temporal convolution that strips allow."""
    op = links.temporal
    assert op is not None
    axes = axes_of(op, links.operand)
    for job in jobs(op, links.operand, links.inner, config):
        if job.phases is not None or (job.packing is not None and job.packing.axis != 2):
            continue
        if policy.forced is None or refusal(op, job, policy.forced, config) is not None:
            yield job, merged_back(job, axes)
        if job.packing is not None or "hfa" not in config.features or policy.hfa == OFF:
            continue
        try:
            folded = fold(op, links.operand)
        except ValueError:
            continue  # the folded bias leaves its 32 bits
        lanes = links.inner.layout.lane_channels()
        parameters = packed_parameters(folded, lanes, config.array.cols)
        for algorithm in SUPPORTED:
            wanted = policy.forced is None or policy.forced == algorithm
            if wanted and refusal(op, job, algorithm, config) is None:
                changed = transformed(job, algorithm, parameters)
                yield changed, merged_back(changed, axes)


def candidates(links: Links, config: AcceleratorConfig, policy: Policy) -> Iterator[FusedPlan]:
    """Every plan that fits, of the sizes worth trying."""
    (job, *_) = (
        j for j in jobs(links.pointwise, links.result, links.target, config) if j.packing is None
    )
    kernel = merged_back(job, axes_of(links.pointwise, links.result))
    forms = [None] if links.temporal is None else list(temporal_forms(links, config, policy))
    windows = window_algorithms(links.window, config, policy)
    used = kernel.axes[2].out
    heights = {
        h * kernel.pools[1]
        for h in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)
        if h * kernel.pools[1] < kernel.axes[1].out
    }
    frames = {f for f in FRAME_CHOICES if f < used and f % kernel.pools[2] == 0}
    for count in sorted(frames | {used}):
        for lines in sorted(heights | {kernel.axes[1].out}):
            ways = windows if lines == kernel.axes[1].out else (DIRECT,)
            for form, window in itertools.product(forms, ways):
                for parts in PARTS if form is None or form[1].algorithm == DIRECT else (1,):
                    stages = (form, window, (job, kernel))
                    plan = _Sizing(links, config, stages, count, lines, parts).plan()
                    if plan is not None:
                        yield plan


def window_algorithms(
    op: Convolution, config: AcceleratorConfig, policy: Policy
) -> tuple[Algorithm, ...]:
    """How a chain's depthwise convolution may be computed; in tiles only where it is one strip."""
    other = policy.forced not in (None, TILED)
    if other or general_refusal(config, policy) or window_refusal(op, TILED):
        return (DIRECT,)
    return (DIRECT, TILED)


class _Sizing:
    """Stages, memories and cost of one choice of frames and lines."""

    def __init__(
        self,
        links: Links,
        config: AcceleratorConfig,
        stages: tuple[tuple[Job, Kernel] | None, Algorithm, tuple[Job, Kernel]],
        count: int,
        lines: int,
        parts: int,
    ):
        self.parts = parts
        self.links, self.config = links, config
        self.form, window, self.pointwise_form = stages
        pointwise = self.pointwise_form
        self.frames = tuple(cuts(pointwise[1].axes[2].out, count))
        self.lines = lines
        axis = axes_of(links.window, links.inner)[1]
        self.strips = tuple(strips_of(axis, pointwise[1].axes[1].out, lines))
        self.inner_lines = max(s.inner[1] for s in self.strips)
        self.count = count
        self.keep = len(self.strips) > 1
        self.algorithm = window
        self.window = WindowStage(
            config, links.window, links.inner, links.result, self.keep,
            DIRECT if self.keep else window,
        )  # fmt: skip
        self.temporal: GemmStage | None = None

    def plan(self) -> FusedPlan | None:
        """The plan, or None where something does not fit."""
        memory = self.config.memory
        if self.keep and self.algorithm != DIRECT:
            return None
        lines = max(s.outputs[1] for s in self.strips)
        split = self.window.block_size(self.count, lines, self.parts)
        windowed = self.window.problem.window[1] > 1
        if split is None or self.window.entries(self.count) > memory.line_pixels:
            return None
        if windowed and self.window.line > memory.line_pixels:
            return None
        for share in SHARES:
            stages = self._stages(share)
            if stages is None:
                continue
            self.temporal, pointwise = stages
            draft = self._draft(split, pointwise)
            held = _held(draft, self.config)
            if held is None:
                continue
            for choice in self._slot_choices():
                regions = self._regions(pointwise, choice)
                if regions is None:
                    continue
                rows = regions["input"].rows // choice["input"]
                plan = dataclasses.replace(
                    draft, regions=regions, slots=choice, held=held,
                    mean_tiles=self._mean_tiles(rows),
                )  # fmt: skip
                return with_cost(plan, self.config)
            return None
        return None

    def _draft(self, split: tuple[int, int], pointwise: GemmStage) -> FusedPlan:
        """A plan without memories and costs."""
        # Each piece ends where one of the window's parts does.
        parts = ceil_div(self.window.blocks, split[1])
        piece = split[1] * ceil_div(parts, min(self.parts, 2))
        return FusedPlan(
            self.links, self.frames, self.lines, self.strips, self.temporal, self.window,
            pointwise, split, tuple(cuts(pointwise.job.problem.reduced, piece)), {}, {}, {}, (),
            0, {}, 0, 0,
        )  # fmt: skip

    def _stages(self, share: int) -> tuple[GemmStage | None, GemmStage] | None:
        """Temporal and pointwise stage, whose groups of blocks take a share of the weights."""
        temporal = None
        if self.form is not None:
            box = self.links.inner.layout.width, self.inner_lines, self.count
            temporal = self._stage(self.form, box, share, self.parts)
            if temporal is None:
                return None
        kernel = self.pointwise_form[1]
        box = kernel.axes[0].out, self.lines, self.count
        parts = self._pointwise_parts(box)
        pointwise = self._stage(self.pointwise_form, box, share, parts)
        if temporal is not None and temporal.brief and temporal.rows > WORTH * DRAINED:
            # Parts whose drain is over while the array works on one of the temporal stage.
            rows = temporal.rows - DRAINED
            pointwise = self._stage(self.pointwise_form, box, share, parts, rows) or pointwise
        return None if pointwise is None else (temporal, pointwise)

    def _pointwise_parts(self, box: Triple) -> int:
        """Parts of the pointwise stage's output blocks, beside those that the memories ask for.

        What comes of a layer's last one is drained, joined and stored while the array waits; each
        one more is an instruction more in every strip.
        """
        problem = self.pointwise_form[0].problem
        positions = product(box)
        passes = ceil_div(positions, self.config.memory.accumulator_rows)
        strips = len(self.frames) * len(self.strips)
        behind = positions * problem.groups * (2 if self.links.tail is None else 3)
        best = math.isqrt(behind // (strips * passes * INSTRUCTION))
        return max(1, min(problem.groups, best))

    def _stage(
        self,
        form: tuple[Job, Kernel],
        box: Triple,
        share: int,
        parts: int,
        rows: int | None = None,
    ) -> GemmStage | None:
        job, kernel = form
        limit = ceil_div(job.problem.groups, parts)
        if share > 1:
            block = job.problem.reduced * kernel.taps * self.config.weight_block_beats
            limit = min(limit, self.config.weight_beats // (share * block))
        return GemmStage.fitting(self.config, job, kernel, box, limit, rows)

    def _slot_choices(self) -> Iterator[dict[str, int]]:
        """Strips that the regions hold, best choice first.

        Where the vector unit prepares operands, what the array reads is double first: then loads
        and vector unit have a strip's time together. Without a temporal convolution, a second
        result lets the next window hide the drain.
        """
        prepared = []
        if self.links.residual is not None:
            prepared.append("difference")
        if self.temporal is not None and self.temporal.job.packing is not None:
            prepared.append("packed")
        fixed = {"output": 2, "result": 1}
        if self.links.tail is not None:
            fixed |= {"beside": 2, "joined": 2}
        if self.temporal is not None:
            fixed["inner"] = 1
        single = {**fixed, **dict.fromkeys(prepared, 1)}
        if prepared:
            double = {**single, prepared[-1]: 2}
            yield {**double, "input": 2}
            yield {**double, "input": 1}
        elif self.temporal is None:
            yield {**fixed, "result": 2, "input": 2}
            yield {**single, "input": 2}
        else:
            yield {**single, "input": 2}
        yield {**single, "input": 1}

    def _regions(self, stage: GemmStage, slots: dict[str, int]) -> dict[str, Region] | None:
        """Regions by name; None where they do not fit."""
        links, count = self.links, self.count
        axes, pools = stage.kernel.axes, stage.kernel.pools
        largest = axes[0].out, self.lines, count
        out = product([n // p for n, p in zip(largest, pools, strict=True)])
        window = self.window
        frame = window.axes[0].out * self.lines + window.garbage
        pixels = self.inner_lines * links.inner.layout.width
        frames = operand = count
        blocks = links.source.layout.blocks
        sizes = {"output": stage.result_blocks * out, "result": window.blocks * count * frame}
        if links.tail is not None:
            sizes["beside"] = sizes["joined"] = sizes["output"]
        if self.temporal is not None:
            sizes["inner"] = self.temporal.result_blocks * count * pixels
            frames = operand = max(self._operand_frames(cut)[1] for cut in self.frames)
            if self.temporal.job.packing is not None:
                sizes["packed"] = self.temporal.job.problem.blocks * count * pixels
        least = 0
        if links.residual is not None:
            sizes["difference"] = blocks * operand * pixels
            length = links.source.layout.frames
            needs = [residual_frames(self._operand_frames(cut), length) for cut in self.frames]
            frames = max(count + mean for (_, count), mean in needs)
            least = (length + 1) * links.source.layout.width
        sizes["input"] = max(blocks * frames * pixels, least)
        # Spare banks go to the last one.
        regions = split_banks([n * slots[name] for name, n in sizes.items()], self.config)
        return None if regions is None else dict(zip(sizes, regions, strict=True))

    def _operand_frames(self, frames: Range) -> Range:
        assert self.links.temporal is not None
        return axes_of(self.links.temporal, self.links.operand)[2].source(frames)

    def _mean_tiles(self, rows: int) -> tuple[Box, ...]:
        """Boxes of the source whose frames and mean frame fit an input slot."""
        if self.links.residual is None:
            return ()
        layout = self.links.source.layout
        line = layout.width * (layout.frames + 1)
        blocks = min(layout.blocks, rows // line)
        blocks = balanced(layout.blocks, blocks)
        limit = min(rows // (line * blocks), MAX_COUNT // layout.width)
        lines = balanced(layout.height, limit)
        return tuple(
            Box((0, y, 0), (layout.width, n, layout.frames), block, count)
            for y, n in cuts(layout.height, lines)
            for block, count in cuts(layout.blocks, blocks)
        )


def _held(plan: FusedPlan, config: AcceleratorConfig) -> dict[str, int] | None:
    """Groups of each stage whose weights and parameters are on chip at a time.

    All of them, of as many stages as can be, the largest ones first; of others two at least. None
    where that does not fit.
    """
    groups, items = plan.groups, plan.items
    capacity = config.weight_beats, config.parameter_rows * config.parameter_row_beats

    def fit(held: dict[str, int]) -> bool:
        return all(
            sum(held[name] * items[name][memory] for name in held) <= room
            for memory, room in enumerate(capacity)
        )

    held = {name: min(2, count) for name, count in groups.items()}
    if not fit(held):
        return None
    for name in sorted(groups, key=lambda name: -groups[name] * items[name][0]):
        whole = held | {name: groups[name]}
        if fit(whole):
            held = whole
    for name in ("pointwise", "window", "temporal"):
        while name in held and held[name] < groups[name] and fit(held | {name: held[name] + 1}):
            held[name] += 1
    return held

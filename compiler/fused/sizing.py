"""Frames and lines that a fused chain takes at a time, and how the memories are shared out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from compiler.array.fields import Kernel
from compiler.array.forms import axes_of, jobs, packed_parameters
from compiler.array.gemm import Job
from compiler.array.hfa import fold, refusal, transformed
from compiler.emit.transfers import Box
from compiler.fused.cost import with_cost
from compiler.fused.plan import FusedPlan, Links, residual_frames
from compiler.fused.stages import GemmStage, WindowStage, parameter_beats
from compiler.fused.strips import strips_of
from compiler.policy import OFF, SUPPORTED, Policy
from compiler.tile.geometry import Axis, Range, balanced, cuts, product
from compiler.tile.limits import MAX_COUNT
from compiler.tile.regions import Region, split_banks
from hw.arch.config import AcceleratorConfig

FRAME_CHOICES = (1, 2, 4, 8, 16)


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
        if job.packing is not None and job.packing.axis != 2:
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
    used = kernel.axes[2].out
    heights = {
        h * kernel.pools[1]
        for h in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)
        if h * kernel.pools[1] < kernel.axes[1].out
    }
    frames = {f for f in FRAME_CHOICES if f < used and f % kernel.pools[2] == 0}
    for count in sorted(frames | {used}):
        for lines in sorted(heights | {kernel.axes[1].out}):
            for form in forms:
                plan = _Sizing(links, config, (job, kernel), form, count, lines).plan()
                if plan is not None:
                    yield plan


class _Sizing:
    """Stages, memories and cost of one choice of frames and lines."""

    def __init__(
        self,
        links: Links,
        config: AcceleratorConfig,
        pointwise: tuple[Job, Kernel],
        temporal: tuple[Job, Kernel] | None,
        count: int,
        lines: int,
    ):
        self.links, self.config = links, config
        self.form, self.pointwise_form = temporal, pointwise
        self.frames = tuple(cuts(pointwise[1].axes[2].out, count))
        self.lines = lines
        axis = axes_of(links.window, links.inner)[1]
        self.strips = tuple(strips_of(axis, pointwise[1].axes[1].out, lines))
        self.inner_lines = max(s.inner[1] for s in self.strips)
        self.count = count
        self.window = WindowStage(
            config, links.window, links.inner, links.result, len(self.strips) > 1
        )
        self.temporal: GemmStage | None = None

    def plan(self) -> FusedPlan | None:
        """The plan, or None where something does not fit."""
        memory = self.config.memory
        split = self.window.block_size(self.count, max(s.outputs[1] for s in self.strips))
        windowed = self.window.problem.window[1] > 1
        if split is None or self.window.entries(self.count) > memory.line_pixels:
            return None
        if windowed and self.window.line > memory.line_pixels:
            return None
        if self.form is not None:
            box = self.links.inner.layout.width, self.inner_lines, self.count
            self.temporal = GemmStage.fitting(self.config, *self.form, box, MAX_COUNT)
            if self.temporal is None:
                return None
        room = self.config.weight_beats - self.window_beats - self.temporal_beats
        stage = self._pointwise(room)
        if stage is None or not self._parameters_fit(stage):
            return None
        slots = min(len(stage.groups), room // stage.item_beats)
        for choice in self._slot_choices():
            regions = self._regions(stage, choice)
            if regions is None:
                continue
            rows = regions["input"].rows // choice["input"]
            draft = FusedPlan(
                self.links, self.frames, self.lines, self.strips, self.temporal, self.window,
                stage, split, regions, choice, self._mean_tiles(rows), slots, 0, {}, 0, 0,
            )  # fmt: skip
            return with_cost(draft, self.config)
        return None

    @property
    def window_beats(self) -> int:
        """Beats of the depthwise weights."""
        return self.window.blocks * self.window.problem.block_beats

    @property
    def temporal_beats(self) -> int:
        """Beats of the temporal weights; all of them stay on chip."""
        stage = self.temporal
        return 0 if stage is None else stage.item_beats * len(stage.groups)

    def _pointwise(self, room: int) -> GemmStage | None:
        """The pointwise stage, all weights on chip or two groups of them at least."""
        job, kernel = self.pointwise_form
        box = kernel.axes[0].out, self.lines, self.count
        stage = GemmStage.fitting(self.config, job, kernel, box, MAX_COUNT)
        if stage is not None and stage.item_beats * len(stage.groups) <= room:
            return stage
        one = job.problem.reduced * self.config.weight_block_beats
        if room < 2 * one:
            return None
        return GemmStage.fitting(self.config, job, kernel, box, room // (2 * one))

    def _parameters_fit(self, stage: GemmStage) -> bool:
        rows = self.window.blocks + stage.job.problem.groups
        if self.temporal is not None:
            rows += self.temporal.job.problem.groups
        capacity = self.config.parameter_rows * self.config.parameter_row_beats
        return rows * parameter_beats(self.config) <= capacity

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

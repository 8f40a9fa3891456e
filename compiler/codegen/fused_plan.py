"""Sizes of a fused chain: frames and lines of a strip, regions, and what it is estimated to cost.

A chain is [temporal residual,] [temporal convolution,] depthwise convolution, pointwise
convolution. Frames go in groups, lines in strips (compiler/codegen/fused_strips.py); the maps
between the operators exist only for a strip at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from compiler.codegen.allocate import Region, split_banks
from compiler.codegen.convolution import axes_of, jobs, packed_parameters
from compiler.codegen.fused_cost import with_cost
from compiler.codegen.fused_stages import GemmStage, WindowStage, parameter_beats
from compiler.codegen.fused_strips import Strip, strips_of
from compiler.codegen.gemm import Job
from compiler.codegen.geometry import Axis, Range, cuts, product
from compiler.codegen.hfa import fold, refusal, transformed
from compiler.codegen.policy import OFF, SUPPORTED, Policy
from compiler.codegen.tiles import Kernel
from compiler.ir import Chain, Convolution, TemporalResidual, TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import TensorLayout
from hw.arch.program import Tensor

FRAME_CHOICES = (1, 2, 4, 8, 16)


def tensor_of(kind: TensorType, lanes: int, segments: tuple[int, ...] = ()) -> Tensor:
    """A tensor that lies nowhere: what is asked of it is its layout and quantization."""
    channels, frames, height, width = kind.shape
    layout = TensorLayout(segments or (channels,), frames, height, width, lanes)
    return Tensor("", 0, layout, kind.signed, kind.scale, kind.zero_point, kind.onnx_shape)


@dataclasses.dataclass(frozen=True, slots=True)
class Links:
    """The operators of a chain and the tensors between them.

    Attributes
    ----------
    residual, temporal: None where the chain has none.
    window, pointwise: depthwise and pointwise convolution.
    source: what is loaded; operand: of the temporal convolution.
    inner: operand of the depthwise convolution; result: its result; target: what is stored.
    """

    residual: TemporalResidual | None
    temporal: Convolution | None
    window: Convolution
    pointwise: Convolution
    source: Tensor
    operand: Tensor
    inner: Tensor
    result: Tensor
    target: Tensor

    @classmethod
    def of(cls, op: Chain, source: Tensor, target: Tensor) -> Links:
        """Name the stages of a chain."""
        lanes = source.layout.lanes
        stages = list(op.stages)
        residual = stages.pop(0) if isinstance(stages[0], TemporalResidual) else None
        assert residual is None or isinstance(residual, TemporalResidual)
        convolutions = [stage for stage in stages if isinstance(stage, Convolution)]
        temporal = convolutions.pop(0) if len(convolutions) == 3 else None
        window, pointwise = convolutions
        operand = source
        if residual is not None:
            # Lane by lane: the segments stay.
            operand = tensor_of(op.between[0], lanes, source.layout.segments)
        result = tensor_of(op.between[-1], lanes)
        inner = operand
        if temporal is not None:
            inner = tensor_of(op.between[-2], lanes)
        else:
            result = tensor_of(op.between[-1], lanes, source.layout.segments)
        return cls(residual, temporal, window, pointwise, source, operand, inner, result, target)


@dataclasses.dataclass(frozen=True, slots=True)
class FusedPlan:
    """A choice, and what it is estimated to cost.

    Attributes
    ----------
    links: operators and tensors.
    frames: cuts of the depthwise result's frames.
    lines: of a strip.
    strips: of every group of frames.
    temporal, window, pointwise: stages.
    split: frames and blocks of an instruction of the window stage.
    regions: by name: output, result, inner, packed, input (those that the chain has).
    input_slots, result_slots: strips that the regions hold.
    pointwise_slots: groups of the pointwise weights on chip.
    cycles: estimate; parts: what it is made of.
    beats: moved between DRAM and the chip.
    vectors: activation rows that pass the array.
    """

    links: Links
    frames: tuple[Range, ...]
    lines: int
    strips: tuple[Strip, ...]
    temporal: GemmStage | None
    window: WindowStage
    pointwise: GemmStage
    split: tuple[int, int]
    regions: dict[str, Region]
    input_slots: int
    result_slots: int
    pointwise_slots: int
    cycles: int
    parts: dict[str, int]
    beats: int
    vectors: int

    @property
    def temporal_axis(self) -> Axis:
        """t of the temporal convolution."""
        assert self.links.temporal is not None
        return axes_of(self.links.temporal, self.links.operand)[2]

    def source_frames(self, frames: Range) -> Range:
        """Frames of the source that a group of frames of the result needs."""
        return frames if self.temporal is None else self.temporal_axis.source(frames)

    def describe(self) -> dict[str, Any]:
        """For the report."""
        report: dict[str, Any] = {
            "frames": self.frames[0][1],
            "lines": self.lines,
            "pointwise_group": self.pointwise.group,
            "pointwise_slots": self.pointwise_slots,
            "input_slots": self.input_slots,
            "estimate": self.cycles,
            **self.parts,
        }
        if self.temporal is not None:
            report["temporal"] = self.temporal.kernel.algorithm.name
            report["temporal_group"] = self.temporal.group
            if self.temporal.job.packing is not None:
                report["packed"] = "t"
        return report


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
        parameters = packed_parameters(folded, op.out_channels, config.array.cols)
        for algorithm in SUPPORTED:
            wanted = policy.forced is None or policy.forced == algorithm
            if wanted and refusal(op, job, algorithm, config) is None:
                changed = transformed(job, algorithm, parameters)
                yield changed, merged_back(changed, axes)


def candidates(links: Links, config: AcceleratorConfig, policy: Policy) -> Iterator[FusedPlan]:
    """Every plan that fits, of the sizes worth trying."""
    if links.residual is not None:
        return
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
            self.temporal = GemmStage.fitting(self.config, *self.form, box, 1 << 12)
            if self.temporal is None:
                return None
        room = self.config.weight_beats - self.window_beats - self.temporal_beats
        stage = self._pointwise(room)
        if stage is None or not self._parameters_fit(stage):
            return None
        placed = self._regions(stage)
        if placed is None:
            return None
        slots = min(len(stage.groups), room // stage.item_beats)
        regions, input_slots, result_slots = placed
        draft = FusedPlan(
            self.links, self.frames, self.lines, self.strips, self.temporal, self.window, stage,
            split, regions, input_slots, result_slots, slots, 0, {}, 0, 0,
        )  # fmt: skip
        return with_cost(draft, self.config)

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
        stage = GemmStage.fitting(self.config, job, kernel, box, 1 << 12)
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

    def _regions(self, stage: GemmStage) -> tuple[dict[str, Region], int, int] | None:
        """Regions by name, input slots, result slots; None where they do not fit."""
        links, count = self.links, self.count
        axes, pools = stage.kernel.axes, stage.kernel.pools
        out = product(
            [n // p for n, p in zip((axes[0].out, self.lines, count), pools, strict=True)]
        )
        window = self.window
        frame = window.axes[0].out * self.lines + window.garbage
        result = window.blocks * count * frame
        pixels = self.inner_lines * links.inner.layout.width
        sizes = {"output": 2 * stage.result_blocks * out, "result": result}
        source = links.source.layout.blocks * pixels * self._source_frames()
        packed = 0
        if self.temporal is not None:
            sizes["inner"] = self.temporal.result_blocks * count * pixels
            if self.temporal.job.packing is not None:
                packed = self.temporal.job.problem.blocks * count * pixels
        for input_slots, result_slots in ((2, 2), (2, 1), (1, 1)):
            if result_slots == 2 and self.temporal is not None:
                continue  # the temporal convolution of the next strip hides the drain
            wanted = {**sizes, "result": result_slots * result}
            if packed:
                wanted["packed"] = input_slots * packed
            wanted["input"] = input_slots * source
            regions = split_banks(list(wanted.values()), self.config)
            if regions is not None:
                return dict(zip(wanted, regions, strict=True)), input_slots, result_slots
        return None

    def _source_frames(self) -> int:
        if self.links.temporal is None:
            return self.count
        axis = axes_of(self.links.temporal, self.links.operand)[2]
        return max(axis.source(cut)[1] for cut in self.frames)

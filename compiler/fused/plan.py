"""A fused chain: its operators, and how frames and lines of it are computed together.

A chain is [temporal residual,] [temporal convolution,] depthwise convolution, pointwise
convolution. Frames go in groups, lines in strips (compiler/fused/strips.py); the maps
between the operators exist only for a strip at a time.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from compiler.array.forms import axes_of
from compiler.array.tail import Tail
from compiler.emit.transfers import Box, tensor_of
from compiler.fused.stages import GemmStage
from compiler.fused.strips import Strip
from compiler.fused.window import WindowStage
from compiler.ir import Chain, Convolution, TemporalResidual
from compiler.tile.geometry import Axis, Range
from compiler.tile.regions import Region
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Links:
    """The operators of a chain and the tensors between them.

    Attributes
    ----------
    residual, temporal: None where the chain has none.
    window, pointwise: depthwise and pointwise convolution.
    source: what is loaded; operand: of the temporal convolution.
    inner: operand of the depthwise convolution; result: its result; target: what is stored.
    tail: what is done with the pointwise convolution's results before they are stored.
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
    tail: Tail | None = None

    @classmethod
    def of(cls, op: Chain, source: Tensor, target: Tensor, tail: Tail | None = None) -> Links:
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
            operand = tensor_of(op.between[0], lanes)
        result = tensor_of(op.between[-1], lanes)
        inner = operand
        if temporal is not None:
            inner = tensor_of(op.between[-2], lanes)
        return cls(
            residual, temporal, window, pointwise, source, operand, inner, result, target, tail
        )


def residual_frames(wanted: Range, frames: int) -> tuple[Range, bool]:
    """What a temporal residual needs for some frames of its result.

    Parameters
    ----------
    wanted: first and count, of the result.
    frames: of the source; the result's last frame is their mean.

    Returns
    -------
    Frames of the source for the differences (count 0: none), and whether the mean is wanted.
    """
    first, count = wanted
    mean = first + count == frames
    differences = count - mean
    return (first, differences + 1 if differences else 0), mean


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
    pieces: input blocks of the pointwise stage that are summed up at a time.
    held: groups of blocks of each stage whose weights and parameters are on chip.
    regions: by name, with one writer and one reader each: input (LOAD to VECTOR or ARRAY),
        difference (VECTOR to VECTOR or ARRAY), packed (VECTOR to ARRAY), inner and result (DRAIN
        to ARRAY), output (DRAIN to STORE, or to VECTOR with a tail), beside (LOAD to VECTOR) and
        joined (VECTOR to STORE) of a tail; those that the chain has. While they are made, mean
        frames lie in the input region as well.
    slots: strips that each region holds.
    mean_tiles: boxes whose mean frame is made at a time, where there is a temporal residual.
    cycles: estimate; parts: what it is made of.
    beats: moved between DRAM and the chip.
    vectors: products that the array forms, in units of rows × cols.
    energy_pj: estimate; see compiler/array/energy.py.
    """

    links: Links
    frames: tuple[Range, ...]
    lines: int
    strips: tuple[Strip, ...]
    temporal: GemmStage | None
    window: WindowStage
    pointwise: GemmStage
    split: tuple[int, int]
    pieces: tuple[Range, ...]
    held: dict[str, int]
    regions: dict[str, Region]
    slots: dict[str, int]
    mean_tiles: tuple[Box, ...]
    cycles: int
    parts: dict[str, int]
    beats: int
    vectors: int
    energy_pj: float = 0.0

    @property
    def groups(self) -> dict[str, int]:
        """Groups of blocks of each stage."""
        found = {
            "window": ceil_div(self.window.blocks, self.split[1]),
            "pointwise": len(self.pointwise.groups),
        }
        if self.temporal is not None:
            found["temporal"] = len(self.temporal.groups)
        return found

    @property
    def items(self) -> dict[str, tuple[int, int]]:
        """Beats of the weights and of the parameters of a group of each stage."""
        window, pointwise, temporal = self.window, self.pointwise, self.temporal
        problem, blocks = window.problem, self.split[1]
        found = {
            "window": (blocks * problem.block_beats, blocks * problem.parameter_beats),
            "pointwise": (pointwise.item_beats, pointwise.item_parameters),
        }
        if temporal is not None:
            found["temporal"] = temporal.item_beats, temporal.item_parameters
        return found

    @property
    def temporal_axis(self) -> Axis:
        """t of the temporal convolution."""
        assert self.links.temporal is not None
        return axes_of(self.links.temporal, self.links.operand)[2]

    def operand_frames(self, frames: Range) -> Range:
        """Frames of the temporal convolution's operand that a group of frames needs."""
        return frames if self.temporal is None else self.temporal_axis.source(frames)

    def source_frames(self, frames: Range) -> tuple[Range, bool]:
        """Frames of the source that a group needs, and whether it needs the mean frame too."""
        wanted = self.operand_frames(frames)
        if self.links.residual is None:
            return wanted, False
        return residual_frames(wanted, self.links.source.layout.frames)

    def row(self, region: str, turn: int) -> int:
        """First row of a region's slot that the turn-th strip takes."""
        return self.regions[region].slot(turn % self.slots[region], self.slots[region])

    def describe(self) -> dict[str, Any]:
        """For the report."""
        report: dict[str, Any] = {
            "load": [self.links.inner.layout.width, self.lines, self.frames[0][1]],
            "pointwise_group": self.pointwise.group,
            "held": {name: f"{self.held[name]} of {n}" for name, n in self.groups.items()},
            "slots": dict(self.slots),
            "depthwise": self.window.problem.algorithm.name,
            "estimate": self.cycles,
            **self.parts,
        }
        if self.temporal is not None:
            report["temporal"] = self.temporal.kernel.algorithm.name
            report["temporal_group"] = self.temporal.group
            if self.temporal.job.packing is not None:
                report["packed"] = "t"
        return report

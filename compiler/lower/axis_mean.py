"""Lowering of means over whole axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from compiler.emit.streams import Stream
from compiler.emit.transfers import Strided
from compiler.emit.vector import mean_fields
from compiler.ir import AxisMean
from compiler.lower.base import Lanes, Streamed
from compiler.lower.contracts import lanes_differ
from compiler.lower.windows import LIMITS, described, layer
from compiler.tile.geometry import Axis, AxisTriple
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ReduceOp
from hw.arch.layout import TensorLayout
from hw.arch.program import Tensor


def mean_axes(op: AxisMean, source: Tensor) -> AxisTriple:
    """x, y, t of a mean: a reduced axis has one output with a window as long as the axis."""
    sizes = (source.layout.width, source.layout.height, source.layout.frames)
    axes = [Axis(n, 1, n) if 3 - d in op.axes else Axis(n, n) for d, n in enumerate(sizes)]
    return axes[0], axes[1], axes[2]


def mean_layer(op: AxisMean, source: Tensor, target: Tensor, config: AcceleratorConfig) -> Stream:
    """A mean over whole axes."""
    fields = {
        "op": ReduceOp.SUM,
        "signed": int(source.signed),
        "pad": source.zero_point & 0xFF,
        "low": op.low,
        "high": op.high,
        **mean_fields(op.mean),
    }
    return layer(
        mean_axes(op, source), source, target, [(Strided.of(target).whole, fields)], config
    )


class AxisMeanLowering(Streamed[AxisMean]):
    """One window that holds whole axes."""

    operation = AxisMean
    limits = LIMITS

    def kind(self, op: AxisMean, config: AcceleratorConfig) -> str:
        """A mean."""
        return "mean"

    def contract(
        self, op: AxisMean, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """The result has the operand's lanes."""
        return lanes_differ(sources[0], result)

    def lanes(self, op: AxisMean) -> Lanes:
        """Lane by lane."""
        return Lanes.KEPT

    def streams(
        self,
        op: AxisMean,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """Tile by tile."""
        return [mean_layer(op, sources[0], target, config)]

    def report(self, op: AxisMean, streams: Sequence[Stream]) -> dict[str, Any]:
        """Results and blocks of a tile."""
        return described(streams[0])


LOWERING = AxisMeanLowering()

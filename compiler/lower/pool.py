"""Lowering of maximum and average pools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from compiler.emit.streams import Stream
from compiler.emit.transfers import Box, Strided
from compiler.emit.vector import mean_fields
from compiler.ir import BorderedMean, Pool, PoolKind
from compiler.lower.base import Lanes, Streamed
from compiler.lower.contracts import lanes_differ
from compiler.lower.windows import LIMITS, Most, described, layer
from compiler.tile.geometry import Axis, AxisTriple
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ReduceOp
from hw.arch.layout import TensorLayout
from hw.arch.numerics import Mean
from hw.arch.program import Tensor


def pool_axes(op: Pool, source: Tensor) -> AxisTriple:
    """x, y, t of a pool."""
    sizes = (source.layout.width, source.layout.height, source.layout.frames)
    out = op.window.output(tuple(reversed(sizes)))
    axes = [
        Axis(
            sizes[d],
            out[2 - d],
            op.window.kernel[2 - d],
            op.window.stride[2 - d] if out[2 - d] > 1 else 1,
            1,
            op.window.pad_begin[2 - d],
        )
        for d in range(3)
    ]
    return axes[0], axes[1], axes[2]


def pool_layer(
    op: Pool,
    source: Tensor,
    target: Tensor,
    config: AcceleratorConfig,
    most: Most | None = None,
) -> Stream:
    """A maximum or average pool; `most` as in `windows.layer`."""
    fields = {
        "op": ReduceOp.MAX if op.kind is PoolKind.MAX else ReduceOp.SUM,
        "signed": int(source.signed),
        "pad": source.zero_point & 0xFF,
        "low": op.low,
        "high": op.high,
    }
    parts = [(box, {**fields, **arithmetic}) for box, arithmetic in _parts(op, target)]
    return layer(pool_axes(op, source), source, target, parts, config, most)


def _parts(op: Pool, target: Tensor) -> list[tuple[Box, dict[str, int]]]:
    """Boxes of the result that are computed alike, and the fields of their arithmetic."""
    blocks = target.layout.blocks
    match op.mean:
        case None:
            return [(Strided.of(target).whole, {})]
        case Mean():
            return [(Strided.of(target).whole, mean_fields(op.mean))]
        case BorderedMean():
            return [
                (Box((w[0], h[0], t[0]), (w[1], h[1], t[1]), 0, blocks), mean_fields(mean))
                for (t, h, w), mean in op.mean.parts()
            ]


class PoolLowering(Streamed[Pool]):
    """Windows that slide over maps."""

    operation = Pool
    limits = LIMITS

    def kind(self, op: Pool, config: AcceleratorConfig) -> str:
        """Maximum or average."""
        return f"{op.kind.value}_pool"

    def contract(
        self, op: Pool, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """The result has the operand's lanes."""
        return lanes_differ(sources[0], result)

    def lanes(self, op: Pool) -> Lanes:
        """Lane by lane."""
        return Lanes.KEPT

    def streams(
        self,
        op: Pool,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """Tile by tile."""
        return [pool_layer(op, sources[0], target, config)]

    def report(self, op: Pool, streams: Sequence[Stream]) -> dict[str, Any]:
        """Results and blocks of a tile."""
        return described(streams[0])


LOWERING = PoolLowering()

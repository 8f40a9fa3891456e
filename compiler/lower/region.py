"""Lowering of regions: results of a convolution are joined with another tensor on chip."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from compiler.array import choice
from compiler.array.bound import least_cycles
from compiler.array.gemm import Tail
from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.transfers import tensor_of
from compiler.emit.vector import elementwise_rows
from compiler.fused.choice import Cost
from compiler.lower import convolution, pairwise
from compiler.lower.base import Laid, Lanes, Lowering
from compiler.lower.contracts import lanes_differ, not_dense
from compiler.ops import Convolution, Pairwise, Region
from compiler.policy import Policy
from compiler.tensor import TensorType
from compiler.tile.convolution_cost import LOAD_OVERHEAD, PORT_EFFICIENCY, STORE_OVERHEAD
from compiler.tile.depthwise import suits
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Elementwise
from hw.arch.layout import LaneMap, TensorLayout, ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm


def _parts(op: Region) -> tuple[Convolution, Pairwise]:
    first, last = op.parts
    assert isinstance(first, Convolution) and isinstance(last, Pairwise), "passes/region.py"
    return first, last


def _other(op: Region) -> int:
    """Number of the region's operand that the convolution's result is joined with."""
    first, last = _parts(op)
    return op.inputs.index(next(name for name in last.inputs if name != first.output))


def _tail(op: Region, other: Tensor, target: Tensor, made: Tensor) -> Tail:
    """What VECTOR does; the operands in the order in which they are rounded."""
    first, last = _parts(op)
    leads = last.inputs[0] == first.output
    operands = (made, other) if leads else (other, made)
    fields = pairwise.arithmetic_fields(last) | {
        "signed": (int(operands[0].signed), int(operands[1].signed)),
        "low": last.low,
        "high": last.high,
    }

    def instructions(rows: int, result: int, beside: int, joined: int) -> list[Elementwise]:
        sources = (result, beside) if leads else (beside, result)
        return elementwise_rows(rows, sources, joined, fields)

    return Tail(other.address - target.address, instructions)


def _between(op: Region, target: Tensor) -> Tensor:
    """What the convolution makes, in the lanes of the region's result and where that goes."""
    layout = target.layout
    made = tensor_of(op.between[0], layout.lanes, layout.lane_map)
    return dataclasses.replace(made, address=target.address)


class RegionLowering(Lowering[Region]):
    """A convolution whose tiles VECTOR joins with those of a stored tensor before they leave."""

    operation = Region
    limits = ()

    def kind(self, op: Region, config: AcceleratorConfig) -> str:
        """Those of its parts."""
        first, last = _parts(op)
        kinds = convolution.LOWERING.kind(first, config), pairwise.LOWERING.kind(last, config)
        return " + ".join(kinds)

    def refusal(
        self,
        op: Region,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Equal maps, tiles that fit; with a policy, no slower than its parts apart."""
        first = _parts(op)[0]
        if any(kind.shape != output.shape for kind in (inputs[_other(op)], op.between[0])):
            return "an operand is repeated"
        if "vector" not in config.features:
            return f"configuration {config.name} has no vector unit"
        if suits(first, config):
            return f"{first.name} runs in mode DEPTHWISE"
        if first.pool is not None:
            return f"{first.name} has a fused pool"
        lanes = config.lane_block
        sources = [tensor_of(kind, lanes) for kind in inputs]
        target = tensor_of(output, lanes)
        if policy is None:
            return self.misfit(op, sources, target, config)
        try:
            joined, apart = _costs(op, sources, target, config, policy)
        except RefusedError as error:
            return str(error)
        if joined.merit(policy.objective) <= apart.merit(policy.objective):
            return None
        return (
            f"{joined.cycles:,.0f} cycles and {joined.beats * config.port.bytes:,.0f} bytes "
            f"joined, {apart.cycles:,.0f} and {apart.beats * config.port.bytes:,.0f} apart"
        )

    def misfit(
        self, op: Region, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """Why no tile fits, for tensors that lie as they do."""
        first, made = _parts(op)[0], _between(op, target)
        tail = _tail(op, sources[_other(op)], target, made)
        return choice.refusal(first, sources[0], made, config, tail)

    def contract(
        self, op: Region, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Joined are equal lanes; a grouped convolution makes dense ones."""
        why = lanes_differ(sources[_other(op)], result)
        return why or (not_dense(result) if _parts(op)[0].groups > 1 else None)

    def lanes(self, op: Region) -> Lanes:
        """Those of the operand that is joined."""
        return Lanes.OWN

    def demands(self, op: Region, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """The convolution reads any; see `contract`."""
        wanted, other = list(maps), _other(op)
        if _parts(op)[0].groups > 1:
            wanted[other] = LaneMap.dense(maps[other].channels, maps[other].lanes)
        return wanted

    def result(self, op: Region, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """Those of the operand that is joined."""
        return maps[_other(op)]

    def bound(
        self,
        op: Region,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """The array's cycles, or the bytes of operands, weights and result."""
        first = _parts(op)[0]
        beats = super().bound(op, sources, result, config, algorithms)
        beats += ceil_div(first.weight.size, config.port.bytes)
        source = sources[0]
        return max(least_cycles(first, source.layout, source.type, algorithms, config), beats)

    def emit(
        self, emitter: Emitter, op: Region, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """The convolution with a tail."""
        first, made = _parts(op)[0], _between(op, target)
        tail = _tail(op, sources[_other(op)], target, made)
        report = choice.lower(emitter, first, sources[0], made, tail)
        return report | {"parts": [part.name for part in op.parts]}


def _costs(
    op: Region,
    sources: Sequence[Tensor],
    target: Tensor,
    config: AcceleratorConfig,
    policy: Policy,
) -> tuple[Cost, Cost]:
    """Estimates of a region, and of its parts one after another.

    Raises
    ------
    RefusedError
        If no tile fits.
    """
    first, made = _parts(op)[0], _between(op, target)
    tail = _tail(op, sources[_other(op)], target, made)
    found = []
    for each in (tail, None):
        tiling = choice.plan(first, sources[0], made, config, policy, each)[0].tiling
        found.append(Cost(tiling.cycles, tiling.beats, tiling.vectors))
    moved = 3 * target.layout.rows
    steps = target.layout.rows * config.vector_steps
    overhead = LOAD_OVERHEAD + STORE_OVERHEAD
    return found[0], found[1] + Cost(max(moved / PORT_EFFICIENCY, steps) + overhead, moved, 0)


LOWERING = RegionLowering()

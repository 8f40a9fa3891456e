"""Lowering of convolutions: mode DEPTHWISE where it suits, mode GEMM for all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.array import choice, depthwise_choice
from compiler.array.bound import least_cycles
from compiler.cost import Cost
from compiler.emit.emitter import Emitter
from compiler.lower.base import Laid, Lanes, Timed
from compiler.lower.contracts import lanes_differ
from compiler.ops import Convolution
from compiler.policy import Policy
from compiler.tile.depthwise import suits
from compiler.tile.limits import MAX_COORDINATE, MAX_DILATION, MAX_STRIDE
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout, ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm


class ConvolutionLowering(Timed[Convolution]):
    """Everything that multiplies by weights."""

    operation = Convolution
    limits = (
        f"stride {MAX_STRIDE}",
        f"dilation {MAX_DILATION}",
        f"maps and padding of {MAX_COORDINATE} along an axis on which a window slides",
    )

    def kind(self, op: Convolution, config: AcceleratorConfig) -> str:
        """Depthwise is what runs in that mode."""
        if suits(op, config):
            return "conv_depthwise"
        return "conv_grouped" if op.groups > 1 else "conv"

    def misfit(
        self, op: Convolution, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """Why no tile of any form fits."""
        if suits(op, config):
            return depthwise_choice.unfit(op, sources[0], config)
        return choice.refusal(op, sources[0], target, config)

    def contract(
        self, op: Convolution, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Depthwise ones keep lanes; weights of all others are gathered by lane, on both sides."""
        return lanes_differ(sources[0], result) if op.depthwise else None

    def lanes(self, op: Convolution) -> Lanes:
        """Grouped convolutions make dense results: their groups are spans of lanes."""
        if op.depthwise:
            return Lanes.KEPT
        return Lanes.CHOSEN if op.groups == 1 else Lanes.OWN

    def result(self, op: Convolution, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """Dense, unless lanes are kept."""
        return maps[0] if op.depthwise else LaneMap.dense(channels, maps[0].lanes)

    def bound(
        self,
        op: Convolution,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """The array's cycles, or the bytes of tensors and weights."""
        beats = super().bound(op, sources, result, config, algorithms)
        weights = ceil_div(op.weight.size, config.port.bytes)
        source = sources[0]
        array = least_cycles(op, source.layout, source.type, algorithms, config)
        return max(array, beats + weights)

    def cost(
        self,
        op: Convolution,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        policy: Policy,
    ) -> Cost:
        """As a layer of its own (`Timed.cost`)."""
        plan = depthwise_choice.plan if suits(op, config) else choice.plan
        return Cost.of_way(plan(op, sources[0], target, config, policy)[0], config)

    def emit(
        self, emitter: Emitter, op: Convolution, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """In the mode that suits."""
        lower = depthwise_choice.lower if suits(op, emitter.config) else choice.lower
        return lower(emitter, op, sources[0], target)


LOWERING = ConvolutionLowering()

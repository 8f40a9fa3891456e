"""Lowering of chains: strip by strip, what lies between the stages never leaves the chip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from compiler.array import depthwise_choice
from compiler.array.bound import least_cycles
from compiler.emit.emitter import Emitter
from compiler.fused import choice, emission
from compiler.lower import convolution, temporal_residual
from compiler.lower.base import Laid, Lanes, Lowering
from compiler.lower.contracts import first_of, not_dense
from compiler.ops import Chain, Convolution, TemporalResidual
from compiler.ops.chain import Stage
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout, ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm


def _stage_refusal(
    stage: Stage, operand: TensorType, result: TensorType, config: AcceleratorConfig
) -> str | None:
    match stage:
        case Convolution():
            return convolution.LOWERING.refusal(stage, [operand], result, config, None)
        case TemporalResidual():
            return temporal_residual.LOWERING.refusal(stage, [operand], result, config, None)
        case _:
            assert_never(stage)


def _suits(stage: Convolution, algorithm: Algorithm) -> bool:
    """Whether a stage can be computed so: the depthwise one in tiles, the temporal one along t."""
    if stage.depthwise:
        return depthwise_choice.refusal(stage, algorithm) is None
    return stage.kernel[0] > 1 and not algorithm.spatial


class ChainLowering(Lowering[Chain]):
    """Temporal residual, temporal, depthwise and pointwise convolution at once."""

    operation = Chain
    limits = ()

    def kind(self, op: Chain, config: AcceleratorConfig) -> str:
        """One kind."""
        return "chain"

    def refusal(
        self,
        op: Chain,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Every stage must run by itself; with a policy, no faster than together."""
        for stage, operand, result in op.links(inputs, output):
            why = _stage_refusal(stage, operand, result, config)
            if why is not None:
                return f"{stage.name}: {why}"
        return None if policy is None else choice.refusal(op, inputs[0], output, config, policy)

    def contract(
        self, op: Chain, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Dense, as what lies between its stages."""
        return first_of(not_dense(layout) for layout in (sources[0], result))

    def lanes(self, op: Chain) -> Lanes:
        """Dense."""
        return Lanes.OWN

    def demands(self, op: Chain, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """A dense operand."""
        return [LaneMap.dense(maps[0].channels, maps[0].lanes)]

    def result(self, op: Chain, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """Dense."""
        return LaneMap.dense(channels, maps[0].lanes)

    def scratch(self, op: Chain, source: TensorLayout) -> int:
        """The mean frame of a temporal residual, which every strip reads."""
        return source.nbytes // source.frames if isinstance(op.stages[0], TemporalResidual) else 0

    def bound(
        self,
        op: Chain,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """The array computes all stages; only the first operand and the last result move."""
        beats = super().bound(op, sources, result, config, algorithms)
        array = 0
        for stage, operand, _ in op.links([sources[0].type], result.type):
            if isinstance(stage, Convolution):
                layout = TensorLayout.dense(operand.shape, config.lane_block)
                tried = [a for a in algorithms if _suits(stage, a)]
                array += least_cycles(stage, layout, operand, tried, config)
                beats += ceil_div(stage.weight.size, config.port.bytes)
        return max(array, beats)

    def emit(
        self, emitter: Emitter, op: Chain, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Strip by strip."""
        return emission.lower(emitter, op, sources[0], target)


LOWERING = ChainLowering()

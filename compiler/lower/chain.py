"""Lowering of chains: strip by strip, what lies between the stages never leaves the chip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from compiler.array.bound import least_cycles
from compiler.array.tail import Tail
from compiler.cost import Cost
from compiler.emit.emitter import Emitter, RefusedError
from compiler.lower import convolution, temporal_residual
from compiler.lower.base import Laid, Lanes, Timed
from compiler.lower.compare import better_cut
from compiler.lower.contracts import first_of, lanes_differ, not_dense
from compiler.ops import Chain, Convolution, TemporalResidual
from compiler.ops.chain import Member
from compiler.policy import Policy
from compiler.regions import choice
from compiler.regions.emission import RegionEmission
from compiler.regions.plan import Links
from compiler.regions.suits import suited, unsuitable
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout, ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm


def _stage_refusal(
    stage: Member, operand: TensorType, result: TensorType, config: AcceleratorConfig
) -> str | None:
    match stage:
        case Convolution():
            return convolution.LOWERING.refusal(stage, [operand], result, config, None)
        case TemporalResidual():
            return temporal_residual.LOWERING.refusal(stage, [operand], result, config, None)
        case _:
            assert_never(stage)


def emitted(
    emitter: Emitter, op: Chain, source: Tensor, target: Tensor, tail: Tail | None = None
) -> dict[str, Any]:
    """Emit a chain, and what is done with its results; returns the tiling for the report.

    Raises
    ------
    RefusedError
        If no strip fits the memories.
    """
    config, policy = emitter.config, emitter.policy
    plans = choice.ranked(Links.of(op, source, target, tail), config, policy)
    if not plans:
        raise RefusedError(
            f"{op.name} (Chain): no strip of {len(op.stages)} operators fits {config.name}"
        )
    RegionEmission(emitter, plans[0]).emit()
    return choice.describe(plans, config, policy)


class ChainLowering(Timed[Chain]):
    """Convolutions, and what prepares their operand, at once."""

    operation = Chain
    limits = ()

    def kind(self, op: Chain, config: AcceleratorConfig) -> str:
        """By whether channels are mixed."""
        return "chain_depthwise" if op.by_block else "chain"

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
        if policy is None:
            return super().refusal(op, inputs, output, config, policy)
        why = unsuitable(op.stages, config)
        return why or better_cut(op, inputs[0], output, config, policy)

    def misfit(
        self, op: Chain, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """Stages in strips that fit."""
        why = unsuitable(op.stages, config)
        if why is None and not choice.fits(Links.of(op, sources[0], target), config):
            return f"no strip of its {len(op.stages)} operators fits {config.name}"
        return why

    def contract(
        self, op: Chain, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Lanes are kept; dense, where channels are mixed."""
        if op.by_block:
            return lanes_differ(sources[0], result)
        return first_of(not_dense(layout) for layout in (sources[0], result))

    def lanes(self, op: Chain) -> Lanes:
        """Those of the operand, or dense."""
        return Lanes.KEPT if op.by_block else Lanes.OWN

    def demands(self, op: Chain, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """A dense operand, where channels are mixed."""
        if op.by_block:
            return super().demands(op, maps)
        return [LaneMap.dense(maps[0].channels, maps[0].lanes)]

    def result(self, op: Chain, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """As `lanes` says."""
        if op.by_block:
            return super().result(op, maps, channels)
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
                if op.by_block:
                    layout = TensorLayout(sources[0].layout.lane_map, *operand.shape[1:])
                tried = [a for a in algorithms if suited(stage, a)]
                array += least_cycles(stage, layout, operand, tried, config)
                beats += ceil_div(stage.weight.size, config.port.bytes)
        return max(array, beats)

    def cost(
        self,
        op: Chain,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        policy: Policy,
    ) -> Cost:
        """Of its best plan."""
        found = choice.cost(Links.of(op, sources[0], target), config, policy)
        if found is None:
            raise RefusedError(f"no strip of its {len(op.stages)} operators fits {config.name}")
        return found

    def emit(
        self, emitter: Emitter, op: Chain, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Strip by strip."""
        return emitted(emitter, op, sources[0], target)


LOWERING = ChainLowering()

"""Lowering of depthwise pairs: strip by strip, the map between the two stays on chip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from compiler.array.bound import least_cycles
from compiler.array.depthwise_choice import pair_record
from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.transfers import tensor_of
from compiler.fused import pair
from compiler.fused.choice import stage_cost
from compiler.fused.estimate import NOTHING
from compiler.fused.pair import Tensors
from compiler.lower import convolution
from compiler.lower.base import Laid, Lanes, Placed
from compiler.lower.contracts import lanes_differ
from compiler.ops import Convolution, DepthwisePair
from compiler.policy import Policy
from compiler.tensor import TensorType
from compiler.tile.depthwise import order_of, suits
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import TensorLayout, ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm


def tensors_of(op: DepthwisePair, source: Tensor, target: Tensor) -> Tensors:
    """With what lies between, in the operand's lanes."""
    inner = tensor_of(op.between[0], source.layout.lanes, source.layout.lane_map)
    return Tensors(source, inner, target)


class DepthwisePairLowering(Placed[DepthwisePair]):
    """A depthwise convolution of each frame and one over time at once."""

    operation = DepthwisePair
    limits = ()

    def kind(self, op: DepthwisePair, config: AcceleratorConfig) -> str:
        """One kind."""
        return "chain_depthwise"

    def refusal(
        self,
        op: DepthwisePair,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Both must run by themselves; with a policy, no faster than together."""
        for stage, operand, result in self._links(op, inputs, output):
            why = convolution.LOWERING.refusal(stage, [operand], result, config, None)
            if why is not None:
                return f"{stage.name}: {why}"
        why = super().refusal(op, inputs, output, config, policy)
        if why is not None or policy is None:
            return why
        lanes = config.lane_block
        tensors = tensors_of(op, tensor_of(inputs[0], lanes), tensor_of(output, lanes))
        plan = pair.best(op, tensors, config, policy.objective)
        assert plan is not None, "misfit"
        apart = sum(
            (stage_cost(*link, config, policy) for link in op.links(inputs, output)), NOTHING
        )
        joined = plan.cost
        if joined.merit(policy.objective) <= apart.merit(policy.objective):
            return None
        return (
            f"{joined.cycles:,.0f} cycles and {joined.beats * config.port.bytes:,.0f} bytes in "
            f"strips, {apart.cycles:,.0f} and {apart.beats * config.port.bytes:,.0f} one after "
            f"another"
        )

    def misfit(
        self,
        op: DepthwisePair,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
    ) -> str | None:
        """Stages in mode DEPTHWISE, strips that fit."""
        for stage in (op.spatial, op.temporal):
            if not suits(stage, config):
                return f"{stage.name} does not run in mode DEPTHWISE"
        if op.spatial.kernel[0] != 1 or order_of(op.temporal) == (0, 1, 2):
            return f"{op.name}: not a convolution of frames and one over time"
        if max(op.spatial.pad_begin) >= max(op.spatial.kernel[1:]):
            return f"{op.spatial.name} has wide padding"
        tensors = tensors_of(op, sources[0], target)
        if pair.best(op, tensors, config, Policy().objective) is None:
            return f"no strip of both fits {config.name}"
        return None

    @staticmethod
    def _links(
        op: DepthwisePair, inputs: Sequence[TensorType], output: TensorType
    ) -> Iterator[tuple[Convolution, TensorType, TensorType]]:
        """Both with the types of their operands and results."""
        yield op.spatial, inputs[0], op.between[0]
        yield op.temporal, op.between[0], output

    def contract(
        self, op: DepthwisePair, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Lanes are kept."""
        return lanes_differ(sources[0], result)

    def lanes(self, op: DepthwisePair) -> Lanes:
        """Those of the operand."""
        return Lanes.KEPT

    def bound(
        self,
        op: DepthwisePair,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """The array computes both; only the operand and the result move."""
        beats = super().bound(op, sources, result, config, algorithms)
        array = 0
        for stage, operand, _ in self._links(op, [sources[0].type], result.type):
            layout = TensorLayout(sources[0].layout.lane_map, *operand.shape[1:])
            array += least_cycles(stage, layout, operand, (), config)
            beats += ceil_div(stage.weight.size, config.port.bytes)
        return max(array, beats)

    def emit(
        self, emitter: Emitter, op: DepthwisePair, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Strip by strip."""
        config, policy = emitter.config, emitter.policy
        tensors = tensors_of(op, sources[0], target)
        plan = pair.best(op, tensors, config, policy.objective)
        if plan is None:
            raise RefusedError(f"no strip of both fits {config.name}")
        record = pair_record(op.spatial, tensors.source, config, policy)
        stages = [stage.name for stage in op.stages]
        return {"stages": stages, **pair.lower(emitter, plan, tensors), **record}


LOWERING = DepthwisePairLowering()

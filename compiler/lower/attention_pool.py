"""Lowering of attention pooling: x crosses the memory port once, scores and shares never do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from compiler.array.attention_pool import PoolEmission
from compiler.array.matrices import form_of
from compiler.cost import Cost
from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.transfers import at, tensor_of
from compiler.emit.trial import SOURCE, Asked, Trial, Whole, ends, layer_cycles
from compiler.lower import batched_matmul, convolution, softmax
from compiler.lower.base import Laid, Lanes, Timed
from compiler.lower.compare import better_apart
from compiler.lower.contracts import lanes_differ
from compiler.lower.groups import lacks_fold
from compiler.ops import AttentionPool
from compiler.policy import Policy
from compiler.tensor import TensorType
from compiler.tile.attention_pool import PoolTiling, Sizes, choose
from hw.arch.config import AcceleratorConfig
from hw.arch.fold_numerics import Dot
from hw.arch.layout import TensorLayout, ceil_div
from hw.arch.numerics import NumericsError
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm

SHARES_BITS = 15
"""Of the fraction of a softmax's numerator, 1/scale."""


def dot_of(op: AttentionPool, source: Tensor) -> Dot:
    """How sums become codes.

    Shares of a group add up to 1/scale, and each is rounded by half a step at most.

    Raises
    ------
    NumericsError
        If sums or their scale are more than DOT holds.
    """
    scale, share = op.product.scale, op.weight_type
    rounded = (op.softmax.constants.numerator >> SHARES_BITS) + 1 + op.group // 2
    least = op.softmax.low - share.zero_point
    if least > 0:
        raise NumericsError(f"shares of {least} codes at least")
    low, high = (-128, 127) if source.signed else (0, 255)
    largest = max(high - source.zero_point, source.zero_point - low)
    s = np.float32(math.ldexp(scale.multiplier, -scale.shift))
    zeros = source.zero_point, share.zero_point, scale.zero_point
    return Dot.scaled(s, *zeros, largest * rounded)


def sizes_of(op: AttentionPool, source: TensorLayout) -> Sizes:
    """What its tiling depends on."""
    return Sizes(source.blocks, op.group, source.positions // op.group)


class AttentionPoolLowering(Timed[AttentionPool]):
    """Scores on the array, softmax and sums in VECTOR, tile by tile of whole groups."""

    operation = AttentionPool
    limits = ()

    def kind(self, op: AttentionPool, config: AcceleratorConfig) -> str:
        """One kind."""
        return "attention_pool"

    def refusal(
        self,
        op: AttentionPool,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """What does not fit; with a policy, what is slower than its parts apart."""
        why = super().refusal(op, inputs, output, config, policy)
        if why is not None or policy is None:
            return why
        lanes = config.lane_block
        source, target = tensor_of(inputs[0], lanes), tensor_of(output, lanes)
        joined = self.cost(op, [source], target, config, policy)
        apart = _apart(op, source, target, config, policy)
        return better_apart(joined, apart, ("joined", "apart"), config, policy)

    def misfit(
        self,
        op: AttentionPool,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
    ) -> str | None:
        """FOLD, bounds of DOT, tiles of whole groups."""
        why = lacks_fold(config)
        if why is not None:
            return why
        try:
            dot_of(op, sources[0])
        except NumericsError as error:
            return str(error)
        sizes = sizes_of(op, sources[0].layout)
        if choose(sizes, config) is None:
            return (
                f"no group of {sizes.positions} positions in {sizes.blocks} blocks fits "
                f"{config.name} twice"
            )
        return None

    def contract(
        self, op: AttentionPool, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Lanes are kept."""
        return lanes_differ(sources[0], result)

    def lanes(self, op: AttentionPool) -> Lanes:
        """Scores are gathered by lane, means lie as what they are taken of."""
        return Lanes.KEPT

    def bound(
        self,
        op: AttentionPool,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """Each row past the port once; past the array's lanes, and once through VECTOR."""
        beats = super().bound(op, sources, result, config, algorithms)
        source = sources[0].layout
        rows = ceil_div(source.channels, config.lane_block) * source.positions
        return max(beats, rows * config.vector_steps)

    def cost(
        self,
        op: AttentionPool,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        policy: Policy,
    ) -> Cost:
        """Of the cheapest tiling; all of it is emitted."""
        tiling = _tiling(op, sources[0], config)
        source = at(sources[0], SOURCE)
        key = (
            "attention_pool",
            repr((tiling, op.group, source.layout, source.places, target.layout)),
        )

        def emission(emitter: Trial, again: bool) -> Whole:
            tensors = ends(source, target, again)
            return Whole(PoolEmission(emitter, op, tiling, *tensors, dot_of(op, source)).emit)

        cycles = layer_cycles(Asked(key, emission), config)
        return Cost.of_streams(cycles, tiling.beats, source.layout.rows, config)

    def emit(
        self, emitter: Emitter, op: AttentionPool, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """With the cheapest tiling."""
        tiling = _tiling(op, sources[0], emitter.config)
        PoolEmission(emitter, op, tiling, sources[0], target, dot_of(op, sources[0])).emit()
        return {**tiling.describe(), "parts": [part.name for part in op.parts]}


def _tiling(op: AttentionPool, source: Tensor, config: AcceleratorConfig) -> PoolTiling:
    tiling = choose(sizes_of(op, source.layout), config)
    if tiling is None:
        raise RefusedError(f"no group of {op.group} positions fits {config.name} twice")
    return tiling


def _apart(
    op: AttentionPool,
    source: Tensor,
    target: Tensor,
    config: AcceleratorConfig,
    policy: Policy,
) -> Cost:
    """Of a convolution, a softmax and a product, one after another."""
    lanes, where = config.lane_block, op.parts.index(op.softmax)
    scores = tensor_of(op.score_type, lanes)
    cost = convolution.LOWERING.cost(op.scores, [source], scores, config, policy)
    summed, shares = tensor_of(op.between[where - 1], lanes), tensor_of(op.weight_type, lanes)
    cost += softmax.LOWERING.cost(op.softmax, [summed], shares, config, policy)
    form = form_of(op.product, lanes)
    assert form is not None, "the operand's channels lie in lanes"
    kinds = {op.inputs[0]: source, op.product.inputs[0]: shares, op.product.inputs[1]: shares}
    kinds[op.inputs[0]] = source
    operands = [
        dataclasses.replace(kinds[name], layout=dataclasses.replace(kinds[name].layout, lane_map=m))
        for name, m in zip(op.product.inputs, form.maps(), strict=True)
    ]
    return cost + batched_matmul.LOWERING.cost(op.product, operands, target, config, policy)


LOWERING = AttentionPoolLowering()

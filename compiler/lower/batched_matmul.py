"""Lowering of products of two activations: one becomes weights (compiler/array/matrices.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.array.matmul import MatMulEmission, product_of
from compiler.array.matrices import Form, form_of
from compiler.cost import Cost
from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.transfers import at
from compiler.emit.trial import BESIDE, SOURCE, Asked, Trial, Whole, ends, layer_cycles
from compiler.lower.base import Laid, Lanes, Timed
from compiler.ops import BatchedMatMul
from compiler.policy import Policy
from compiler.tile.matmul import ProductTiling, choose
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout, ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm


def laid_form(op: BatchedMatMul, maps: Sequence[LaneMap]) -> Form | None:
    """The form for operands that lie in some lanes; None where there is none."""
    form = form_of(op, maps[0].lanes)
    return None if form is None else form.laid(maps)


def needs(form: Form, weights: Tensor) -> list[str]:
    """Features that a form takes."""
    found = ["fold"] if form.turned or form.transposed else []
    if form.transposed or weights.zero_point or not weights.signed:
        found.append("attention")
    return found


class BatchedMatMulLowering(Timed[BatchedMatMul]):
    """Vectors of one operand past weights that the other one becomes."""

    operation = BatchedMatMul
    limits = ("in each operand and the result one dimension of the matrices along the channels",)

    def kind(self, op: BatchedMatMul, config: AcceleratorConfig) -> str:
        """One kind."""
        return "matmul"

    def misfit(
        self,
        op: BatchedMatMul,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
    ) -> str | None:
        """Lanes of several dimensions, features, memories."""
        form = laid_form(op, [source.layout.lane_map for source in sources])
        if form is None:
            return (
                "the channels of an operand or of the result are not one dimension of its matrices"
            )
        for feature in needs(form, sources[form.weighted]):
            if feature not in config.features:
                return f"configuration {config.name} is built without the feature `{feature}`"
        if choose(product_of(form, config), config) is None:
            return f"no tile fits the memories of {config.name}"
        return None

    def contract(
        self, op: BatchedMatMul, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Every matrix begins in a block of its own."""
        form = laid_form(op, [source.lane_map for source in sources])
        if form is None:
            return "its channels are not one dimension of its matrices"
        wanted = [*form.maps(), form.y.lane_map]
        for layout, lane_map in zip((*sources, result), wanted, strict=True):
            if layout.lane_map != lane_map:
                return f"channels {layout.lane_map} are no matrices of {lane_map}"
        return None

    def lanes(self, op: BatchedMatMul) -> Lanes:
        """Each matrix of the result begins in a block of its own."""
        return Lanes.OWN

    def demands(self, op: BatchedMatMul, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """Each matrix begins in a block of its own; columns of weights may be any lanes."""
        form = laid_form(op, maps)
        return list(maps) if form is None else form.maps()

    def result(self, op: BatchedMatMul, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """Each matrix begins in a block of its own."""
        form = laid_form(op, maps)
        return LaneMap.dense(channels, maps[0].lanes) if form is None else form.y.lane_map

    def bound(
        self,
        op: BatchedMatMul,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """All multipliers at work, or each tensor across the memory port once."""
        beats = super().bound(op, sources, result, config, algorithms)
        return max(beats, ceil_div(op.macs([s.type for s in sources]), config.array.multipliers))

    def cost(
        self,
        op: BatchedMatMul,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        policy: Policy,
    ) -> Cost:
        """Of the cheapest tiling; all of it is emitted."""
        form, tiling = self._planned(op, sources, target, config)
        tensors = (*sources, target)
        key = "matmul", repr((form, tiling, [tensor.layout for tensor in tensors]))

        def emission(emitter: Trial, again: bool) -> Whole:
            first, result = ends(sources[0], target, again)
            three = first, at(sources[1], SOURCE + BESIDE), result
            return Whole(MatMulEmission(emitter, op, form, tiling, three).emit)

        cycles = layer_cycles(Asked(key, emission), config)
        products = op.batch * op.rows * op.inner * op.columns
        vectors = ceil_div(products, config.array.multipliers)
        beats = sum(tensor.layout.nbytes for tensor in tensors) / config.port.bytes
        return Cost.of_streams(cycles, beats, vectors, config)

    def emit(
        self, emitter: Emitter, op: BatchedMatMul, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """In the form that transposes least, with the cheapest tiling."""
        form, tiling = self._planned(op, sources, target, emitter.config)
        tensors = sources[0], sources[1], target
        MatMulEmission(emitter, op, form, tiling, tensors).emit()
        made = "by LOAD" if not form.transposed else "by TRANSPOSE"
        return {**tiling.describe(), "weights": f"operand {form.weighted}, {made}"}

    def _planned(
        self,
        op: BatchedMatMul,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
    ) -> tuple[Form, ProductTiling]:
        form = laid_form(op, [source.layout.lane_map for source in sources])
        tiling = None if form is None else choose(product_of(form, config), config)
        if form is None or tiling is None:
            raise RefusedError(self.misfit(op, sources, target, config) or "no tile fits")
        return form, tiling


LOWERING = BatchedMatMulLowering()

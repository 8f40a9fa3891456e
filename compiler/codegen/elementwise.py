"""Lowering of operators on two tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from compiler.codegen.emitter import Emitter
from compiler.codegen.limits import MAX_COUNT
from compiler.codegen.streams import (
    Stream,
    Tile,
    emit,
    flat,
    line_boxes,
    slot_rows,
    split_box,
)
from compiler.codegen.transfers import Box, View
from compiler.ir import Elementwise, ElementwiseKind
from hw.arch import isa
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ElementwiseOp, UnitInstruction, deltas
from hw.arch.numerics import Affine, Factor, Product
from hw.arch.program import Tensor


def affine_fields(arithmetic: Affine) -> dict[str, Any]:
    """Instruction fields of an affine combination."""
    k = arithmetic.k
    return {
        "multiplier_a": arithmetic.ra.multiplier,
        "shift_a": arithmetic.ra.shift,
        "multiplier_b": arithmetic.rb.multiplier,
        "shift_b": arithmetic.rb.shift,
        "negative_b": int(arithmetic.rb.negative),
        "constant": -k.multiplier if k.negative else k.multiplier,
        "shift_k": k.shift,
        "zero_point": arithmetic.zero_point,
    }


def _fields(op: Elementwise) -> dict[str, Any]:
    match op.arithmetic:
        case Affine():
            return {"op": ElementwiseOp.AFFINE, **affine_fields(op.arithmetic)}
        case Product():
            scale = op.arithmetic.scale
            return {
                "op": ElementwiseOp.PRODUCT,
                "multiplier_a": op.arithmetic.za & 0x1FF,
                "multiplier_b": scale.multiplier,
                "shift_b": scale.shift,
                "constant": op.arithmetic.zb,
                "zero_point": op.arithmetic.zero_point,
            }
        case None:
            one = Factor.of(1.0)
            extremum = op.kind is ElementwiseKind.MAXIMUM
            return {
                "op": ElementwiseOp.MAX if extremum else ElementwiseOp.MIN,
                "multiplier_a": one.multiplier,
                "shift_a": one.shift,
                "multiplier_b": one.multiplier,
                "shift_b": one.shift,
            }


def _operand_box(view: View, box: Box, full: View) -> Box:
    """The part of an operand that meets a box of the result; axes of size 1 are repeated."""
    first = [0 if n == 1 else f for f, n in zip(box.first, view.sizes, strict=True)]
    size = [1 if n == 1 else s for s, n in zip(box.size, view.sizes, strict=True)]
    block, blocks = (box.block, box.blocks) if view.blocks == full.blocks else (0, 1)
    return Box((first[0], first[1], first[2]), (size[0], size[1], size[2]), block, blocks)


def _strides(operand: Box, box: Box) -> tuple[int, ...]:
    """Rows per step of the result's x, y, t, block; 0 along repeated axes."""
    pitches = operand.pitches()
    sizes = (*operand.size, operand.blocks)
    wanted = (*box.size, box.blocks)
    return tuple(
        0 if n == 1 and m > 1 else p for p, n, m in zip(pitches, sizes, wanted, strict=True)
    )


def layer(
    op: Elementwise, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
) -> Stream:
    """An operator on two tensors, tile by tile."""
    views, to = [View.of(s) for s in sources], View.of(target)
    limit = min(slot_rows(3, config), MAX_COUNT)
    if all(v.sizes == to.sizes and v.blocks == to.blocks for v in views):
        views, to = [flat(v) for v in views], flat(to)
        boxes = line_boxes(target.layout.rows, limit)
    else:
        whole = Box((0, 0, 0), to.sizes, 0, to.blocks)
        boxes = split_box(whole, limit)
    tiles = [Tile((_operand_box(views[0], b, to), _operand_box(views[1], b, to)), b) for b in boxes]
    fields = _fields(op)

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        box = tile.target
        counts = (*box.size, box.blocks)
        yield isa.Elementwise(
            signed=(int(sources[0].signed), int(sources[1].signed)),
            counts=counts,
            source0=rows[0],
            source0_deltas=deltas(counts, _strides(tile.sources[0], box)),
            source1=rows[1],
            source1_deltas=deltas(counts, _strides(tile.sources[1], box)),
            destination=result,
            destination_deltas=deltas(counts, box.pitches()),
            low=op.low,
            high=op.high,
            **fields,
        )

    return Stream(views, to, tiles, compute)


def lower(
    emitter: Emitter, op: Elementwise, sources: Sequence[Tensor], target: Tensor
) -> dict[str, Any]:
    """Emit an operator on two tensors."""
    stream = layer(op, sources, target, emitter.config)
    emit(emitter, stream)
    return {"rows": stream.tiles[0].target.rows}

"""Lowering of the temporal residual gradient: differences and mean frame of a tile at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from compiler.codegen.elementwise import affine_fields
from compiler.codegen.emitter import Emitter
from compiler.codegen.geometry import Axis
from compiler.codegen.reduce import mean_fields, reduction
from compiler.codegen.streams import Tile, slot_rows, split_box, stream
from compiler.codegen.transfers import Box, View
from compiler.ir import CompilerError, TemporalResidual
from hw.arch.isa import Elementwise, ElementwiseOp, Reduce, ReduceOp, deltas
from hw.arch.program import Tensor


def lower(emitter: Emitter, op: TemporalResidual, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit T − 1 differences and the mean frame; all frames of some pixels make a tile."""
    view, to = View.of(source).merged(1), View.of(target).merged(1)
    frames = source.layout.frames
    limit = min(slot_rows(2, emitter.config), 4095 * frames)
    whole = Box((0, 0, 0), view.sizes, 0, view.blocks)
    tiles = [Tile((box,), box) for box in split_box(whole, limit, keep=(2,))]
    difference = emitter.table(op.difference_table)
    average = emitter.table(op.average_table)

    def compute(tile: Tile, rows: Sequence[int], result: int) -> None:
        box = tile.target
        x, _, t, block = box.pitches()
        counts = (frames, box.size[0], box.blocks, 1)
        produced = (frames - 1, *counts[1:])
        emitter.emit(
            Elementwise(
                op=ElementwiseOp.AFFINE,
                previous=1,
                signed=(int(source.signed), int(source.signed)),
                counts=counts,
                source0=rows[0],
                source0_deltas=deltas(counts, (t, x, block, 0)),
                destination=result,
                destination_deltas=deltas(produced, (t, x, block, 0)),
                low=op.difference_low,
                high=op.difference_high,
                table=difference,
                **affine_fields(op.subtract),
            )
        )
        emitter.emit(_mean(op, source, box, rows[0], result + (frames - 1) * t, average))

    if not stream(emitter, [view], to, tiles, compute):
        raise CompilerError(
            f"{op.name} (TemporalResidual): {frames} frames of one pixel do not fit "
            f"{slot_rows(2, emitter.config)} scratchpad rows of {emitter.config.name}"
        )
    return {"pixels": tiles[0].target.size[0], "blocks": tiles[0].target.blocks}


def _mean(
    op: TemporalResidual, source: Tensor, box: Box, row: int, result: int, table: int
) -> Reduce:
    """REDUCE of a tile's frames to the last frame of the result."""
    frames = source.layout.frames
    n = box.size[0]
    axes = (Axis(n, n), Axis(1, 1), Axis(frames, 1, frames))
    inside = Box((0, 0, 0), box.size, 0, box.blocks)
    target = Box((0, 0, 0), (n, 1, 1), 0, box.blocks)
    fields = {
        "op": ReduceOp.SUM,
        "signed": int(source.signed),
        "pad": source.zero_point & 0xFF,
        "low": op.average_low,
        "high": op.average_high,
        "table": table,
        **mean_fields(op.mean),
    }
    instruction = reduction(axes, inside, target, row, result, fields)
    # Blocks of the result lie as far apart as those of the whole tile.
    spread = deltas(instruction.counts, (1, n, n, box.pitches()[3]))
    return dataclasses.replace(instruction, destination_deltas=spread)

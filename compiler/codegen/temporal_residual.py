"""Lowering of the temporal residual gradient: differences and mean frame of a tile at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from compiler.codegen.elementwise import affine_fields
from compiler.codegen.emitter import Emitter, RefusedError
from compiler.codegen.geometry import Axis
from compiler.codegen.limits import MAX_COUNT, MAX_REDUCE_WINDOW
from compiler.codegen.reduce import mean_fields, reduction
from compiler.codegen.streams import Stream, Tile, emit, slot_rows, split_box
from compiler.codegen.transfers import Box, View
from compiler.ir import TemporalResidual
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    Elementwise,
    ElementwiseOp,
    Reduce,
    ReduceOp,
    UnitInstruction,
    deltas,
)
from hw.arch.program import Tensor


def layer(
    op: TemporalResidual,
    source: Tensor,
    target: Tensor,
    config: AcceleratorConfig,
    tables: tuple[int, int] = (0, 0),
) -> Stream:
    """T − 1 differences and the mean frame; all frames of some pixels make a tile.

    Parameters
    ----------
    op, source, target, config: the operator, its tensors, for what.
    tables: instruction fields of the tables of differences and mean.

    Raises
    ------
    RefusedError
        If the scratchpad does not hold all frames of a pixel, or a field their number.
    """
    view, to = View.of(source).merged(1), View.of(target).merged(1)
    frames = source.layout.frames
    if frames > MAX_REDUCE_WINDOW:
        raise RefusedError(f"{frames} frames; at most {MAX_REDUCE_WINDOW} are averaged")
    limit = min(slot_rows(2, config), MAX_COUNT * frames)
    whole = Box((0, 0, 0), view.sizes, 0, view.blocks)
    tiles = [Tile((box,), box) for box in split_box(whole, limit, keep=(2,))]

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        box = tile.target
        pitches = box.pitches()
        counts = (frames, box.size[0], box.blocks)
        yield differences(op, source, counts, rows[0], pitches, result, pitches, tables[0])
        last = result + (frames - 1) * pitches[2]
        yield mean_frame(op, source, box, rows[0], last, pitches[3], tables[1])

    return Stream([view], to, tiles, compute)


def lower(emitter: Emitter, op: TemporalResidual, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit a temporal residual; returns the tiling for the report."""
    tables = emitter.table(op.difference_table), emitter.table(op.average_table)
    stream = layer(op, source, target, emitter.config, tables)
    emit(emitter, stream)
    return {"pixels": stream.tiles[0].target.size[0], "blocks": stream.tiles[0].target.blocks}


def differences(
    op: TemporalResidual,
    source: Tensor,
    counts: tuple[int, int, int],
    row: int,
    pitches: tuple[int, int, int, int],
    result: int,
    result_pitches: tuple[int, int, int, int],
    table: int,
) -> Elementwise:
    """ELEMENTWISE of a tile: every frame but the first less the one before it.

    Parameters
    ----------
    op, source: the operator and its operand.
    counts: frames that are read, pixels, blocks.
    row, pitches: where they lie; rows between neighbours along x, y, t and blocks.
    result, result_pitches: where the differences go.
    table: the instruction's `table` field.
    """
    frames, pixels, blocks = counts
    nest = (frames, pixels, blocks, 1)
    produced = (frames - 1, pixels, blocks, 1)
    return Elementwise(
        op=ElementwiseOp.AFFINE,
        previous=1,
        signed=(int(source.signed), int(source.signed)),
        counts=nest,
        source0=row,
        source0_deltas=deltas(nest, (pitches[2], pitches[0], pitches[3], 0)),
        destination=result,
        destination_deltas=deltas(
            produced, (result_pitches[2], result_pitches[0], result_pitches[3], 0)
        ),
        low=op.difference_low,
        high=op.difference_high,
        table=table,
        **affine_fields(op.subtract),
    )


def mean_frame(
    op: TemporalResidual,
    source: Tensor,
    box: Box,
    row: int,
    result: int,
    block_pitch: int,
    table: int,
) -> Reduce:
    """REDUCE of a tile's frames to one; blocks of the result lie `block_pitch` rows apart."""
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
    spread = deltas(instruction.counts, (1, n, n, block_pitch))
    return dataclasses.replace(instruction, destination_deltas=spread)

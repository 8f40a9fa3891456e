"""Fields of the instructions of VECTOR."""

from __future__ import annotations

import dataclasses
from typing import Any

from compiler.emit.transfers import Box, row_field
from compiler.ir import TemporalResidual
from compiler.tile.geometry import Axis, AxisTriple
from compiler.tile.limits import MAX_COUNT
from hw.arch import isa
from hw.arch.isa import ElementwiseOp, ReduceOp, deltas
from hw.arch.numerics import Affine, Mean
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


def elementwise_rows(
    rows: int, sources: tuple[int, int], destination: int, fields: dict[str, Any]
) -> list[isa.Elementwise]:
    """ELEMENTWISE on so many consecutive rows of two sources; a level holds a limited count."""
    found = []
    for first in range(0, rows, MAX_COUNT):
        counts = (min(MAX_COUNT, rows - first), 1, 1, 1)
        step = deltas(counts, (1, 0, 0, 0))
        found.append(
            isa.Elementwise(
                counts=counts,
                source0=sources[0] + first,
                source0_deltas=step,
                source1=sources[1] + first,
                source1_deltas=step,
                destination=destination + first,
                destination_deltas=step,
                **fields,
            )
        )
    return found


def mean_fields(mean: Mean) -> dict[str, int]:
    """Instruction fields of an average."""
    return {
        "multiplier": mean.scale.multiplier,
        "shift": mean.scale.shift,
        "zero_point": mean.zero_point,
        "add_first": int(mean.add_first),
    }


def reduction(
    axes: AxisTriple,
    source: Box,
    target: Box,
    row: int,
    result: int,
    fields: dict[str, Any],
    within: Box | None = None,
) -> isa.Reduce:
    """REDUCE of one tile whose source box lies densely packed from `row`.

    With `within`, `target` is a part of that box, which lies densely packed from `result`.
    """
    within = within or target
    pitches, made = source.pitches(), within.pitches()
    result += sum(
        (a - b) * pitch for a, b, pitch in zip(target.first, within.first, made, strict=False)
    )
    starts, bounds, steps = [], [], []
    for d, axis in enumerate(axes):
        start = axis.start(target.first[d])
        row += (start - source.first[d]) * pitches[d]
        starts.append(0 if axis.free else start)
        steps.append(0 if axis.free else axis.stride)
        bounds.append(1 if axis.free else axis.size)
    window = tuple(axis.kernel for axis in axes)
    counts = (*target.size, target.blocks)
    outer = [p * a.stride for p, a in zip(pitches[:3], axes, strict=True)]
    return isa.Reduce(
        counts=counts,
        window=window,
        source=row_field(row),
        source_deltas=deltas((*window, *counts), (*pitches[:3], *outer, pitches[3])),
        destination=result,
        destination_deltas=deltas(counts, made),
        starts=tuple(starts),
        steps=tuple(steps),
        bounds=tuple(bounds),
        **fields,
    )


def differences(
    op: TemporalResidual,
    source: Tensor,
    counts: tuple[int, int, int],
    row: int,
    pitches: tuple[int, int, int, int],
    result: int,
    result_pitches: tuple[int, int, int, int],
    table: int,
) -> isa.Elementwise:
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
    return isa.Elementwise(
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
) -> isa.Reduce:
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

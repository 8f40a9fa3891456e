"""Which lanes meet: what each operator demands of its operands' lane maps.

| operator | operands | result |
|---|---|---|
| convolution in mode GEMM | any: weights are gathered by lane | any: columns are, too |
| depthwise convolution, table, pool, mean, temporal residual | any | the operand's |
| two tensors; concat and slice along T, H, W | equal maps; one channel spread | the operands' |
| concat of channels | any | their blocks one after another |
| slice of channels | any | the blocks that hold the channels |
| view | any | the operand's |
| rearrangement | channels that part in no row of lanes | see `compiler/codegen/rearrange.py` |
| chain | dense | dense |
| relayout | any | its own |

`broken` looks at lanes, not at how a map came about. It is asked after the pass that makes layouts
(`compiler/codegen/assign.py`) and again before an operator is emitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np

from compiler.codegen.rearrange import moves_of
from compiler.ir import (
    AnyOperation,
    Chain,
    Concat,
    Convolution,
    Elementwise,
    Pool,
    Rearrange,
    Reduce,
    Relayout,
    Slice,
    TemporalResidual,
    UnaryTable,
    View,
)
from hw.arch.layout import LaneMap, TensorLayout


def broken(op: AnyOperation, sources: Sequence[TensorLayout], result: TensorLayout) -> str | None:
    """How the layouts of an operator's tensors break its contract, or None.

    Parameters
    ----------
    op: the operator.
    sources, result: layouts of its operands and its result.
    """
    match op:
        case Convolution():
            return _lanes_differ(sources[0], result) if op.depthwise else None
        case UnaryTable() | Pool() | Reduce() | TemporalResidual():
            return _lanes_differ(sources[0], result)
        case Elementwise():
            found = [_operand_differs(source, result) for source in sources]
        case Concat():
            return _concat(op, sources, result)
        case Slice():
            return _slice(op, sources[0], result)
        case View():
            same = sources[0].lane_map == result.lane_map
            return None if same else "a view has its operand's lanes"
        case Rearrange():
            moves = moves_of(op.source, op.target)
            expected = None if moves is None else moves.result(sources[0].lane_map)
            return None if expected == result.lane_map else "channels of a row would part"
        case Relayout():
            return None if result.lane_map == op.lane_map else "it makes other lanes"
        case Chain():
            found = [_not_dense(layout) for layout in (sources[0], result)]
        case _:
            assert_never(op)
    return next((reason for reason in found if reason is not None), None)


def _lanes_differ(source: TensorLayout, result: TensorLayout) -> str | None:
    """Where a lane of the result has a channel, the operand's has the same."""
    mine, its = source.lane_map.table(), result.lane_map.table()
    if mine.shape != its.shape or ((its >= 0) & (mine != its)).any():
        return f"channels {source.lane_map} meet channels {result.lane_map}"
    return None


def _operand_differs(source: TensorLayout, result: TensorLayout) -> str | None:
    if source.channels == result.channels:
        return _lanes_differ(source, result)
    used = (result.lane_map.table() >= 0).any(axis=0)
    if source.blocks != 1 or source.channels != 1 or (source.lane_channels()[used] != 0).any():
        return f"channel {source.lane_map} does not stand in every lane"
    return None


def _concat(op: Concat, sources: Sequence[TensorLayout], result: TensorLayout) -> str | None:
    if op.axis > 0:
        found = [_lanes_differ(source, result) for source in sources]
        return next((reason for reason in found if reason is not None), None)
    joined = LaneMap.joined([source.lane_map for source in sources])
    if (joined.table().shape, joined.channels) != (
        result.lane_map.table().shape,
        result.channels,
    ) or not np.array_equal(joined.table(), result.lane_map.table()):
        return f"channels {joined} are taken for {result.lane_map}"
    return None


def _slice(op: Slice, source: TensorLayout, result: TensorLayout) -> str | None:
    if op.axis > 0:
        return _lanes_differ(source, result)
    table = source.lane_map.table()
    _, blocks = source.lane_map.taken(range(op.start, op.stop, op.step))
    its = result.lane_map.table()
    wanted = np.where(its >= 0, op.start + its * op.step, -1)
    if len(blocks) != len(its) or ((its >= 0) & (table[list(blocks)] != wanted)).any():
        return f"channels {result.lane_map} do not lie in the operand's lanes"
    return None


def _not_dense(layout: TensorLayout) -> str | None:
    if layout.lane_map.is_dense:
        return None
    return f"channels {layout.lane_map} do not lie one after another"

"""Which lanes meet: what each operator demands of its operands' lane maps.

| operator | operands | result |
|---|---|---|
| convolution in mode GEMM | any: weights are gathered by lane | any: columns are, too |
| depthwise convolution, pair of them, table, pool, mean, residual | any | the operand's |
| two tensors; concat and slice along T, H, W | equal maps; one channel spread | the operands' |
| concat of channels | any | their blocks one after another |
| slice of channels | any | the blocks that hold the channels |
| view | any | the operand's |
| rearrangement | channels that part in no row of lanes | see `compiler/lower/rearrange.py` |
| chain | dense | dense |
| relayout | any | its own |

Contracts (`Lowering.contract`) look at lanes, not at how a map came about. They are asked after the
pass that makes layouts (`compiler/layout/assign.py`) and again before an operator is emitted.
"""

from __future__ import annotations

from collections.abc import Iterable

from hw.arch.layout import TensorLayout


def first_of(reasons: Iterable[str | None]) -> str | None:
    """The first that there is."""
    return next((reason for reason in reasons if reason is not None), None)


def lanes_differ(source: TensorLayout, result: TensorLayout) -> str | None:
    """Where a lane of the result has a channel, the operand's has the same."""
    mine, its = source.lane_map.table(), result.lane_map.table()
    if mine.shape != its.shape or ((its >= 0) & (mine != its)).any():
        return f"channels {source.lane_map} meet channels {result.lane_map}"
    return None


def operand_differs(source: TensorLayout, result: TensorLayout, spread: bool = False) -> str | None:
    """As `lanes_differ`, or one channel stands in every lane that the result uses.

    With `spread` it may stand in any lane: the instruction takes it from there.
    """
    if source.channels == result.channels:
        return lanes_differ(source, result)
    if spread and source.blocks == 1 and source.channels == 1:
        return None
    used = (result.lane_map.table() >= 0).any(axis=0)
    if source.blocks != 1 or source.channels != 1 or (source.lane_channels()[used] != 0).any():
        return f"channel {source.lane_map} does not stand in every lane"
    return None


def not_dense(layout: TensorLayout) -> str | None:
    """Channels do not lie one after another."""
    if layout.lane_map.is_dense:
        return None
    return f"channels {layout.lane_map} do not lie one after another"

"""Lowering of functions of one tensor: a lookup in 256 entries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from compiler.emit.moves import lookup
from compiler.emit.streams import (
    Stream,
    Tile,
    flat,
    line_boxes,
    slot_rows,
    split_box,
)
from compiler.emit.transfers import Strided
from compiler.ir import UnaryTable
from compiler.lower.base import Lanes, Streamed
from compiler.lower.contracts import lanes_differ
from compiler.ops import Table
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import TensorLayout
from hw.arch.program import Tensor


def table_layer(source: Tensor, target: Tensor, config: AcceleratorConfig, field: int) -> Stream:
    """A function of one tensor, its table in a field's slot."""
    rows = source.layout.rows
    view, to = Strided.of(source), Strided.of(target)
    limit = slot_rows(2, config, rows)
    if view.dense:
        view, to, boxes = flat(view), flat(to), line_boxes(rows, limit)
    else:
        boxes = split_box(to.whole, limit)
    return Stream([view], to, [Tile((box,), box) for box in boxes], lookup(field))


class TableLowering(Streamed[UnaryTable]):
    """Rows through VECTOR, each byte replaced."""

    operation = UnaryTable
    limits = ()

    def kind(self, op: UnaryTable, config: AcceleratorConfig) -> str:
        """Its function."""
        return op.function

    def contract(
        self, op: UnaryTable, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """The result has the operand's lanes."""
        return lanes_differ(sources[0], result)

    def lanes(self, op: UnaryTable) -> Lanes:
        """Lane by lane."""
        return Lanes.KEPT

    def tables(self, op: UnaryTable) -> Sequence[Table | None]:
        """The function."""
        return (op.table,)

    def streams(
        self,
        op: UnaryTable,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """A line of rows."""
        return [table_layer(sources[0], target, config, tables[0])]

    def report(self, op: UnaryTable, streams: Sequence[Stream]) -> dict[str, Any]:
        """Rows of a tile."""
        return {"rows": streams[0].tiles[0].target.rows}


LOWERING = TableLowering()

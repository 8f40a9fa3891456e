"""The operators of the graph, one file each: attributes, shape inference, integer reference.

How an operator becomes instructions is not here but in compiler/lower, whose registry matches on
`AnyOperation` and so cannot forget one.
"""

from __future__ import annotations

from typing import TypeAlias

from compiler.ops.base import Operation, Table, apply_table, stored_codes
from compiler.ops.chain import Chain
from compiler.ops.convolution import Convolution
from compiler.ops.elementwise import Elementwise, ElementwiseKind, broadcast
from compiler.ops.move import Concat, Rearrange, Relayout, Slice, View
from compiler.ops.pool import Pool, PoolKind, Window
from compiler.ops.reduce import Reduce
from compiler.ops.residual import TemporalResidual
from compiler.ops.unary import UnaryTable, make_table

AnyOperation: TypeAlias = (
    Convolution
    | Elementwise
    | UnaryTable
    | Reduce
    | Pool
    | TemporalResidual
    | Concat
    | Slice
    | View
    | Rearrange
    | Relayout
    | Chain
)

__all__ = [
    "AnyOperation",
    "Chain",
    "Concat",
    "Convolution",
    "Elementwise",
    "ElementwiseKind",
    "Operation",
    "Pool",
    "PoolKind",
    "Rearrange",
    "Reduce",
    "Relayout",
    "Slice",
    "Table",
    "TemporalResidual",
    "UnaryTable",
    "View",
    "Window",
    "apply_table",
    "broadcast",
    "make_table",
    "stored_codes",
]

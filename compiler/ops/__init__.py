"""The operators of the graph, one file each: attributes, shape inference, integer reference.

How an operator becomes instructions is not here but in compiler/lower, whose registry matches on
`AnyOperation` and so cannot forget one.
"""

from __future__ import annotations

from typing import TypeAlias

from compiler.ops.attention_pool import AttentionPool
from compiler.ops.axis_mean import AxisMean
from compiler.ops.base import Operation, Table, apply_table, stored_codes
from compiler.ops.batched_matmul import BatchedMatMul
from compiler.ops.chain import Chain
from compiler.ops.convolution import Convolution
from compiler.ops.group import MOST_OF_A_BYTE, ArgMax, Normalize, Softmax
from compiler.ops.join import Join, Predicate
from compiler.ops.loop import Enter, Leave, LoopEnd, Pick, Put, Stack
from compiler.ops.move import Concat, Rearrange, Relayout, Slice, View
from compiler.ops.pairwise import Pairwise, PairwiseKind, broadcast
from compiler.ops.pool import BorderedMean, Pool, PoolKind, Window
from compiler.ops.region import Region
from compiler.ops.residual import TemporalResidual
from compiler.ops.unary import UnaryTable, make_table

AnyOperation: TypeAlias = (
    Convolution
    | Pairwise
    | UnaryTable
    | AxisMean
    | Pool
    | TemporalResidual
    | Concat
    | Slice
    | View
    | Rearrange
    | Relayout
    | BatchedMatMul
    | Softmax
    | Normalize
    | ArgMax
    | Join
    | Enter
    | Leave
    | Pick
    | Stack
    | Put
    | Chain
    | AttentionPool
    | Region
)

__all__ = [
    "MOST_OF_A_BYTE",
    "AnyOperation",
    "ArgMax",
    "AttentionPool",
    "AxisMean",
    "BatchedMatMul",
    "BorderedMean",
    "Chain",
    "Concat",
    "Convolution",
    "Enter",
    "Join",
    "Leave",
    "LoopEnd",
    "Normalize",
    "Operation",
    "Pairwise",
    "PairwiseKind",
    "Pick",
    "Pool",
    "PoolKind",
    "Predicate",
    "Put",
    "Rearrange",
    "Region",
    "Relayout",
    "Slice",
    "Softmax",
    "Stack",
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

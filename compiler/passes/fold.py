"""Fold what the input does not reach, and drop what no output needs."""

from __future__ import annotations

import dataclasses

import numpy as np

from compiler.ir import AnyOperation, Enter, Graph, Pairwise, Pick, UnaryTable, Value
from compiler.ops import stored_codes
from compiler.passes.base import Accept, Outcome, Pass, live


def _fold(graph: Graph, accept: Accept) -> Outcome:
    """Evaluate operators on constants; a scalar constant operand makes a table.

    What a Loop begins with, and what it takes in each trip, is no constant inside.
    """
    values = dict(graph.values)
    ops: list[AnyOperation] = []
    applied = []
    for op in graph.ops:
        constants = [values[name].constant for name in op.inputs]
        known = [c for c in constants if c is not None]
        kinds = [values[name].type for name in op.inputs]
        if len(known) == len(constants) and not isinstance(op, Enter | Pick):
            result = op.evaluate(known, kinds, values[op.output].type)
            values[op.output] = dataclasses.replace(values[op.output], constant=result)
            applied.append(f"{op.name}: evaluated")
        elif isinstance(op, Pairwise) and any(c.size == 1 for c in known):
            ops.append(_scalar_table(op, values))
            applied.append(f"{op.name}: {op.kind.value} with a constant becomes a table")
        else:
            ops.append(op)
    return Outcome(graph.replaced(ops, values), tuple(applied))


def _scalar_table(op: Pairwise, values: dict[str, Value]) -> UnaryTable:
    """The operator with a one-element constant, evaluated on every code of the other operand."""
    position = 0 if values[op.inputs[0]].constant is not None else 1
    name = op.inputs[1 - position]
    kind = values[name].type
    codes = stored_codes(kind).astype(kind.dtype).reshape(1, 1, 1, 256)
    constant = values[op.inputs[position]].constant
    assert constant is not None
    operands = [constant, codes] if position == 0 else [codes, constant]
    kinds = [values[n].type for n in op.inputs]
    table = op.evaluate(operands, kinds, values[op.output].type)
    return UnaryTable(
        name=op.name,
        inputs=(name,),
        output=op.output,
        table=np.ascontiguousarray(table).tobytes(),
        function=f"{op.kind.value} constant",
    )


def _dead_code(graph: Graph, accept: Accept) -> Outcome:
    """Drop operators whose results nothing needs."""
    kept = live(graph)
    results = {op.output for op in kept}
    dropped = [op.name for op in graph.ops if op.output not in results]
    return Outcome(graph.replaced(kept), tuple(f"{name}: dropped" for name in dropped))


FOLD = Pass("fold", _fold, ensures=frozenset({"folded"}))
DEAD_CODE = Pass("dead-code", _dead_code, ensures=frozenset({"live"}))

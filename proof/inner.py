"""Tensors that only the compiler knows: evaluated by its interpreter on the oracle's tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy.typing as npt

from compiler.ir import COMPILER, AnyOperation, Codes, Graph, Join, View

Array = npt.NDArray[Any]


def needed(
    graph: Graph, stored: Collection[str], skipped: Collection[str] = ()
) -> tuple[list[AnyOperation], set[str]]:
    """Operators behind the compiler's own tensors, back to tensors of the file; and those.

    Parameters
    ----------
    skipped: values of arms that did not run; a join is what the other arm makes.
    """
    wanted, known = set(stored), set[str]()
    operators: list[AnyOperation] = []
    for op in reversed(graph.ops):
        if op.output not in wanted:
            continue
        if isinstance(op, Join):
            ran = next(name for name in op.inputs[:2] if name not in skipped)
            op = View(name=op.name, inputs=(ran,), output=op.output, shape=graph.type(ran).shape)
        operators.append(op)
        for name in op.inputs:
            if graph.values[name].constant is not None:
                continue
            (wanted if graph.values[name].origin == COMPILER else known).add(name)
    inputs = {port.value for port in graph.inputs}
    return operators[::-1], known | (wanted & inputs)


def constants(graph: Graph, names: Collection[str]) -> dict[str, Array]:
    """Those of the compiler's own tensors that are constant, in the shape of their type."""
    known = {n: v for n, v in graph.constants().items() if n in names}
    return {name: graph.type(name).in_file_order(codes) for name, codes in known.items()}


def evaluate(
    graph: Graph, operators: Collection[AnyOperation], known: Mapping[str, Array]
) -> dict[str, Array]:
    """Codes of the operators' results, in the shape that their type gives them.

    Parameters
    ----------
    known: codes of the tensors of the file that they read, as the file has them.
    """
    tensors: dict[str, Codes] = dict(graph.constants())
    tensors |= {name: graph.type(name).in_lanes(value) for name, value in known.items()}
    results = {}
    for op in operators:
        operands = [tensors[name] for name in op.inputs]
        made = op.evaluate(operands, graph.input_types(op), graph.type(op.output))
        tensors[op.output] = made
        results[op.output] = graph.type(op.output).in_file_order(made)
    return results

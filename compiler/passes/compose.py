"""Functions of one tensor's codes become one table: x·sigmoid(x), hard-swish, tables of tables.

A value that operators on single elements make of one tensor alone has at most 256 results, one a
code. They are found by running those operators, in the integers that define them, on every code;
so a composed table keeps every bit, whatever it stands for.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from compiler.ir import AnyOperation, Codes, Graph, Pairwise, UnaryTable
from compiler.ops import stored_codes
from compiler.passes.base import Accept, Outcome, Pass, live


@dataclasses.dataclass(frozen=True, slots=True)
class _Image:
    """What a value is of the codes of another one.

    Attributes
    ----------
    source: the other value; itself where it is no function of one.
    codes: [1, 1, 1, 256] results by the source's stored byte.
    text: the function, for people.
    """

    source: str
    codes: Codes
    text: str


def _identity(graph: Graph, name: str) -> _Image:
    kind = graph.type(name)
    return _Image(name, stored_codes(kind).astype(kind.dtype).reshape(1, 1, 1, 256), "x")


def _compose(graph: Graph, accept: Accept) -> Outcome:
    images: dict[str, _Image] = {}
    ops: list[AnyOperation] = []
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    uses = graph.uses()
    for op in graph.ops:
        image = _image(graph, op, images)
        if image is None:
            ops.append(op)
            continue
        images[op.output] = image
        direct = op.inputs == (image.source,)
        alone = all(uses[name] == 1 for name in op.inputs)
        if direct or (isinstance(op, UnaryTable) and not alone):
            ops.append(op)
            continue
        table = UnaryTable(
            name=op.name,
            inputs=(image.source,),
            output=op.output,
            table=np.ascontiguousarray(image.codes).tobytes(),
            function=image.text,
        )
        why = accept(table, graph.input_types(table), graph.type(op.output))
        ops.append(op if why else table)
        if why:
            refused.append((op.name, why))
        else:
            applied.append(f"{op.name}: {image.text} of {image.source} becomes a table")
    result = graph.replaced(ops)
    return Outcome(result.replaced(live(result)), tuple(applied), tuple(refused))


def _image(graph: Graph, op: AnyOperation, images: dict[str, _Image]) -> _Image | None:
    """The result as a function of one tensor's codes, if it is one."""
    if not isinstance(op, (UnaryTable, Pairwise)):
        return None
    kinds = graph.input_types(op)
    result = graph.type(op.output)
    if any(kind.shape != result.shape for kind in kinds):
        return None  # repeated along an axis: another element of the same tensor
    operands = [images.get(name) or _identity(graph, name) for name in op.inputs]
    sources = {image.source for image in operands}
    if len(sources) > 1 or any(graph.values[name].constant is not None for name in op.inputs):
        return None
    codes = op.evaluate([image.codes for image in operands], kinds, result)
    words = ", ".join(image.text for image in operands)
    name = op.function if isinstance(op, UnaryTable) else op.kind.value
    return _Image(sources.pop(), codes, f"{name}({words})")


COMPOSE = Pass("compose", _compose, requires=frozenset({"folded"}))

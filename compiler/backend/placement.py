"""Where the tensors that a program stores lie in DRAM."""

from __future__ import annotations

import dataclasses

from compiler.emit.allocate import PAGE, align
from compiler.flow.settle import Settled
from compiler.lower import lowering
from hw.arch.program import Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Tensors in DRAM.

    Attributes
    ----------
    tensors: by name; a view has its source's address.
    window: (first, past-the-end) address of what the program stores.
    end: first free address.
    scratch: by a result: where its operator stores something beside it.
    """

    tensors: dict[str, Tensor]
    window: tuple[int, int]
    end: int
    scratch: dict[str, int]


def place(settled: Settled, base: int) -> Placement:
    """Give every tensor a region of its own: inputs and constants first, then states, results.

    A state's input lies in the window since its next value is stored there.
    """
    graph, layouts = settled.assigned.graph, settled.assigned.layouts
    same = {op.output: op.inputs[0] for op in graph.ops if lowering(op).keeps_bytes(op)}
    same |= settled.places
    states = {state.target for state in graph.states}
    results = {op.output for op in graph.ops}
    tensors: dict[str, Tensor] = {}
    address = base

    def put(name: str) -> None:
        nonlocal address
        kind, layout = graph.type(name), layouts[name]
        if name in same:
            place = tensors[same[name]].address
        else:
            place = address
            address = align(address + layout.nbytes, PAGE)
        tensors[name] = Tensor(
            name=name,
            address=place,
            layout=layout,
            signed=kind.signed,
            scale=kind.scale,
            zero_point=kind.zero_point,
            shape=kind.onnx_shape,
            axes=kind.axes,
            origin=graph.values[name].origin,
        )

    for name in graph.values:
        if name not in results and name not in states:
            put(name)
    start = address
    for name in graph.values:
        if name in states:
            put(name)
    scratch: dict[str, int] = {}
    for op in graph.ops:
        put(op.output)
        size = lowering(op).scratch(op, layouts[op.inputs[0]])
        if size:
            scratch[op.output] = address
            address = align(address + size, PAGE)
    return Placement(tensors, (start, max(address, start + 1)), address, scratch)

"""Which tensors the program stores, how each lies in DRAM, and where."""

from __future__ import annotations

import dataclasses

from compiler.codegen.allocate import PAGE, align
from compiler.ir import (
    AnyOperation,
    Chain,
    Concat,
    Convolution,
    Graph,
    TemporalResidual,
    View,
)
from hw.arch.layout import TensorLayout
from hw.arch.program import Tensor


def _segments(op: AnyOperation, channels: int, layouts: dict[str, TensorLayout]) -> tuple[int, ...]:
    """Lane-aligned channel segments of a result."""
    first = layouts[op.inputs[0]]
    match op:
        case Concat() if op.axis == 0:
            return tuple(s for name in op.inputs for s in layouts[name].segments)
        case Convolution() if not op.depthwise:
            return (channels,)
        case Chain():
            return (channels,)
        case _:
            # Operators that work lane by lane keep the lanes where they are.
            whole = [layouts[n].segments for n in op.inputs if layouts[n].channels == channels]
            if first.channels == channels or whole:
                return whole[0]
            return (channels,)


def layouts_of(graph: Graph, lanes: int) -> dict[str, TensorLayout]:
    """Layout of every value."""
    result: dict[str, TensorLayout] = {}

    def add(name: str, segments: tuple[int, ...]) -> None:
        _, frames, height, width = graph.type(name).shape
        result[name] = TensorLayout(segments, frames, height, width, lanes)

    for name, value in graph.values.items():
        if value.constant is not None:
            add(name, (value.type.shape[0],))
    for port in graph.inputs:
        add(port.value, (graph.type(port.value).shape[0],))
    for op in graph.ops:
        add(op.output, _segments(op, graph.type(op.output).shape[0], result))
    return result


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Tensors in DRAM.

    Attributes
    ----------
    tensors: by name; a view has its source's address.
    window: (first, past-the-end) address of what the program stores.
    end: first free address.
    scratch: by a chain's result: where the chain stores the mean frame of its temporal residual.
    """

    tensors: dict[str, Tensor]
    window: tuple[int, int]
    end: int
    scratch: dict[str, int]


def place(graph: Graph, lanes: int, base: int) -> Placement:
    """Give every tensor a region of its own: inputs and constants first, then results."""
    layouts = layouts_of(graph, lanes)
    aliases = {op.output: op.inputs[0] for op in graph.ops if isinstance(op, View)}
    results = {op.output for op in graph.ops}
    tensors: dict[str, Tensor] = {}
    address = base

    def put(name: str) -> None:
        nonlocal address
        kind, layout = graph.type(name), layouts[name]
        if name in aliases:
            place = tensors[aliases[name]].address
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
        if name not in results:
            put(name)
    start = address
    scratch: dict[str, int] = {}
    for op in graph.ops:
        put(op.output)
        if isinstance(op, Chain) and isinstance(op.stages[0], TemporalResidual):
            source = layouts[op.inputs[0]]
            scratch[op.output] = address
            address = align(address + source.nbytes // source.frames, PAGE)
    return Placement(tensors, (start, max(address, start + 1)), address, scratch)

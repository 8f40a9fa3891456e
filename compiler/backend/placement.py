"""Where the tensors that a program stores lie in DRAM."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from compiler.emit.allocate import PAGE, Piece, align, best_fit
from compiler.flow.liveness import homes, in_emission, intervals
from compiler.flow.settle import Settled
from compiler.flow.views import contiguous
from compiler.lower import lowering
from compiler.policy import REUSE
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


def place(settled: Settled, base: int, mode: str = REUSE) -> Placement:
    """Give tensors their memory: inputs and constants first, then what the program stores.

    A state's input lies in the window since its next value is stored there. What comes from
    outside a run or leaves it has memory of its own. The others are placed by best fit over the
    operators between which they live, and so is what an operator stores beside its result; with
    ALL they have memory of their own, too.
    """
    graph, layouts = settled.assigned.graph, settled.assigned.layouts
    lies = homes(settled)
    pieces = _pieces(settled)
    shared = {piece.key for piece in pieces} if mode == REUSE else set()
    results = {op.output for op in graph.ops}
    states = {state.target for state in graph.states}
    # Rows of a Loop lie in the tensor that stacks them: the room is that tensor's.
    sizes = {lies[name]: layouts[name].nbytes for name in graph.values if lies[name] == (name,)}
    sizes |= {piece.key: piece.size for piece in pieces}
    addresses: dict[tuple[str, ...], int] = {}
    address = base

    def put(key: tuple[str, ...]) -> None:
        nonlocal address
        if key not in shared and key not in addresses:
            addresses[key] = address
            address = align(address + sizes[key], PAGE)

    outside = [name for name in graph.values if name not in results and name not in states]
    inside = [name for name in graph.values if name in states]
    inside += [op.output for op in graph.ops]
    own = [name for name in inside if name not in settled.views]
    for name in outside:
        put(lies[name])
    start = address
    for name in own:
        put(lies[name])
    for piece in pieces:
        put(piece.key)
    found, size = best_fit((piece for piece in pieces if piece.key in shared), PAGE)
    addresses |= {key: address + offset for key, offset in found.items()}
    address += size
    tensors = {name: _tensor(settled, name, addresses[lies[name]]) for name in (*outside, *own)}
    for name in settled.views:
        tensors[name] = _view(settled, name, tensors)
    return Placement(
        tensors,
        (start, max(address, start + 1)),
        address,
        {key[0]: place for key, place in addresses.items() if key[1:] == _BESIDE},
    )


_BESIDE = ("beside",)


def _pieces(settled: Settled) -> list[Piece]:
    """What is made and used up within a run: tensors, and what operators store beside them."""
    graph, layouts = settled.assigned.graph, settled.assigned.layouts
    pieces = [
        Piece((name,), layouts[name].nbytes, interval.first, interval.last)
        for name, interval in intervals(settled).items()
    ]
    for number, op in enumerate(in_emission(graph)):
        size = lowering(op).scratch(op, layouts[op.inputs[0]])
        if size:
            pieces.append(Piece((op.output, *_BESIDE), size, number, number))
    return pieces


def _tensor(settled: Settled, name: str, address: int) -> Tensor:
    graph = settled.assigned.graph
    kind = graph.type(name)
    return Tensor(
        name=name,
        address=address,
        layout=settled.assigned.layouts[name],
        signed=kind.signed,
        scale=kind.scale,
        zero_point=kind.zero_point,
        shape=kind.onnx_shape,
        axes=kind.axes,
        origin=graph.values[name].origin,
    )


def _view(settled: Settled, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """A tensor that is blocks of others."""
    where = settled.views[name]
    places = tuple(tensors[origin].row_address(row) for origin, row in where)
    tensor = _tensor(settled, name, places[0])
    if contiguous(where, tensor.layout.positions):
        return tensor
    return dataclasses.replace(tensor, places=places)
